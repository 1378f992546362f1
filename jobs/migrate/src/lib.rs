//! Applies the schema.
//!
//! Everything that is pending goes into one transaction, so that a stop or a crash leaves the schema as it was. Several
//! processes at once are fine: one does the work, the others wait for it and find nothing to do. There is no lease and
//! no ledger here, since their tables are what is being made.

use identity::codes::ExitCode;
use job::{JobError, Outcome, process};
use runtime::{
    Clock, Random, Stop,
    config::{Problems, Secrets},
};
use sqlx::postgres::PgConnectOptions;

mod apply;
mod options;
mod status;
mod wait;

pub use options::command;
use options::{Action, Asked, SECRETS};

/// Name of the binary.
pub const NAME: &str = "migrate";

/// The whole process, from the command line to the exit code.
pub fn main() -> std::process::ExitCode {
    process::run(async |stop| live(&stop).await)
}

async fn live(stop: &Stop) -> ExitCode {
    let mut problems = Problems::default();
    let asked = match options::read(std::env::args_os(), process::env, &mut problems) {
        Ok(asked) => asked,
        Err(error) => return process::usage(&error),
    };
    let common = asked.common.clone();
    process::start_logs(common.log_format, process::env("RUST_LOG").as_deref(), &mut problems);
    let secrets = Secrets::read(SECRETS, process::env, &mut problems);
    let database = secrets
        .get("DATABASE_URL")
        .and_then(|url| runtime::db::options(url, NAME).map_err(|problem| problems.add("DATABASE_URL", problem)).ok());
    let database = match database {
        Some(database) if problems.is_empty() => database,
        _ => return refused(&asked, &problems),
    };
    match asked.action {
        Action::Apply => apply(&asked, &database, stop).await,
        Action::Check { wait } => exit(wait::check(&database, wait, common.output, stop).await),
        Action::Status => {
            exit(stop.or(Box::pin(status::status(&database, common.output))).await.unwrap_or(Ok(ExitCode::Stopped)))
        }
    }
}

async fn apply(asked: &Asked, database: &PgConnectOptions, stop: &Stop) -> ExitCode {
    let outcome = blank(asked);
    tracing::info!(
        job = NAME,
        run_id = outcome.run_id,
        version = process::version(),
        configuration = ?asked.common,
        "started"
    );
    apply::apply(database, asked.common.max_runtime, outcome, stop).await.tell(asked.common.output)
}

fn refused(asked: &Asked, problems: &Problems) -> ExitCode {
    process::tell(problems);
    match asked.action {
        Action::Apply => {
            let error = JobError::config(format_args!("configuration: {problems}"));
            blank(asked).reported(Err(error)).tell(asked.common.output)
        }
        Action::Check { .. } | Action::Status => ExitCode::Configuration,
    }
}

fn blank(asked: &Asked) -> Outcome {
    let given = asked.common.run_id.clone().filter(|id| !id.trim().is_empty());
    let run_id = given.unwrap_or_else(|| process::new_run_id(&Clock::System, &Random::system()));
    Outcome::blank(NAME, &run_id, false)
}

fn exit(result: Result<ExitCode, JobError>) -> ExitCode {
    result.unwrap_or_else(|error| {
        tracing::error!("{error}");
        error.exit_code()
    })
}
