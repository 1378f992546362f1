//! Random histories: enqueues that commit late or never, kills, faults of the sink, frozen workers, partitions that are lost.
//! Whatever happened, a consumer of the stream has seen every event once and in order.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    time::Duration,
};

use futures::{FutureExt, future::join_all};
use harness::{Fault, FaultProxy, Running, wait_until};
use nix::sys::signal::Signal;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::{Postgres, Transaction};

use crate::support::{Ground, LIMIT, assert_sound};

#[tokio::test]
async fn whatever_happens_the_stream_has_every_event_once_and_in_order() {
    let long = std::env::var_os("ROLLCALL_LONG").is_some();
    let given = std::env::var("ROLLCALL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = match (given, long) {
        (Some(seed), _) => vec![seed],
        (None, true) => (0..200).map(|_| rand::random()).collect(),
        (None, false) => (0..10).map(|_| rand::random::<u64>()).collect(),
    };
    // Most of a history is waiting, so several go on at a time.
    for seeds in seeds.chunks(5) {
        join_all(seeds.iter().map(|&seed| live(seed))).await;
    }
}

async fn live(seed: u64) {
    let life = async { History::new(seed).await.live().await };
    if let Err(panic) = AssertUnwindSafe(life).catch_unwind().await {
        println!("ROLLCALL_SEED={seed} replays it");
        resume_unwind(panic);
    }
}

struct History {
    ground: Ground,
    proxy: FaultProxy,
    random: StdRng,
    open: Vec<(Transaction<'static, Postgres>, Vec<i64>, Vec<usize>)>,
    drains: Vec<Running>,
    wanted: Vec<i64>,
    next: i64,
}

impl History {
    async fn new(seed: u64) -> Self {
        let ground = Ground::new().await;
        let proxy = FaultProxy::start(ground.db.redis_url());
        Self {
            ground,
            proxy,
            random: StdRng::seed_from_u64(seed),
            open: Vec::new(),
            drains: Vec::new(),
            wanted: Vec::new(),
            next: 1,
        }
    }

    async fn live(mut self) {
        let steps = self.random.random_range(15..40);
        for _ in 0..steps {
            match self.random.random_range(0..16) {
                0..=3 => self.enqueue().await,
                4..=5 => self.end_one().await,
                6..=7 => self.start(),
                8 => self.kill(),
                9 => self.freeze(),
                10 => self.break_sink(),
                11 => self.lose_a_partition().await,
                12 => self.proxy.cut(),
                13 => self.crowd().await,
                14 => self.go_on().await,
                _ => {
                    let pause = self.random.random_range(1..60);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
            }
        }
        while !self.open.is_empty() {
            self.end_one().await;
        }
        self.proxy.set(Fault::Pass);
        for drain in &self.drains {
            drain.signal(Signal::SIGCONT);
            drain.signal(Signal::SIGTERM);
        }
        let ground = &self.ground;
        wait_until(LIMIT, "everything is out", async || {
            let finished = ground.run().await;
            finished.code == Some(0) && ground.backlog().await == 0
        })
        .await;
        assert_sound(&ground.stream().await);
        ground.assert_whole(self.wanted).await;
    }

    async fn enqueue(&mut self) {
        // At most three are open at a time, each with accounts of its own: they would wait for each other.
        let taken: Vec<usize> = self.open.iter().flat_map(|(_, _, accounts)| accounts.clone()).collect();
        if self.open.len() >= 3 {
            return;
        }
        let mut free: Vec<usize> = (0..12).filter(|account| !taken.contains(account)).collect();
        while free.len() > 3 {
            free.swap_remove(self.random.random_range(0..free.len()));
        }
        let count = self.random.random_range(1..40);
        let accounts: Vec<usize> = (0..count).map(|_| free[self.random.random_range(0..free.len())]).collect();
        let names: Vec<String> = accounts.iter().map(|account| format!("a{account}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut tx = self.ground.db.pool().begin().await.unwrap();
        self.ground.enqueue_in(&mut tx, &names, self.next).await;
        let marks = self.marks(count);
        if self.random.random_bool(0.5) {
            tx.commit().await.unwrap();
            self.wanted.extend(marks);
        } else {
            self.open.push((tx, marks, accounts));
        }
    }

    fn marks(&mut self, count: usize) -> Vec<i64> {
        let marks: Vec<i64> = (self.next..).take(count).collect();
        self.next += i64::try_from(count).unwrap();
        marks
    }

    /// So many events that a pass has several pages.
    async fn crowd(&mut self) {
        let names: Vec<String> = (0..400).map(|place| format!("c{}", place % 80)).collect();
        self.ground.enqueue(&names.iter().map(String::as_str).collect::<Vec<_>>(), self.next).await;
        let marks = self.marks(names.len());
        self.wanted.extend(marks);
    }

    /// An open transaction enqueues once more.
    async fn go_on(&mut self) {
        let Some((mut tx, mut marks, accounts)) = self.open.pop() else { return };
        let name = format!("a{}", accounts[self.random.random_range(0..accounts.len())]);
        self.ground.enqueue_in(&mut tx, &[&name], self.next).await;
        marks.extend(self.marks(1));
        self.open.push((tx, marks, accounts));
    }

    async fn end_one(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let place = self.random.random_range(0..self.open.len());
        let (tx, marks, accounts) = self.open.swap_remove(place);
        if self.random.random_bool(0.8) {
            tx.commit().await.unwrap();
            self.wanted.extend(marks);
            if self.random.random_bool(0.5) {
                // What comes right behind must not overtake it.
                self.ground.enqueue(&[&format!("a{}", accounts[0])], self.next).await;
                let marks = self.marks(1);
                self.wanted.extend(marks);
            }
        } else {
            tx.rollback().await.unwrap();
        }
    }

    fn start(&mut self) {
        if self.drains.len() >= 3 {
            return;
        }
        let size = self.random.random_range(1..30_u32).to_string();
        let words: &[&str] = if self.random.random_bool(0.6) { &["worker"] } else { &[] };
        let drain = self.ground.asked(words).env("REDIS_URL", self.proxy.url()).env("BATCH_SIZE", size);
        self.drains.push(drain.start());
    }

    fn kill(&mut self) {
        if !self.drains.is_empty() {
            let place = self.random.random_range(0..self.drains.len());
            // Dropping kills.
            self.drains.swap_remove(place);
        }
    }

    fn freeze(&mut self) {
        if let Some(drain) = self.drains.first() {
            let signal = if self.random.random_bool(0.5) { Signal::SIGSTOP } else { Signal::SIGCONT };
            drain.signal(signal);
        }
    }

    /// For the database a partition is nobody's any more, whoever thinks it theirs; unless a frozen owner has its row locked.
    async fn lose_a_partition(&mut self) {
        let partition = self.random.random_range(0..16);
        self.ground
            .execute(&format!(
                "UPDATE outbox_partitions SET expires_at = 'epoch' WHERE partition IN (
                     SELECT partition FROM outbox_partitions WHERE partition = {partition} FOR UPDATE SKIP LOCKED)"
            ))
            .await;
    }

    fn break_sink(&mut self) {
        let fault = match self.random.random_range(0..4) {
            0 => Fault::Refuse,
            1 => Fault::CutAfter(self.random.random_range(0..400)),
            2 => Fault::Delay(Duration::from_millis(20)),
            _ => Fault::Pass,
        };
        self.proxy.set(fault);
        if self.random.random_bool(0.5) {
            self.proxy.cut();
        }
    }
}
