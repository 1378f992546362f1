//! The command line of `migrate`.

use std::{ffi::OsString, time::Duration};

use clap::{Args, FromArgMatches, Parser, Subcommand};
use job::Output;
use runtime::{
    config::{self, Problems, SecretSpec},
    telemetry::LogFormat,
};

/// The one secret.
pub(crate) const SECRETS: &[SecretSpec] =
    &[SecretSpec { name: "DATABASE_URL", help: "PostgreSQL, postgres://user:password@host/database", required: true }];

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) action: Action,
    pub(crate) common: Common,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    Apply,
    Check { wait: Duration },
    Status,
}

/// Applies pending migrations to the schema, all or none. Safe to start several times at once and again.
#[derive(Debug, Parser)]
#[command(name = "migrate")]
struct Line {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Sub>,
}

/// Options of all subcommands.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Longest time to wait for another process and to apply everything, such as 30m
    #[arg(long, env, default_value = "30m", value_parser = job::duration, value_name = "DURATION", global = true)]
    pub(crate) max_runtime: Duration,
    /// How log lines look; auto: text on a terminal, else JSON
    #[arg(long, env, default_value = "auto", value_enum, global = true)]
    pub(crate) log_format: LogFormat,
    /// Id of the run in the log [default: a new UUID]
    #[arg(long, env, value_name = "ID", global = true)]
    pub(crate) run_id: Option<String>,
    /// How results on standard output look
    #[arg(long, env, default_value = "text", value_enum, global = true)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Apply what is pending (default)
    Run,
    /// Tell whether the schema fits this version: exit code 0 up to date, 75 behind, 78 ahead
    Check {
        /// Wait this long for a schema that is behind or a database that is away, such as 5m
        #[arg(long, env = "MIGRATE_WAIT", default_value = "0s", value_parser = job::duration, value_name = "DURATION")]
        wait: Duration,
    },
    /// Show all versions, applied and pending
    Status,
}

/// The command line, for `--help` and for tests that hold documents to it.
pub fn command() -> clap::Command {
    <Line as clap::CommandFactory>::command()
        .version(job::process::version())
        .max_term_width(100)
        .after_help(job::secrets_help(SECRETS))
}

pub(crate) fn read(
    arguments: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> Result<Asked, clap::Error> {
    let matches = config::parse(&command(), arguments, env, problems)?;
    let line = Line::from_arg_matches(&matches)?;
    let action = match line.command {
        None | Some(Sub::Run) => Action::Apply,
        Some(Sub::Check { wait }) => Action::Check { wait },
        Some(Sub::Status) => Action::Status,
    };
    // Options may stand after the subcommand; the innermost sees both places.
    let leaf = matches.subcommand().map_or(&matches, |(_, found)| found);
    Ok(Asked { action, common: Common::from_arg_matches(leaf)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(arguments: &[&str]) -> (Asked, Problems) {
        let mut problems = Problems::default();
        let asked = read(arguments.iter().map(OsString::from), |_| None, &mut problems);
        (asked.unwrap(), problems)
    }

    #[test]
    fn applying_is_the_default() {
        assert!(matches!(asked(&["migrate"]).0.action, Action::Apply));
        assert!(matches!(asked(&["migrate", "run"]).0.action, Action::Apply));
    }

    #[test]
    fn options_may_stand_before_and_after_the_subcommand() {
        for line in [["migrate", "--output=json", "status"], ["migrate", "status", "--output=json"]] {
            assert_eq!(asked(&line).0.common.output, Output::Json, "{line:?}");
        }
        let wait = asked(&["migrate", "check", "--wait", "5m"]).0.action;
        assert!(matches!(wait, Action::Check { wait } if wait == Duration::from_mins(5)));
    }
}
