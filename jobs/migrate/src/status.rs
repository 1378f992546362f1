//! `status`: all versions, applied and pending.

use identity::codes::ExitCode;
use job::{JobError, Output, screen};
use runtime::Database;
use sqlx::postgres::PgConnectOptions;
use store::schema::{Version, versions};
use time::{UtcOffset, format_description::well_known::Rfc3339, macros::format_description};

/// Prints a line per version, ascending.
pub(crate) async fn status(database: &PgConnectOptions, output: Output) -> Result<ExitCode, JobError> {
    let db = Database::new(database.clone(), 1);
    let versions = db.transaction("read the schema's version", async |tx| versions(tx).await).await?;
    db.close().await;
    match output {
        Output::Json => screen::line(&versions.iter().map(json).collect::<serde_json::Value>().to_string()),
        Output::Text => screen::line(&text(&versions)),
    }
    Ok(ExitCode::Done)
}

fn json(version: &Version) -> serde_json::Value {
    let applied_at = version.applied_at.and_then(|at| at.to_offset(UtcOffset::UTC).format(&Rfc3339).ok());
    serde_json::json!({
        "version": version.version, "description": version.description, "state": version.state.name(),
        "applied_at": applied_at,
    })
}

fn text(versions: &[Version]) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    let at = |version: &Version| {
        version.applied_at.and_then(|at| at.to_offset(UtcOffset::UTC).format(&format).ok()).unwrap_or_default()
    };
    let rows: Vec<Vec<String>> = versions
        .iter()
        .map(|version| {
            vec![version.version.to_string(), version.state.name().to_owned(), at(version), version.description.clone()]
        })
        .collect();
    screen::table(&["VERSION", "STATE", "APPLIED (UTC)", "DESCRIPTION"], &rows)
}
