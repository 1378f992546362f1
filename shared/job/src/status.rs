//! The `status` subcommand: the last runs, from the ledger. Needs nothing but PostgreSQL.

use std::time::Duration;

use runtime::Database;
use sqlx::postgres::PgConnectOptions;
use store::ledger::{Run, latest};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339, macros::format_description};

use crate::{JobError, Output, schema, screen};

/// Prints the last `limit` runs, newest first.
pub(crate) async fn status(
    job: &'static str,
    database: &PgConnectOptions,
    limit: u16,
    output: Output,
) -> Result<(), JobError> {
    let db = Database::new(database.clone(), 1);
    schema::check(&db).await?;
    let runs = db.transaction("read the ledger", async |tx| latest(tx, job, limit.into()).await).await?;
    db.close().await;
    match output {
        Output::Json => screen::line(&runs.iter().map(json).collect::<serde_json::Value>().to_string()),
        Output::Text if runs.is_empty() => screen::line(&format!("{job} has not run yet")),
        Output::Text => screen::line(&text(&runs)),
    }
    Ok(())
}

fn json(run: &Run) -> serde_json::Value {
    serde_json::json!({
        "job": run.job, "run_id": run.run_id, "outcome": run.outcome, "dry_run": run.dry_run,
        "scanned": run.scanned, "changed": run.changed, "skipped": run.skipped, "failed": run.failed,
        "remaining": run.remaining, "duration_ms": run.duration_ms,
        "started_at": run.started_at.to_offset(UtcOffset::UTC).format(&Rfc3339).ok(),
        "trigger": run.trigger, "shard": shard(run), "version": run.version, "details": run.details.0,
        "note": run.note, "error": run.error,
    })
}

fn text(runs: &[Run]) -> String {
    let headings = [
        "STARTED (UTC)",
        "TOOK",
        "TRIGGER",
        "SHARD",
        "OUTCOME",
        "SCANNED",
        "CHANGED",
        "SKIPPED",
        "FAILED",
        "REMAINING",
        "NOTE",
    ];
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let dry = if run.dry_run { " (dry)" } else { "" };
            vec![
                started(run.started_at),
                took(run.duration_ms),
                run.trigger.clone(),
                shard(run),
                format!("{}{dry}", run.outcome.as_deref().unwrap_or("running")),
                run.scanned.to_string(),
                run.changed.to_string(),
                run.skipped.to_string(),
                run.failed.to_string(),
                run.remaining.to_string(),
                [run.error.as_deref(), run.note.as_deref()].into_iter().flatten().collect::<Vec<_>>().join("; "),
            ]
        })
        .collect();
    screen::table(&headings, &rows)
}

fn shard(run: &Run) -> String {
    format!("{}/{}", run.shard_index, run.shard_count)
}

fn started(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    at.to_offset(UtcOffset::UTC).format(&format).unwrap_or_else(|_| at.to_string())
}

// Tenths of a second below a minute; above, nobody cares for them.
fn took(milliseconds: i64) -> String {
    let milliseconds = u64::try_from(milliseconds).unwrap_or(0);
    match milliseconds {
        0..60_000 => format!("{}.{}s", milliseconds / 1000, milliseconds % 1000 / 100),
        _ => humantime::format_duration(Duration::from_secs(milliseconds / 1000)).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use sqlx::types::Json;
    use time::macros::datetime;

    use super::*;

    fn run() -> Run {
        Run {
            run_id: "r-1".to_owned(),
            job: "probe".to_owned(),
            shard_count: 1,
            shard_index: 0,
            trigger: "manual".to_owned(),
            dry_run: true,
            version: "0.1.0".to_owned(),
            started_at: datetime!(2026-11-22 11:05:00 +1),
            duration_ms: 1250,
            outcome: None,
            scanned: 12,
            changed: 0,
            skipped: 0,
            failed: 0,
            remaining: 0,
            details: Json(std::collections::BTreeMap::new()),
            note: None,
            error: None,
        }
    }

    #[test]
    fn a_running_run_has_no_outcome_in_json_and_says_running_in_the_table() {
        assert_eq!(json(&run())["outcome"], serde_json::Value::Null);
        assert_eq!(json(&run())["started_at"], "2026-11-22T10:05:00Z");
        let table = text(&[run()]);
        assert!(
            table.lines().nth(1).unwrap().starts_with("2026-11-22 10:05:00  1.2s  manual   0/1    running (dry)  12"),
            "{table}"
        );
    }

    #[test]
    fn durations_are_short_for_people() {
        assert_eq!((took(0), took(59_999), took(3_661_400)), ("0.0s".into(), "59.9s".into(), "1h 1m 1s".into()));
    }
}
