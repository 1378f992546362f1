//! Publishes the transactional outbox: every event, in the order of its aggregate, however it is interrupted.
//!
//! The story of a run: take a fair share of the partitions; ask the sink what an earlier owner published and delete it;
//! then pass after pass read from the floor upwards, publish, delete; until nothing is left, `MAX_EVENTS` are out, or the
//! time is over. A worker does the same without an end and sleeps in between.
//!
//! What it refuses to do: to trust that numbers become visible in their order, to publish under a lease it may have lost,
//! to let an event overtake an earlier one of its aggregate, and to blame an event for an outage.

mod beyond;
mod dead_letters;
mod drain;
mod dry_run;
mod faults;
mod health;
mod heldback;
mod horizon;
mod lanes;
mod latency;
mod options;
mod ownership;
mod pace;
mod page;
mod partitions;
mod places;
mod reconcile;
mod restored;
mod run;
mod settle;
mod start;
mod suspicion;
mod worker;

use clap::Subcommand;
use identity::codes::ExitCode;
use job::{CheckLine, Context, Job, JobError, Output, Report, Setup};
use outbox::{
    RedisSink, Sink, StdoutSink,
    nats::{Address, NatsSink},
    sink::{Finding, SinkError},
    webhook::WebhookSink,
};
use runtime::{
    Clock, Secret,
    config::{Problems, SecretSpec},
};

use crate::options::{Options, Settings, Target};

/// The job.
#[derive(Debug)]
pub struct OutboxDrain;

/// Subcommands beyond the runner's.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Publish without an end, and sleep while there is nothing; SIGTERM ends it once what is delivered is deleted
    Worker,
    /// Tell by WORKER_HEARTBEAT_FILE whether the worker gets on; for a probe
    Health {
        /// Oldest heartbeat that counts as life
        #[arg(long, env = "HEALTH_MAX_AGE", default_value = "90s", value_parser = job::duration, value_name = "DURATION")]
        max_age: std::time::Duration,
    },
    /// Compare outbox, dead letters, acknowledged numbers and the stream; report what is missing, doubled, out of order or
    /// stranded
    Reconcile,
    /// Look at events that were given up, and decide about them
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Look at the partitions, or change their number
    #[command(subcommand)]
    Partitions(partitions::Command),
}

impl Job for OutboxDrain {
    const NAME: &'static str = "outbox-drain";
    const SHARED: bool = true;
    const SECRETS: &'static [SecretSpec] = options::SECRETS;
    type Options = Options;
    type Command = Command;
    type Prepared = Settings;

    fn validate(options: &Options, setup: &Setup, problems: &mut Problems) -> Option<Settings> {
        options::validate(options, setup, problems)
    }

    async fn check(settings: &Settings, ctx: &Context) -> Vec<CheckLine> {
        let findings = match settings.target.clone() {
            Target::Redis(url) => redis(settings, ctx, url).check().await,
            Target::Nats(address) => nats(settings, address).check().await,
            Target::Webhook(endpoint, keys) => WebhookSink::new(endpoint, keys, ctx.clock.clone()).check().await,
            Target::Stdout => StdoutSink::default().check().await,
        };
        let name = format!("sink {}", settings.options.outbox_sink.name());
        let line = |finding| match finding {
            Finding::Good(detail) => CheckLine::ok(&*name, detail),
            Finding::Warning(detail) => CheckLine::ok(&*name, format!("warning: {detail}")),
            Finding::Bad(error) => CheckLine::failed(&*name, refused(&error)),
        };
        findings.into_iter().map(line).collect()
    }

    async fn run(settings: &Settings, ctx: &Context) -> Result<Report, JobError> {
        if ctx.run.dry_run {
            return dry_run::run(settings, ctx).await;
        }
        match settings.target.clone() {
            Target::Redis(url) => Box::pin(drain(ctx, settings, redis(settings, ctx, url))).await,
            Target::Nats(address) => Box::pin(drain(ctx, settings, nats(settings, address))).await,
            Target::Webhook(endpoint, keys) => {
                Box::pin(drain(ctx, settings, WebhookSink::new(endpoint, keys, ctx.clock.clone()))).await
            }
            Target::Stdout => Box::pin(drain(ctx, settings, stdout(ctx)?)).await,
        }
    }

    fn is_worker(command: &Command) -> bool {
        matches!(command, Command::Worker)
    }

    fn alone(options: &Options, clock: &Clock, command: &Command) -> Option<Result<ExitCode, JobError>> {
        match command {
            Command::Health { max_age } => Some(health::health(options, clock, *max_age)),
            _ => None,
        }
    }

    fn needs_redis(settings: &Settings, command: Option<&Command>) -> bool {
        match command {
            None | Some(Command::Worker | Command::Partitions(partitions::Command::Set { .. })) => {
                matches!(settings.target, Target::Redis(_))
            }
            Some(Command::Reconcile) => true,
            Some(Command::DeadLetters(_) | Command::Partitions(_) | Command::Health { .. }) => false,
        }
    }

    async fn command(settings: &Settings, ctx: &Context, command: Command) -> Result<ExitCode, JobError> {
        match command {
            Command::Reconcile => reconcile::reconcile(settings, ctx).await,
            Command::DeadLetters(command) => dead_letters::command(ctx, &command).await,
            Command::Partitions(command) => partitions::command(settings, ctx, &command).await,
            Command::Worker | Command::Health { .. } => Err(JobError::bug("not a command of its own")),
        }
    }
}

pub(crate) fn redis(settings: &Settings, ctx: &Context, url: Secret) -> RedisSink {
    RedisSink::new(ctx.redis.clone(), url, &settings.options.outbox_stream, settings.options.outbox_stream_maxlen)
}

fn nats(settings: &Settings, address: Address) -> NatsSink {
    NatsSink::new(address, settings.options.nats_subject.clone())
}

fn stdout(ctx: &Context) -> Result<StdoutSink, JobError> {
    if ctx.run.output == Output::Json {
        return Err(JobError::config(
            "OUTBOX_SINK: stdout, but --output json writes the outcome there, too, among the events; leave it out (the log has it)",
        ));
    }
    if StdoutSink::leads_nowhere() {
        return Err(JobError::config(
            "OUTBOX_SINK: stdout, but standard output is closed or /dev/null, where events would be lost; lead it to a reader",
        ));
    }
    Ok(StdoutSink::default())
}

async fn drain<S: Sink>(ctx: &Context, settings: &Settings, sink: S) -> Result<Report, JobError> {
    let drain = drain::Drain::new(ctx, settings, sink);
    let report = if ctx.run.is_worker { worker::work(&drain).await } else { run::run(&drain).await };
    drain.leave_all().await;
    report
}

/// What a sink that takes nothing means for the run.
fn refused(error: &SinkError) -> JobError {
    match error {
        SinkError::Refused(_) => JobError::config(error),
        SinkError::Unavailable { .. } | SinkError::Fenced(_) | SinkError::Closed => JobError::retry(error),
    }
}
