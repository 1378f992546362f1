//! The partitions: who holds them, and changing their number.

use std::time::Duration;

use clap::{Subcommand, value_parser};
use identity::codes::ExitCode;
use job::{Context, JobError, Output, screen};
use store::outbox::partitions;
use tokio::time::Instant;

use crate::{
    drain::Drain,
    options::{Settings, Target},
};

/// For so long nobody may take a partition after the last word of the command that changes their number.
const CLOSED_SECONDS: u32 = 15;
/// How long live runs may take to give theirs up: as long as a dead one's last.
const PATIENCE: Duration = Duration::from_secs(45);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// What to do with partitions.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Show who holds which partition, and the number of its last acknowledged event
    List,
    /// Split the outbox into N partitions; waits until nobody holds one, and keeps runs from taking any meanwhile
    Set {
        /// How many, 1 to 64
        #[arg(value_parser = value_parser!(i16).range(1..=i64::from(store::outbox::BUCKETS)))]
        n: i16,
    },
}

/// Does it.
pub(crate) async fn command(settings: &Settings, ctx: &Context, command: &Command) -> Result<ExitCode, JobError> {
    match command {
        Command::List => list(ctx).await,
        Command::Set { n } if ctx.run.dry_run => {
            told(ctx, *n, "would be");
            Ok(ExitCode::Done)
        }
        Command::Set { n } => set(settings, ctx, *n).await,
    }
}

async fn list(ctx: &Context) -> Result<ExitCode, JobError> {
    let mut all = ctx.db.transaction("read the partitions", async |tx| partitions::all(tx).await).await?;
    all.retain(|partition| partition.in_use);
    if ctx.run.output == Output::Json {
        let json = all.iter().map(|p| {
            serde_json::json!({
                "partition": p.partition, "run_id": p.run_id, "stream": p.stream, "acknowledged": p.acknowledged,
            })
        });
        screen::line(&json.collect::<serde_json::Value>().to_string());
        return Ok(ExitCode::Done);
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|p| {
            let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            vec![p.partition.to_string(), p.acknowledged.to_string(), dash(&p.stream), dash(&p.run_id)]
        })
        .collect();
    screen::line(&screen::table(&["PARTITION", "ACKNOWLEDGED", "STREAM", "HELD BY"], &rows));
    Ok(ExitCode::Done)
}

fn told(ctx: &Context, partitions: i16, is: &str) {
    match ctx.run.output {
        Output::Json => screen::line(&serde_json::json!({"partitions": partitions}).to_string()),
        Output::Text => screen::line(&format!("the outbox {is} split into {partitions} partitions")),
    }
}

async fn set(settings: &Settings, ctx: &Context, n: i16) -> Result<ExitCode, JobError> {
    // Redis alone remembers what is published and not deleted.
    let drain = match &settings.target {
        Target::Redis(url) => Some(Drain::new(ctx, settings, crate::redis(settings, ctx, url.clone()))),
        _ => None,
    };
    let until = Instant::now() + PATIENCE;
    loop {
        let closing = async |tx: &mut sqlx::PgConnection| partitions::close(tx, CLOSED_SECONDS).await;
        let held = ctx.db.transaction("close the partitions", closing).await?;
        let is_clear = held == 0
            && match &drain {
                Some(drain) => Box::pin(drain.clear_up()).await?,
                None => true,
            };
        let what = "change the number of partitions";
        if is_clear && ctx.db.transaction(what, async |tx| partitions::set(tx, n).await).await? {
            told(ctx, n, "is");
            return Ok(ExitCode::Done);
        }
        if Instant::now() >= until {
            ctx.db.transaction("let partitions be taken again", async |tx| partitions::open(tx).await).await?;
            return Err(JobError::retry(format_args!(
                "{held} partitions are still held after {} s; nothing was changed",
                PATIENCE.as_secs()
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}
