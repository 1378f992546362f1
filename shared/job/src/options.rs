//! Options that every job has.

use std::{path::PathBuf, time::Duration};

use clap::{
    Args, ValueEnum,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
    value_parser,
};
use runtime::{config::SecretSpec, telemetry::LogFormat};

use crate::Trigger;

/// Secrets that every job reads. Each may carry a user name and a password.
pub(crate) const SECRETS: &[SecretSpec] = &[
    SecretSpec { name: "DATABASE_URL", help: "PostgreSQL, postgres://user:password@host/database", required: true },
    SecretSpec { name: "REDIS_URL", help: "Redis, redis://:password@host:6379/0 or rediss://…", required: true },
    SecretSpec {
        name: "PUSHGATEWAY_URL",
        help: "Pushgateway, http://user:password@host:9091; without it nothing is pushed",
        required: false,
    },
];

/// How results on standard output look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For tools.
    Json,
}

/// Flags and environment variables of the runner.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every job")]
pub struct Common {
    /// Read and decide everything, print what would change, and write nothing but the run's own ledger row
    #[arg(
        long, env, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true",
        ignore_case = true, value_parser = yes_or_no(),
    )]
    pub dry_run: bool,
    /// Longest time of a run, such as 45m or 1h30m; a tenth of it (5 s to 60 s) is kept for finishing
    #[arg(long, env, default_value = "45m", value_parser = max_runtime, value_name = "DURATION")]
    pub max_runtime: Duration,
    /// Most connections to PostgreSQL
    #[arg(long, env, default_value_t = 4, value_parser = value_parser!(u32).range(2..=64), value_name = "N")]
    pub database_max_connections: u32,
    /// Time between two pushes of metrics during a run
    #[arg(long, env, default_value = "30s", value_parser = push_interval, value_name = "DURATION")]
    pub metrics_push_interval: Duration,
    /// File for the textfile collector of node-exporter; its folder must exist
    #[arg(long, env, value_name = "PATH")]
    pub metrics_textfile: Option<PathBuf>,
    /// How log lines look; auto: text on a terminal, else JSON
    #[arg(long, env, default_value = "auto", value_enum)]
    pub log_format: LogFormat,
    /// Into how many shards the work is split
    #[arg(long, env, default_value_t = 1, value_parser = value_parser!(u32).range(1..=1024), value_name = "N")]
    pub shard_count: u32,
    /// Which shard this is, from 0; an Indexed Job sets it
    #[arg(long, env, value_name = "N")]
    pub job_completion_index: Option<u32>,
    /// Name of the Kubernetes Job, which tells a scheduled run from a manual one
    #[arg(long, env, value_name = "NAME")]
    pub job_name: Option<String>,
    /// Id of the run; the tries of one Kubernetes Job share it [default: a new UUID]
    #[arg(long, env, value_name = "ID")]
    pub run_id: Option<String>,
    /// Kubernetes namespace, a label of the pushed metrics
    #[arg(long, env, value_name = "NAME")]
    pub pod_namespace: Option<String>,
    /// Who started the run [default: told from the Job's name]
    #[arg(long, env, value_enum)]
    pub run_trigger: Option<Trigger>,
    /// How results on standard output look
    #[arg(long, env, default_value = "text", value_enum)]
    pub output: Output,
}

// Exactly these: a dry run that was meant and not understood would write.
fn yes_or_no() -> impl TypedValueParser<Value = bool> {
    let values = [PossibleValue::new("true").aliases(["1", "yes"]), PossibleValue::new("false").aliases(["0", "no"])];
    PossibleValuesParser::new(values)
        .map(|given| ["true", "1", "yes"].iter().any(|meant| given.eq_ignore_ascii_case(meant)))
}

/// A duration as people write it: 90s, 45m, 1h30m.
///
/// # Errors
/// What is wrong, with an example.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim()).map_err(|_| "give a duration such as 90s, 45m or 1h30m".to_owned())
}

fn between(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let value = duration(text)?;
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let shown = |duration| humantime::format_duration(duration);
    Err(format!("give a duration from {} to {}", shown(least), shown(most)))
}

// Below 6 s nothing would be left beside the reserve.
fn max_runtime(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_secs(6), Duration::from_hours(24))
}

fn push_interval(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_secs(1), Duration::from_hours(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_is_asked_for_in_so_many_words() {
        let dry = |argument: &str| {
            let command = Common::augment_args(clap::Command::new("probe").no_binary_name(true));
            command.try_get_matches_from([argument]).map(|matches| matches.get_flag("dry_run")).ok()
        };
        for yes in ["--dry-run", "--dry-run=true", "--dry-run=1", "--dry-run=Yes"] {
            assert_eq!(dry(yes), Some(true), "{yes}");
        }
        for no in ["--dry-run=false", "--dry-run=0", "--dry-run=no"] {
            assert_eq!(dry(no), Some(false), "{no}");
        }
        for neither in ["--dry-run=", "--dry-run=on", "--dry-run=y", "--dry-run=perhaps"] {
            assert_eq!(dry(neither), None, "{neither}");
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        let seconds = |text| max_runtime(text).map(|duration| duration.as_secs());
        assert_eq!((seconds("45m"), seconds("90s"), seconds("1h30m")), (Ok(2700), Ok(90), Ok(5400)));
        for wrong in ["", "45", "5s", "25h", "-1m", "soon"] {
            assert!(max_runtime(wrong).unwrap_err().contains("give a duration"), "{wrong}");
        }
    }
}
