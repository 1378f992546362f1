//! The `check` subcommand: everything that a run needs, one line each.

use identity::codes::ExitCode;
use redis::{Client, aio::ConnectionManager, aio::ConnectionManagerConfig};
use runtime::{Database, Secret, Stop, config::Problems};
use time::OffsetDateTime;

use crate::{
    Job, JobError, Output, Setup,
    lease_guard::Part,
    run::{Connections, context},
    schema, screen,
    setup::Settings,
};

/// What became of looking at one dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckLine {
    /// Short name.
    pub name: String,
    /// What was found, or why a run could not use it.
    pub result: Result<String, JobError>,
}

impl CheckLine {
    /// It can be used; `detail` says what was found.
    pub fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), result: Ok(detail.into()) }
    }

    /// It cannot be used; the error decides the exit code.
    pub fn failed(name: impl Into<String>, error: JobError) -> Self {
        Self { name: name.into(), result: Err(error) }
    }
}

/// Looks at every dependency, also after one has failed, and prints a line for each. The exit code is that of the first
/// one that failed.
pub(crate) async fn check<J: Job>(
    setup: &Setup,
    settings: &Settings,
    prepared: Option<&J::Prepared>,
    problems: &Problems,
    stop: &Stop,
) -> ExitCode {
    let mut lines = vec![configuration(problems)];
    let db = settings.database.clone().map(|options| Database::new(options, setup.common.database_max_connections));
    let now = if let Some(db) = &db {
        database(db, setup, &mut lines).await
    } else {
        lines.push(unknown("database", "DATABASE_URL"));
        setup.clock.now()
    };
    let is_needed = prepared.is_none_or(|prepared| J::needs_redis(prepared, None));
    let redis = if let Some(url) = &settings.redis {
        redis_line(url, is_needed, &mut lines).await
    } else {
        lines.push(unknown("redis", "REDIS_URL"));
        None
    };
    lines.push(pushgateway(settings, problems).await);
    if let (Some(db), Some(redis), Some(prepared)) = (db, redis, prepared) {
        let connections = Connections { db, redis, now };
        let ctx = context(setup, settings, connections, stop, Part::Bystander, now);
        lines.extend(J::check(prepared, &ctx).await);
        ctx.db.close().await;
    }
    print(&lines, setup.common.output);
    lines.iter().find_map(|line| line.result.as_ref().err()).map_or(ExitCode::Done, JobError::exit_code)
}

fn configuration(problems: &Problems) -> CheckLine {
    if problems.is_empty() {
        CheckLine::ok("configuration", "complete")
    } else {
        CheckLine::failed("configuration", JobError::config(problems))
    }
}

fn unknown(name: &str, variable: &str) -> CheckLine {
    CheckLine::failed(name, JobError::config(format_args!("not tried without a usable {variable}")))
}

async fn database(db: &Database, setup: &Setup, lines: &mut Vec<CheckLine>) -> OffsetDateTime {
    let now = db.transaction("reach the database", async |tx| store::ledger::now(tx).await).await;
    let now = match now {
        Ok(now) => now,
        Err(error) => {
            lines.push(CheckLine::failed("database", error.into()));
            lines.push(CheckLine::failed("schema", JobError::retry("not read without the database")));
            return setup.clock.now();
        }
    };
    lines.push(CheckLine::ok("database", "reached"));
    lines.push(match schema::check(db).await {
        Ok((version, _)) => CheckLine::ok("schema", format!("up to date, version {version}")),
        Err(error) => CheckLine::failed("schema", error),
    });
    now
}

/// The connection, for the job's own checks; where Redis is away, one that tries again when it is used.
async fn redis_line(url: &Secret, is_needed: bool, lines: &mut Vec<CheckLine>) -> Option<ConnectionManager> {
    match runtime::redis::connect(url).await {
        Ok(redis) => {
            lines.push(CheckLine::ok("redis", "reached"));
            Some(redis)
        }
        Err(error) => {
            lines.push(if is_needed {
                CheckLine::failed("redis", error.into())
            } else {
                CheckLine::ok("redis", format!("not needed by these settings; {error}"))
            });
            let config = ConnectionManagerConfig::new().set_number_of_retries(0);
            Client::open(url.expose()).and_then(|client| ConnectionManager::new_lazy_with_config(client, config)).ok()
        }
    }
}

async fn pushgateway(settings: &Settings, problems: &Problems) -> CheckLine {
    let Some(pusher) = &settings.pusher else {
        let wrong = problems.lines().iter().any(|line| line.starts_with("PUSHGATEWAY_URL"));
        return if wrong {
            unknown("pushgateway", "PUSHGATEWAY_URL")
        } else {
            CheckLine::ok("pushgateway", "not configured")
        };
    };
    match pusher.check().await {
        Ok(()) => CheckLine::ok("pushgateway", "ready"),
        Err(error) => CheckLine::failed("pushgateway", JobError::retry(error)),
    }
}

fn print(lines: &[CheckLine], output: Output) {
    let detail = |line: &CheckLine| match &line.result {
        Ok(detail) => detail.clone(),
        Err(error) => error.to_string(),
    };
    match output {
        Output::Json => {
            let entry = |line: &CheckLine| serde_json::json!({ "name": line.name, "ok": line.result.is_ok(), "detail": detail(line) });
            screen::line(&lines.iter().map(entry).collect::<serde_json::Value>().to_string());
        }
        Output::Text => {
            let width = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
            for line in lines {
                let state = if line.result.is_ok() { "ok" } else { "FAILED" };
                screen::line(&format!("{state:<6}  {:<width$}  {}", line.name, detail(line)));
            }
        }
    }
}
