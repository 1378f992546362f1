//! What a sink promises.

use std::time::Duration;

use crate::Event;

/// Where events are published to. What each promises beyond this is in docs/DECISIONS.md.
#[expect(async_fn_in_trait, reason = "one task, so that no future has to be Send")]
pub trait Sink {
    /// It holds the order of batches by itself, so that the next may be sent before the last was answered. Otherwise a batch
    /// of a partition is published only after the one before it.
    const PIPELINED: bool = false;

    /// Takes over a partition under a fencing token greater than that of every earlier owner. After this no earlier owner
    /// can publish to the partition, where the sink can hold that. `acknowledged` is the number of the last event whose
    /// publication PostgreSQL knows of.
    ///
    /// # Errors
    /// The sink is away, refuses, or knows a younger owner.
    async fn adopt(&self, _lane: Lane, _acknowledged: i64) -> Result<Adopted, SinkError> {
        Ok(Adopted::default())
    }

    /// Events that the sink holds under numbers that PostgreSQL does not know: where PostgreSQL lost what it had committed (an
    /// older backup, a standby that lagged), it gives them for a second time. All of a partition, or none: with the newest
    /// alone the others would go out behind them. None of a partition of which not all are found in some seconds.
    ///
    /// # Errors
    /// The sink is away, or does not answer.
    async fn find(&self, _gaps: &[Gap]) -> Result<Vec<(u16, Vec<Remembered>)>, SinkError> {
        Ok(Vec::new())
    }

    /// What was adopted of a partition is remembered no longer: it will be published again.
    ///
    /// # Errors
    /// The sink is away, or knows a younger owner.
    async fn forget(&self, _lane: Lane) -> Result<(), SinkError> {
        Ok(())
    }

    /// Publishes events of one partition: those of one aggregate in the order given, each at most once in this call. Once
    /// an event is rejected, later ones of its aggregate are left. May be dropped at any point. Whether a rejected event
    /// is to blame or the sink, [`crate::judge`] decides from all that was published together.
    ///
    /// # Errors
    /// Nothing of the batch is known to be published. Where some of it is, the answer says so.
    async fn publish(&self, batch: Batch<'_>) -> Result<Published, SinkError>;

    /// The events of a published batch, or those that were adopted (batch 0), are deleted in PostgreSQL: the sink need not
    /// remember them any more.
    fn confirmed(&self, _lane: Lane, _batch: u64) {}

    /// Gives a partition up: what was confirmed is forgotten now, since no further batch will tell.
    ///
    /// # Errors
    /// The sink is away. Nothing depends on it.
    async fn leave(&self, _lane: Lane) -> Result<(), SinkError> {
        Ok(())
    }

    /// Reaches the sink and says, a line each, what is wrong with it or noteworthy; for `check`.
    async fn check(&self) -> Vec<Finding>;
}

/// A partition, as its present owner publishes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lane {
    /// Number of the partition, from 0.
    pub partition: u16,
    /// The owner's fencing token.
    pub token: i64,
}

/// Events of one partition.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Whose they are.
    pub lane: Lane,
    /// Counts the owner's batches of this partition, from 1 and without a gap: a batch is published only after the one
    /// before it. The same number again is the same batch.
    pub number: u64,
    /// Those of an aggregate in the order of `seq`; for a [`Sink::PIPELINED`] sink all.
    pub events: &'a [Event],
    /// So many of them, the first ones, were not rejected before: a sink with few hands tries them before the others of all
    /// partitions.
    pub fresh: usize,
}

/// What an earlier owner left behind.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// Events that are published and whose deletion nobody confirmed.
    pub published: Vec<Remembered>,
    /// The number of the partition's last event, as the sink knew it. Below what PostgreSQL acknowledged, the sink has lost
    /// events. `None`: the sink does not number.
    pub last_number: Option<i64>,
}

/// Numbers of a partition that the sink has given and PostgreSQL does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The partition.
    pub partition: u16,
    /// The last number that PostgreSQL knows.
    pub after: i64,
    /// The last that was given.
    pub last: i64,
}

/// An event that an earlier owner published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Its number.
    pub seq: i64,
    /// The last eight hexadecimal digits of its id: where PostgreSQL was restored, its number may be another's by now.
    pub tail: String,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// One for each event, in their order.
    pub fates: Vec<Fate>,
    /// The number of the partition's last event, where the sink numbers.
    pub last_number: Option<i64>,
    /// Why the rest was left, if the sink failed in the middle.
    pub trouble: Option<SinkError>,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The sink has it.
    Published,
    /// The sink does not take this event, though it may take others.
    Rejected(Rejection),
    /// Not tried, or nobody knows.
    Left,
}

/// Why an event was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// In a few words, without the payload.
    pub reason: String,
    /// What it says of the event and of the sink.
    pub verdict: Verdict,
    /// The sink asks not to be tried again before.
    pub retry_after: Option<Duration>,
}

/// What a rejection says of the event and of the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The sink works, and no further try can help: the event goes to the dead letters at once.
    ForGood,
    /// The sink does not like the event. Where it likes nobody's, it is the sink.
    Refused,
    /// The sink says that it is gone for good: where it takes others, for the event's aggregate alone.
    Gone,
    /// The sink wants no more for now, of the event's aggregate or of all: nobody is to blame.
    Limited,
    /// The sink failed over the event: the event may be wrong as well as the sink be ill.
    Failed,
    /// The sink took the event and gave no answer: it may be gone as well as the event be wrong.
    Silent,
}

/// Why a sink takes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Not reachable, overloaded, read-only, out of memory: later it may work. No event is to blame.
    #[error("the sink is not available: {reason}")]
    Unavailable {
        /// What it said.
        reason: String,
        /// It asks not to be tried again before.
        retry_after: Option<Duration>,
    },
    /// It will not work until somebody changes the configuration or the sink.
    #[error("the sink refuses: {0}")]
    Refused(String),
    /// Another owner has taken the partition over, under this token where the sink says so.
    #[error("the partition has another owner")]
    Fenced(Option<i64>),
    /// Whoever reads has gone (standard output): a clean end.
    #[error("whoever read the events has gone")]
    Closed,
}

impl SinkError {
    /// Not available, for this reason.
    pub fn unavailable(reason: impl std::fmt::Display) -> Self {
        Self::Unavailable { reason: reason.to_string(), retry_after: None }
    }
}

/// A line of `check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Works.
    Good(String),
    /// Works, with something an operator should know.
    Warning(String),
    /// Does not work.
    Bad(SinkError),
}
