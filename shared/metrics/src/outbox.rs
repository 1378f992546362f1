//! What the drain of the outbox tells.

use crate::{Counter, Gauge};

/// The job whose counters these are.
pub(crate) const JOB: &str = "outbox-drain";

/// Events that wait.
pub static BACKLOG: Gauge = Gauge {
    name: "rollcall_outbox_backlog_events",
    help: "Events that wait to be published, held ones too; from 10,000 up PostgreSQL's estimate.",
    labels: &[],
};

/// How long the oldest of them has waited.
pub static OLDEST: Gauge = Gauge {
    name: "rollcall_outbox_oldest_event_age_seconds",
    help: "Age of the oldest event that waits to be published, held ones too, in seconds; 0 when none does.",
    labels: &[],
};

/// How long the oldest has waited to be looked at, whatever is held back.
pub static UNREAD: Gauge = Gauge {
    name: "rollcall_outbox_oldest_unread_event_age_seconds",
    help: "Age of the oldest event that no run has met yet, in seconds; 0 when there is none.",
    labels: &[],
};

/// Aggregates that are held back.
pub static HELD: Gauge = Gauge {
    name: "rollcall_outbox_held_aggregates",
    help: "Aggregates whose events are held back, since one of them was rejected.",
    labels: &[],
};

/// Events that were given up and wait for a person.
pub static DEAD_LETTERS: Gauge = Gauge {
    name: "rollcall_outbox_dead_letters",
    help: "Events that were given up and wait to be redriven or discarded.",
    labels: &[],
};

/// From the event's time to the sink's answer.
pub static LATENCY: Gauge = Gauge {
    name: "rollcall_outbox_publish_latency_seconds",
    help: "Time from an event to the sink's answer, over the last run or push interval, by quantile, in seconds.",
    labels: &["quantile"],
};

/// Events that went out.
pub static PUBLISHED: Counter = Counter {
    name: "rollcall_outbox_published_total",
    help: "Events published and acknowledged, by sink.",
    labels: &["sink"],
    series: &[&["redis"], &["nats"], &["webhook"], &["stdout"]],
};

/// Tries that were rejected and will be repeated.
pub static RETRIED: Counter = Counter {
    name: "rollcall_outbox_retried_total",
    help: "Events that the sink rejected and that will be tried again.",
    labels: &[],
    series: &[&[]],
};

/// Events that were given up.
pub static DEAD_LETTERED: Counter = Counter {
    name: "rollcall_outbox_dead_lettered_total",
    help: "Events given up after MAX_ATTEMPTS rejections, or because no further try can help.",
    labels: &[],
    series: &[&[]],
};

/// Times that the sink took nothing at all.
pub static OUTAGES: Counter = Counter {
    name: "rollcall_outbox_sink_outages_total",
    help: "Times that the sink took nothing; no event's attempts are counted meanwhile.",
    labels: &[],
    series: &[&[]],
};

/// Acknowledged events that the sink has lost.
pub static LOST: Counter = Counter {
    name: "rollcall_outbox_lost_events_total",
    help: "Acknowledged events that the stream lost, seen when a partition was taken over (see reconcile).",
    labels: &[],
    series: &[&[]],
};

pub(crate) static COUNTERS: &[&Counter] = &[&PUBLISHED, &RETRIED, &DEAD_LETTERED, &OUTAGES, &LOST];
pub(crate) static GAUGES: &[&Gauge] = &[&BACKLOG, &OLDEST, &UNREAD, &HELD, &DEAD_LETTERS, &LATENCY];
