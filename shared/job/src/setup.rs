//! From what operators wrote to what a run works with.

use clap::ValueEnum;
use metrics::{Group, Pusher};
use runtime::{
    Clock, Random, Secret,
    config::{Problems, Secrets},
};
use sqlx::postgres::PgConnectOptions;
use time::OffsetDateTime;

use crate::{Common, Output, process::new_run_id};

/// One of the disjoint parts into which a job's work is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub index: u32,
    /// 1 for a whole run.
    pub count: u32,
}

/// Who started a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Trigger {
    /// The CronJob.
    Schedule,
    /// A person, through a Kubernetes Job.
    Manual,
    /// A person, on their own machine.
    Local,
}

impl Trigger {
    /// As in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Manual => "manual",
            Self::Local => "local",
        }
    }

    /// Told from the Job's name: a CronJob appends the scheduled time in minutes since 1970, eight digits or more.
    pub fn of_job(name: Option<&str>) -> Self {
        let Some(name) = name else { return Self::Local };
        match name.rsplit_once('-') {
            Some((_, minutes)) if minutes.len() >= 8 && minutes.bytes().all(|b| b.is_ascii_digit()) => Self::Schedule,
            _ => Self::Manual,
        }
    }
}

/// A run, as its batches see it.
#[derive(Debug, Clone)]
pub struct RunInfo {
    /// The tries of one Kubernetes Job share it.
    pub run_id: String,
    /// Which part of the work is its own.
    pub shard: Shard,
    /// Who started it.
    pub trigger: Trigger,
    /// Whether it must write nothing.
    pub dry_run: bool,
    /// By the database's clock.
    pub started_at: OffsetDateTime,
    /// How results on standard output look.
    pub output: Output,
    /// It goes on until it is told to stop.
    pub is_worker: bool,
}

/// What a job's settings are checked with.
#[derive(Debug)]
pub struct Setup {
    /// The runner's options.
    pub common: Common,
    /// The runner's secrets and the job's.
    pub secrets: Secrets,
    /// Which part of the work is its own.
    pub shard: Shard,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
}

/// The runner's own settings, as far as they could be read.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) is_worker: bool,
    /// Else it connects to Redis only if and when it has to do with it.
    pub(crate) needs_redis: bool,
    /// It began before and failed, and that was told.
    pub(crate) is_retry: bool,
    pub(crate) run_id: String,
    pub(crate) trigger: Trigger,
    pub(crate) group: Group,
    pub(crate) database: Option<PgConnectOptions>,
    pub(crate) redis: Option<Secret>,
    pub(crate) pusher: Option<Pusher>,
}

impl Setup {
    /// Reads the shard; a contradiction is a problem.
    pub(crate) fn new(common: Common, secrets: Secrets, problems: &mut Problems) -> Self {
        let shard = shard(&common, problems);
        Self { common, secrets, shard, clock: Clock::System, random: Random::system() }
    }

    /// Checks the runner's own settings.
    pub(crate) fn settings(&self, job: &'static str, problems: &mut Problems) -> Settings {
        let common = &self.common;
        let given = |value: &Option<String>| value.clone().filter(|value| !value.trim().is_empty());
        let job_name = given(&common.job_name);
        let run_id = given(&common.run_id).unwrap_or_else(|| new_run_id(&self.clock, &self.random));
        if run_id.len() > 128 || !run_id.chars().all(|c| c.is_ascii_graphic()) {
            problems.add("RUN_ID", "give up to 128 letters, digits and signs, without blanks");
        }
        let group = Group {
            job,
            namespace: given(&common.pod_namespace),
            shard: (self.shard.count > 1).then_some(self.shard.index),
        };
        let database = self.secrets.get("DATABASE_URL").and_then(|url| {
            runtime::db::options(url, job).map_err(|problem| problems.add("DATABASE_URL", problem)).ok()
        });
        let redis = self
            .secrets
            .get("REDIS_URL")
            .filter(|url| runtime::redis::check_url(url).map_err(|problem| problems.add("REDIS_URL", problem)).is_ok());
        let pusher = self.secrets.get("PUSHGATEWAY_URL").and_then(|url| {
            if let Err(problem) = Pusher::check_url(url) {
                problems.add("PUSHGATEWAY_URL", problem);
                return None;
            }
            Pusher::new(url, group.clone()).map_err(|problem| problems.add("POD_NAMESPACE", problem)).ok()
        });
        if let Some(path) = common.metrics_textfile.as_ref().filter(|path| path.extension().is_none_or(|e| e != "prom"))
        {
            let problem =
                format_args!("{}: the name must end in .prom, or node-exporter does not read it", path.display());
            problems.add("METRICS_TEXTFILE", problem);
        } else if let Some(path) = &common.metrics_textfile
            && !path.parent().is_some_and(|folder| folder.as_os_str().is_empty() || folder.is_dir())
        {
            problems.add("METRICS_TEXTFILE", format_args!("the folder of {} does not exist", path.display()));
        }
        Settings {
            is_worker: false,
            needs_redis: true,
            is_retry: false,
            run_id,
            trigger: common.run_trigger.unwrap_or_else(|| Trigger::of_job(job_name.as_deref())),
            group,
            database,
            redis: redis.cloned(),
            pusher,
        }
    }
}

fn shard(common: &Common, problems: &mut Problems) -> Shard {
    let count = common.shard_count;
    let index = match (count, common.job_completion_index) {
        (1, None | Some(0)) => 0,
        (1, Some(index)) => {
            problems.add(
                "JOB_COMPLETION_INDEX",
                format_args!("{index}, but SHARD_COUNT is 1; set SHARD_COUNT to the Job's completions"),
            );
            0
        }
        (_, None) => {
            problems.add("JOB_COMPLETION_INDEX", format_args!("missing, but SHARD_COUNT is {count}"));
            0
        }
        (_, Some(index)) if index >= count => {
            problems.add("JOB_COMPLETION_INDEX", format_args!("{index} is not below SHARD_COUNT, which is {count}"));
            0
        }
        (_, Some(index)) => index,
    };
    Shard { index, count }
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    fn common(arguments: &[&str]) -> Common {
        let command = Common::augment_args(clap::Command::new("probe").no_binary_name(true));
        Common::from_arg_matches(&command.get_matches_from(arguments)).unwrap()
    }

    fn shard_of(arguments: &[&str]) -> (Shard, Problems) {
        let mut problems = Problems::default();
        (shard(&common(arguments), &mut problems), problems)
    }

    #[test]
    fn the_trigger_is_told_from_the_name_of_the_job() {
        assert_eq!(Trigger::of_job(None), Trigger::Local);
        assert_eq!(Trigger::of_job(Some("character-verifier-29371440")), Trigger::Schedule);
        assert_eq!(Trigger::of_job(Some("character-verifier-now")), Trigger::Manual);
        assert_eq!(Trigger::of_job(Some("character-verifier-1234567")), Trigger::Manual);
        assert_eq!(Trigger::of_job(Some("29371440")), Trigger::Manual);
    }

    #[test]
    fn a_shard_needs_an_index_below_the_count() {
        assert_eq!(shard_of(&["--shard-count=3", "--job-completion-index=2"]).0, Shard { index: 2, count: 3 });
        assert_eq!(shard_of(&[]).0, Shard { index: 0, count: 1 });
        for wrong in
            [&["--shard-count=3"][..], &["--shard-count=3", "--job-completion-index=3"], &["--job-completion-index=1"]]
        {
            let (_, problems) = shard_of(wrong);
            assert!(problems.lines()[0].starts_with("JOB_COMPLETION_INDEX: "), "{wrong:?}: {problems}");
        }
    }

    #[test]
    fn a_run_id_is_a_time_ordered_uuid() {
        let mut problems = Problems::default();
        let setup = Setup::new(common(&[]), Secrets::default(), &mut problems);
        let id: uuid::Uuid = setup.settings("probe", &mut problems).run_id.parse().unwrap();
        assert_eq!(id.get_version_num(), 7);
    }

    #[test]
    fn every_wrong_setting_is_told_at_once() {
        let env = |name: &str| match name {
            "DATABASE_URL" => Some("mysql://hunter2@host".to_owned()),
            "REDIS_URL" => Some("hunter2".to_owned()),
            "PUSHGATEWAY_URL" => Some("ftp://hunter2@host".to_owned()),
            _ => None,
        };
        let mut problems = Problems::default();
        let secrets = Secrets::read(crate::options::SECRETS, env, &mut problems);
        let common = common(&["--run-id=a b", "--metrics-textfile=/nowhere/at/all.prom"]);
        Setup::new(common, secrets, &mut problems).settings("probe", &mut problems);
        let told: Vec<&str> = problems.lines().iter().filter_map(|line| line.split(':').next()).collect();
        assert_eq!(told, ["RUN_ID", "DATABASE_URL", "REDIS_URL", "PUSHGATEWAY_URL", "METRICS_TEXTFILE"]);
        assert!(!problems.to_string().contains("hunter2"), "{problems}");
    }
}
