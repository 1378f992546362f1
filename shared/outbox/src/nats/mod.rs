//! NATS JetStream. Every event carries its id as `Nats-Msg-Id`, so that a repeat within the stream's duplicate window is
//! dropped by the server; and an aggregate's next event is sent only when the one before it is acknowledged, so that its
//! order holds when a message fails. Streams are the operator's: none is created or changed here.

mod address;
mod check;
mod connection;

use std::sync::Arc;

use async_nats::{
    header::{HeaderMap, NATS_MESSAGE_ID},
    jetstream::{
        self, ErrorCode,
        context::{GetStreamByNameErrorKind, PublishErrorKind},
        message::PublishMessage,
    },
};
use time::format_description::well_known::Rfc3339;
use tokio::sync::{Semaphore, SemaphorePermit};

pub use self::address::{Address, Subject};
use self::connection::{Connection, Connector};
use crate::{
    Body, Event, Sink,
    chains::{self, End},
    sink::{Batch, Finding, Published, Rejection, SinkError, Verdict},
};

/// Messages on their way at once, each of another aggregate.
const WIDTH: usize = 256;
/// KiB of messages on their way at once, over all partitions; a larger one goes alone.
const KIB_AT_ONCE: u32 = 8 * 1024;

/// Publishes to a subject that a JetStream stream takes.
#[derive(Debug)]
pub struct NatsSink {
    connector: Connector,
    subject: Subject,
    room: Arc<Semaphore>,
}

impl NatsSink {
    /// A sink that connects with its first batch.
    pub fn new(address: Address, subject: Subject) -> Self {
        Self { connector: Connector::new(address), subject, room: Arc::new(Semaphore::new(KIB_AT_ONCE as usize)) }
    }

    async fn attempt(&self, connection: &Connection, event: &Event) -> End {
        let body = match serde_json::to_vec(&Body::from(event)) {
            Ok(body) => body,
            Err(error) => return End::Refused(for_good(format!("it cannot be written as JSON: {error}"))),
        };
        let Ok(_room) = self.room(body.len()).await else {
            return End::Stop(SinkError::unavailable("the sink is being closed"));
        };
        let message = PublishMessage::build().headers(headers(event)).payload(body.into());
        let result = match connection.jetstream.send_publish(self.subject.as_str().to_owned(), message).await {
            Ok(acknowledgement) => acknowledgement.await,
            Err(error) => Err(error),
        };
        match result {
            Ok(_) => End::Taken,
            Err(error) => self.end_of(connection, &error),
        }
    }

    async fn room(&self, bytes: usize) -> Result<SemaphorePermit<'_>, tokio::sync::AcquireError> {
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(KIB_AT_ONCE);
        self.room.acquire_many(kib.min(KIB_AT_ONCE)).await
    }

    fn end_of(&self, connection: &Connection, error: &jetstream::context::PublishError) -> End {
        match error.kind() {
            // Why is asked once for all of a batch, by `publish`.
            PublishErrorKind::StreamNotFound => End::Stop(nobody_there(&self.subject)),
            PublishErrorKind::MaxPayloadExceeded => {
                let limit = connection.jetstream.client().max_payload();
                End::Refused(for_good(format!("larger than the server's max_payload of {limit} bytes")))
            }
            PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => End::Stop(match connection.refusal() {
                Some(refusal) => SinkError::Refused(refusal),
                None if error.kind() == PublishErrorKind::TimedOut => {
                    SinkError::unavailable("JetStream did not acknowledge in time")
                }
                None => SinkError::unavailable("the connection was lost before JetStream acknowledged"),
            }),
            _ => answered(error),
        }
    }

    /// Why nobody takes the subject. A stream that has no leader just now and a server that still recovers its streams answer
    /// like one that has none.
    async fn why_nobody(&self, connection: &Connection) -> SinkError {
        match connection.jetstream.stream_by_subject(self.subject.as_str()).await {
            Err(error) if error.kind() == GetStreamByNameErrorKind::NotFound => no_stream(&self.subject),
            Ok(_) | Err(_) => nobody_there(&self.subject),
        }
    }
}

impl Sink for NatsSink {
    async fn publish(&self, batch: Batch<'_>) -> Result<Published, SinkError> {
        let connection = self.connector.connection().await?;
        let mut published = chains::publish(batch, WIDTH, async |event| self.attempt(&connection, event).await).await;
        if published.trouble == Some(nobody_there(&self.subject)) {
            published.trouble = Some(self.why_nobody(&connection).await);
        }
        if published.trouble.is_some() {
            self.connector.give_up(&connection).await;
        }
        Ok(published)
    }

    async fn check(&self) -> Vec<Finding> {
        match self.connector.connection().await {
            Ok(connection) => check::stream(&connection, &self.subject).await,
            Err(error) => vec![Finding::Bad(error)],
        }
    }
}

/// What JetStream said about a message it did not store.
fn answered(error: &jetstream::context::PublishError) -> End {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<jetstream::Error>());
    match source {
        Some(said) if said.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => {
            End::Refused(for_good("larger than the stream's maximum message size".to_owned()))
        }
        Some(said) if said.error_code() == ErrorCode::STREAM_SEALED => {
            End::Stop(SinkError::Refused("the stream is sealed: it takes no message any more".to_owned()))
        }
        // Full by its limits, out of memory or storage, without a leader: it may pass.
        Some(said) => End::Stop(SinkError::unavailable(format_args!("JetStream says: {said}"))),
        None => End::Stop(SinkError::unavailable("JetStream's answer cannot be read")),
    }
}

fn for_good(reason: String) -> Rejection {
    Rejection { reason, verdict: Verdict::ForGood, retry_after: None }
}

fn no_stream(subject: &Subject) -> SinkError {
    let subject = subject.as_str();
    SinkError::Refused(format!(
        "no JetStream stream takes the subject {subject}; create one, for example: nats stream add ROLLCALL --subjects {subject}"
    ))
}

fn nobody_there(subject: &Subject) -> SinkError {
    SinkError::unavailable(format_args!(
        "no JetStream stream answers for the subject {}: there is none, it has no leader, or JetStream is off",
        subject.as_str()
    ))
}

/// What a consumer may want to filter by; the body has the same, exactly.
fn headers(event: &Event) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, event.event_id.to_string());
    headers.insert("event_type", header_text(&event.event_type));
    headers.insert("aggregate_type", header_text(&event.aggregate.kind));
    headers.insert("aggregate_id", header_text(&event.aggregate.id));
    headers.insert("brand_id", event.brand_id.to_string());
    headers.insert("seq", event.seq.to_string());
    headers.insert("occurred_at", event.occurred_at.format(&Rfc3339).unwrap_or_default());
    headers
}

/// A line break would end the header: control characters become a space.
fn header_text(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_one_line_and_keeps_letters_beyond_ascii() {
        assert_eq!(header_text("Jörg\r\nNats-Msg-Id: 1\0"), "Jörg  Nats-Msg-Id: 1 ");
    }
}
