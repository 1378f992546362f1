//! The default action.

use std::time::{Duration, Instant};

use job::{Ending, JobError, Outcome, Report, schema};
use runtime::{Database, Stop, db::Limits};
use sqlx::postgres::PgConnectOptions;
use store::schema::{Applied, Fit};
use tracing::info;

/// Applies what is pending within `limit`; a stop rolls back.
pub(crate) async fn apply(database: &PgConnectOptions, limit: Duration, blank: Outcome, stop: &Stop) -> Outcome {
    let began = Instant::now();
    // The lock is the other process's work, which may take as long as ours.
    let limits = Limits { statement: limit, lock: limit, transaction: limit };
    let db = Database::new(database.clone(), 1);
    let work = db.transaction_within("apply the schema", limits, async |tx| store::schema::apply(tx).await);
    let (report, applied) = match stop.or(Box::pin(work)).await {
        None => (Ok(stopped()), None),
        Some(Err(error)) => (Err(JobError::from(error)), None),
        Some(Ok(applied)) => judge(applied),
    };
    db.close().await;
    let mut outcome = blank.reported(report);
    if let Some(Applied { versions, .. }) = applied {
        for version in &versions {
            info!(version = version.version, description = version.description, "applied a migration");
        }
        outcome.tally.scanned = versions.len() as u64;
        outcome.tally.changed = versions.len() as u64;
    }
    outcome.duration = began.elapsed();
    outcome
}

fn stopped() -> Report {
    Report { note: Some("stopped; nothing was applied".to_owned()), ..Report::new(Ending::Stopped) }
}

fn judge(applied: Applied) -> (Result<Report, JobError>, Option<Applied>) {
    let report = match applied.found {
        Fit::Behind { .. } => Ok(Report::new(Ending::Done)),
        fit => schema::judge(fit).map(|version| Report {
            note: Some(format!("the schema is up to date, version {version}")),
            ..Report::new(Ending::NothingToDo)
        }),
    };
    (report, Some(applied))
}
