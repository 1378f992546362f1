//! The one runner. A job is what [`Job`] asks for; [`main`] does the rest: configuration → logs → signals →
//! connections → schema version → lease → ledger → `run` → outcome → metrics → exit code.
//!
//! Everything happens on one task of one thread: what overlaps is joined or selected, never spawned, so that ending a
//! run is dropping a future. What it refuses to do: retry a run (the next start is the retry), or decide anything about
//! a job's items.

use std::fmt::Debug;

use identity::codes::ExitCode;
use runtime::{
    Clock,
    config::{Problems, SecretSpec},
};

pub mod batches;
mod budget;
mod check;
mod context;
mod delta;
mod error;
mod lease_guard;
mod life;
mod options;
mod outcome;
pub mod process;
mod progress;
mod push;
mod run;
pub mod schema;
pub mod screen;
mod setup;
mod status;

pub use batches::{Batch, End, Flow, Sizer};
pub use budget::Budget;
pub use check::CheckLine;
pub use context::Context;
pub use delta::Delta;
pub use error::JobError;
pub use life::{command, main, secrets_help};
pub use options::{Common, Output, duration};
pub use outcome::{Ending, Outcome, OutcomeName, Report};
pub use run::SHUTDOWN;
pub use setup::{RunInfo, Setup, Shard, Trigger};

/// A scheduled job.
#[expect(async_fn_in_trait, reason = "one task, so that no future has to be Send")]
pub trait Job {
    /// Name of the binary, the lease, the ledger's rows and the metrics' group.
    const NAME: &'static str;

    /// Runs share the work among themselves instead of excluding each other. Of those that run at the same time the eldest
    /// tells the metrics.
    const SHARED: bool = false;

    /// Secrets beyond the runner's `DATABASE_URL`, `REDIS_URL` and `PUSHGATEWAY_URL`.
    const SECRETS: &'static [SecretSpec];

    /// Flags and environment variables of the job. Its doc comment is what `--help` says about the job; no argument may
    /// be required, since [`Job::validate`] tells what is missing together with everything else. Logged at the start:
    /// what nobody may read belongs to [`Job::SECRETS`].
    type Options: clap::Args + Debug;

    /// Subcommands beside `run`, `check` and `status`; [`NoCommand`] for none.
    type Command: clap::Subcommand;

    /// Validated settings.
    type Prepared;

    /// Checks all settings, telling every problem. `None` only after telling at least one.
    fn validate(options: &Self::Options, setup: &Setup, problems: &mut Problems) -> Option<Self::Prepared>;

    /// Reaches what the job needs besides PostgreSQL, Redis and the Pushgateway. Any of those may be away.
    async fn check(prepared: &Self::Prepared, ctx: &Context) -> Vec<CheckLine>;

    /// The work. What it counts goes through [`Context::checkpoint`], or [`Context::count`] in a dry run.
    ///
    /// # Errors
    /// What keeps it from going on; what was checkpointed stays.
    async fn run(prepared: &Self::Prepared, ctx: &Context) -> Result<Report, JobError>;

    /// Whether a subcommand is the work itself without an end: [`Job::run`] with [`RunInfo::is_worker`], until it is told to
    /// stop.
    fn is_worker(_command: &Self::Command) -> bool {
        false
    }

    /// A subcommand that needs neither servers nor secrets; none for those that do.
    fn alone(_options: &Self::Options, _clock: &Clock, _command: &Self::Command) -> Option<Result<ExitCode, JobError>> {
        None
    }

    /// Whether a run, or a subcommand, has to do with Redis in any case.
    fn needs_redis(_prepared: &Self::Prepared, _command: Option<&Self::Command>) -> bool {
        true
    }

    /// A further subcommand. It holds no lease, so it cannot checkpoint.
    ///
    /// # Errors
    /// What keeps it from going on.
    async fn command(prepared: &Self::Prepared, ctx: &Context, command: Self::Command) -> Result<ExitCode, JobError>;
}

/// No further subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum NoCommand {}
