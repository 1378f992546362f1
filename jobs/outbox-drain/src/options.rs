//! Settings of the drain: what operators write, and what the run works with.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum, value_parser};
use job::Setup;
use outbox::{
    nats::{Address, Subject},
    webhook::{Endpoint, SigningKeys},
};
use runtime::{
    Secret,
    config::{Problems, SecretSpec},
};
use store::outbox::partitions::Share;

/// Fewest connections to PostgreSQL: one reads, one writes, and one tells what keeps the others waiting.
const CONNECTIONS: u32 = 3;

/// Secrets beyond the runner's.
pub(crate) const SECRETS: &[SecretSpec] = &[
    SecretSpec { name: "NATS_URL", help: "NATS servers, nats://user:password@host:4222 or tls://…", required: false },
    SecretSpec { name: "WEBHOOK_URL", help: "Where events are posted to, https://…", required: false },
    SecretSpec {
        name: "WEBHOOK_SECRET",
        help: "Keys that sign posts, whsec_…; several with blanks between all sign, for a rotation",
        required: false,
    },
];

/// Where events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SinkKind {
    /// A stream of Redis: each event once.
    Redis,
    /// NATS JetStream: each event once within the stream's duplicate window.
    Nats,
    /// HTTP posts, signed after Standard Webhooks: at least once.
    Webhook,
    /// Standard output, a JSON object a line: at least once.
    Stdout,
}

impl SinkKind {
    /// As in the metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Nats => "nats",
            Self::Webhook => "webhook",
            Self::Stdout => "stdout",
        }
    }
}

/// What becomes of an aggregate whose event was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeadLetterPolicy {
    /// Its later events wait until somebody redrives or discards the dead letter
    Hold,
    /// Its later events go on without it
    Pass,
}

/// Publishes the events of the outbox: every one, in the order of its aggregate.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Where events are published to
    #[arg(long, env, default_value = "redis", value_enum)]
    pub outbox_sink: SinkKind,
    /// Name of the Redis stream
    #[arg(long, env, default_value = "rollcall:events", value_parser = stream)]
    pub outbox_stream: String,
    /// Trim the stream to about so many entries; slow readers lose what is trimmed [default: never]
    #[arg(long, env, value_parser = value_parser!(u64).range(1..=i64::MAX.unsigned_abs()), value_name = "N")]
    pub outbox_stream_maxlen: Option<u64>,
    /// Subject that events are published under (OUTBOX_SINK=nats); a stream must take it
    #[arg(long, env, default_value = "rollcall.events", value_name = "SUBJECT")]
    pub nats_subject: Subject,
    /// Let WEBHOOK_URL be http://, and its host an address of a private network
    #[arg(long, env, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = clap::builder::BoolishValueParser::new())]
    pub webhook_allow_private: bool,
    /// Most events read and published together
    #[arg(long, env, default_value_t = 1000, value_parser = value_parser!(u32).range(1..=5000), value_name = "N")]
    pub batch_size: u32,
    /// Most events published in a run; 0: all there are
    #[arg(long, env, default_value_t = 0, value_name = "N")]
    pub max_events: u64,
    /// Rejections after which an event is given up and becomes a dead letter
    #[arg(long, env, default_value_t = 10, value_parser = value_parser!(u32).range(1..=1000), value_name = "N")]
    pub max_attempts: u32,
    /// What becomes of the later events of an aggregate whose event becomes a dead letter; those that wait already stay
    /// held
    #[arg(long, env, default_value = "hold", value_enum)]
    pub dead_letter_policy: DeadLetterPolicy,
    /// File that a worker writes whenever it gets on, or there is nothing to do; health looks when that was
    #[arg(long, env, value_name = "PATH")]
    pub worker_heartbeat_file: Option<PathBuf>,
    /// Whether this process may poll the outbox; a worker with false refuses to start
    #[arg(long, env, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = clap::builder::BoolishValueParser::new())]
    pub enable_outbox_poller: bool,
}

fn stream(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 512 || text.contains(['{', '}']) || text.chars().any(char::is_control) {
        return Err("give 1 to 512 characters without braces".to_owned());
    }
    Ok(text.to_owned())
}

/// Where events go, with what it takes to get there.
#[derive(Debug, Clone)]
pub enum Target {
    /// The Redis of every job, at this address.
    Redis(Secret),
    /// NATS.
    Nats(Address),
    /// A webhook.
    Webhook(Endpoint, SigningKeys),
    /// Standard output.
    Stdout,
}

impl Target {
    fn read(options: &Options, setup: &Setup, problems: &mut Problems) -> Option<Self> {
        let sink = options.outbox_sink.name();
        let mut secret = |name: &'static str| {
            let given = setup.secrets.get(name);
            if given.is_none() {
                problems.add(name, format_args!("missing, but OUTBOX_SINK is {sink}; set it, or {name}_FILE"));
            }
            given.cloned()
        };
        match options.outbox_sink {
            // That it is missing is told by the runner, which needs it, too.
            SinkKind::Redis => setup.secrets.get("REDIS_URL").cloned().map(Self::Redis),
            SinkKind::Stdout => Some(Self::Stdout),
            SinkKind::Nats => {
                let url = secret("NATS_URL")?;
                Address::parse(&url).map(Self::Nats).map_err(|problem| problems.add("NATS_URL", problem)).ok()
            }
            SinkKind::Webhook => {
                let (url, keys) = (secret("WEBHOOK_URL"), secret("WEBHOOK_SECRET"));
                let endpoint = url.and_then(|url| {
                    let endpoint = Endpoint::parse(&url, options.webhook_allow_private);
                    endpoint.map_err(|problem| problems.add("WEBHOOK_URL", problem)).ok()
                });
                let keys = keys.and_then(|keys| {
                    SigningKeys::parse(&keys).map_err(|problem| problems.add("WEBHOOK_SECRET", problem)).ok()
                });
                Some(Self::Webhook(endpoint?, keys?))
            }
        }
    }
}

/// What the run works with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What operators wrote.
    pub options: Options,
    /// Where events go, with what it takes to get there.
    pub target: Target,
    /// Which partitions are ours to take.
    pub share: Share,
}

impl Settings {
    /// What the numbers of the events count; none: the sink numbers nothing.
    pub(crate) fn stream(&self) -> Option<&str> {
        (self.options.outbox_sink == SinkKind::Redis).then_some(&*self.options.outbox_stream)
    }
}

/// Checks all settings.
pub(crate) fn validate(options: &Options, setup: &Setup, problems: &mut Problems) -> Option<Settings> {
    let target = Target::read(options, setup, problems);
    let most = u32::try_from(store::outbox::BUCKETS).unwrap_or(64);
    if setup.shard.count > most {
        problems.add("SHARD_COUNT", format_args!("{}, but there are at most {most} partitions", setup.shard.count));
        return None;
    }
    if setup.common.database_max_connections < CONNECTIONS {
        let given = setup.common.database_max_connections;
        problems
            .add("DATABASE_MAX_CONNECTIONS", format_args!("{given}, but outbox-drain needs {CONNECTIONS} at least"));
    }
    if let Some(file) = options.worker_heartbeat_file.as_deref().filter(|file| file.is_dir()) {
        problems.add("WORKER_HEARTBEAT_FILE", format_args!("{} is a folder; give a file in it", file.display()));
    }
    if let Some(folder) = options.worker_heartbeat_file.as_deref().and_then(Path::parent)
        && !folder.as_os_str().is_empty()
        && !folder.is_dir()
    {
        problems.add(
            "WORKER_HEARTBEAT_FILE",
            format_args!("{} is no folder; the file is written into it", folder.display()),
        );
    }
    let narrow = |n: u32| i16::try_from(n).unwrap_or(i16::MAX);
    let share = Share { index: narrow(setup.shard.index), count: narrow(setup.shard.count) };
    Some(Settings { options: options.clone(), target: target?, share })
}
