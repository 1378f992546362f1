//! `check`: whether the schema fits, at once or after waiting for whoever applies it.

use std::time::Duration;

use identity::codes::ExitCode;
use job::{JobError, Output, schema, screen};
use runtime::{Database, Stop};
use sqlx::postgres::PgConnectOptions;
use store::schema::{Fit, versions};
use tokio::time::Instant;
use tracing::info;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks until the schema fits, at most `wait` long.
pub(crate) async fn check(
    database: &PgConnectOptions,
    wait: Duration,
    output: Output,
    stop: &Stop,
) -> Result<ExitCode, JobError> {
    let ends_at = Instant::now() + wait;
    let db = Database::new(database.clone(), 1);
    let mut told = None;
    let result = loop {
        let Some(result) = stop.or(Box::pin(look(&db))).await else { return Ok(ExitCode::Stopped) };
        let Err(error) = &result else { break result };
        if !error.exit_code().retry_helps() || Instant::now() + PAUSE > ends_at {
            break result;
        }
        if told.as_ref() != Some(error) {
            info!("waiting: {error}");
            told = Some(error.clone());
        }
        if !stop.sleep(PAUSE).await {
            return Ok(ExitCode::Stopped);
        }
    };
    db.close().await;
    show(&result, output);
    result.map(|_| ExitCode::Done)
}

async fn look(db: &Database) -> Result<i64, JobError> {
    let versions = db.transaction("read the schema's version", async |tx| versions(tx).await).await?;
    schema::judge(Fit::of(&versions))
}

fn show(result: &Result<i64, JobError>, output: Output) {
    let line = match (output, result) {
        (Output::Text, Ok(version)) => format!("up to date, version {version}"),
        // The log says it.
        (Output::Text, Err(_)) => return,
        (Output::Json, Ok(version)) => {
            serde_json::json!({ "fits": true, "version": version, "error": null }).to_string()
        }
        (Output::Json, Err(error)) => {
            serde_json::json!({ "fits": false, "version": null, "error": error.to_string() }).to_string()
        }
    };
    screen::line(&line);
}
