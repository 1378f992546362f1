//! What `check` says about a stream.

use std::time::Duration;

use async_nats::jetstream::{
    context::GetStreamByNameErrorKind,
    stream::{DiscardPolicy, RetentionPolicy, StorageType},
};

use super::{Subject, connection::Connection, no_stream};
use crate::sink::{Finding, SinkError};

/// A repeat after an outage of a minute should still be recognised.
const SHORT: Duration = Duration::from_mins(2);

/// What the largest event takes: a payload of 1 MiB, more is not enqueued, and names of 1024 bytes at most, escaped.
const LARGEST: usize = (1024 + 16) * 1024;

/// Finds the stream that takes the subject and looks for settings that lose or double events.
pub(super) async fn stream(connection: &Connection, subject: &Subject) -> Vec<Finding> {
    let jetstream = &connection.jetstream;
    let name = match jetstream.stream_by_subject(subject.as_str()).await {
        Ok(name) => name,
        Err(error) if error.kind() == GetStreamByNameErrorKind::NotFound => {
            return vec![Finding::Bad(no_stream(subject))];
        }
        Err(_) => return vec![unknown(connection)],
    };
    let Ok(stream) = jetstream.get_stream(&name).await else { return vec![unknown(connection)] };
    let config = &stream.cached_info().config;
    if config.no_ack {
        let text = format!("the stream {name} does not acknowledge (no_ack): nobody would know what it took");
        return vec![Finding::Bad(SinkError::Refused(text))];
    }
    let mut findings = vec![Finding::Good(format!("NATS: the stream {name} takes {}", subject.as_str()))];
    let mut warn = |text: &str| findings.push(Finding::Warning(format!("NATS: the stream {name} {text}")));
    if config.storage == StorageType::Memory {
        warn("is kept in memory: a restart of the server loses it");
    }
    if config.duplicate_window < SHORT {
        let seconds = config.duplicate_window.as_secs();
        warn(&format!("remembers ids for {seconds} s only: an event repeated later than that is doubled"));
    }
    let is_limited = config.max_bytes > 0 || config.max_messages > 0 || config.max_messages_per_subject > 0;
    if config.discard == DiscardPolicy::Old && config.retention == RetentionPolicy::Limits && is_limited {
        warn("drops its oldest events when it is full, read or not; --discard new would make the drain wait instead");
    }
    let most = match usize::try_from(config.max_message_size) {
        Ok(most) if most > 0 => most.min(jetstream.client().max_payload()),
        _ => jetstream.client().max_payload(),
    };
    if most < LARGEST {
        warn(&format!(
            "takes messages of {most} bytes only: larger events become dead letters; {LARGEST} would do for all"
        ));
    }
    if config.retention == RetentionPolicy::Interest {
        warn("keeps events only for consumers that exist (retention by interest)");
    }
    findings
}

/// A user who may publish need not be allowed to ask.
fn unknown(connection: &Connection) -> Finding {
    let why = connection.refusal().unwrap_or_else(|| "JetStream does not answer".to_owned());
    Finding::Warning(format!("NATS: reached, but its streams cannot be looked at: {why}"))
}
