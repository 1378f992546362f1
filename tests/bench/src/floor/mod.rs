//! The floor: the least that a sweep can take here. The same pages are read, the same calls made and the same rows
//! written in batches of the same size, by bare clients that overlap reading, calling and writing; nothing is leased,
//! counted, paced, retried, judged or told.

mod ask;
mod read;
mod revoke;
mod sql;
mod write;

use std::time::{Duration, Instant};

use futures::{Stream, StreamExt, stream};
use redis::aio::MultiplexedConnection;
use sqlx::PgConnection;
use tokio::sync::mpsc;

use crate::{
    floor::ask::{Answered, Asker},
    ground::{Run, connect},
};

/// Pages read ahead, calls in flight and answers waiting to be written: as many of each as the job has in all.
const AHEAD: usize = 4;

/// Goes through everything that is due and tells how long it took.
pub(crate) async fn run(run: &Run, esi: &str) -> Duration {
    let started = Instant::now();
    let mut database = connect(&run.database).await;
    let redis = connect_redis(&run.redis).await;
    let asker = Asker::new(esi, redis.clone());
    sweep(run, &asker, &mut database).await;
    revoke::all(run, &asker, database, redis).await;
    started.elapsed()
}

async fn sweep(run: &Run, asker: &Asker, database: &mut PgConnection) {
    let (pages, to_ask) = mpsc::channel(AHEAD);
    let (answers, mut to_write) = mpsc::channel::<Answered>(AHEAD);
    let reader = tokio::spawn(read::pages(connect(&run.database).await, pages));
    let asker = asker.clone();
    let caller = tokio::spawn(async move {
        // A task for each call, so that answers are read on every core.
        let mut asked = received(to_ask).map(|page| tokio::spawn(asker.clone().ask(page))).buffered(AHEAD);
        while let Some(answered) = asked.next().await {
            answers.send(answered.expect("ESI answers")).await.expect("answers are written");
        }
    });
    while let Some(answered) = to_write.recv().await {
        write::batch(database, &answered).await;
    }
    reader.await.expect("all pages are read");
    caller.await.expect("all pages are asked");
}

fn received<T>(mut receiver: mpsc::Receiver<T>) -> impl Stream<Item = T> + Unpin {
    stream::poll_fn(move |context| receiver.poll_recv(context))
}

async fn connect_redis(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).expect("our own address is one");
    client.get_multiplexed_async_connection().await.expect("Redis answers")
}
