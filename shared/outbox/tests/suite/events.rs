//! Events to publish, and what became of them in short.

use outbox::{
    Aggregate, Event, Sink,
    sink::{Batch, Fate, Lane, Published, SinkError, Verdict},
};
use serde_json::value::RawValue;
use time::macros::datetime;
use uuid::Uuid;

/// One event for each letter, which names its aggregate; numbers from 1.
pub(crate) fn events(aggregates: &str) -> Vec<Event> {
    (1..).zip(aggregates.chars()).map(|(seq, letter)| event(seq, &letter.to_string(), "{\"n\":1}")).collect()
}

pub(crate) fn event(seq: i64, aggregate: &str, payload: &str) -> Event {
    Event {
        seq,
        event_id: id(seq),
        aggregate: Aggregate { kind: "account".to_owned(), id: aggregate.to_owned() },
        brand_id: Uuid::from_u128(42),
        event_type: "SESSION_INVALIDATED".to_owned(),
        occurred_at: datetime!(2026-11-22 11:00:00.5 UTC),
        payload: RawValue::from_string(payload.to_owned()).unwrap(),
    }
}

/// The id of the event with this number.
pub(crate) fn id(seq: i64) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(seq.unsigned_abs()))
}

pub(crate) async fn publish(sink: &impl Sink, events: &[Event]) -> Result<Published, SinkError> {
    let mut published =
        sink.publish(Batch { lane: Lane { partition: 0, token: 1 }, number: 1, events, fresh: events.len() }).await?;
    outbox::judge(std::slice::from_mut(&mut published), false, |_, _| false);
    Ok(published)
}

/// Publishes all of them: a call that has lasted for some time leaves the rest.
pub(crate) async fn publish_all(sink: &impl Sink, events: &[Event]) {
    let mut left = events.to_vec();
    while !left.is_empty() {
        let published = publish(sink, &left).await.unwrap();
        let told = fates(&published);
        assert!(told.contains('p') && !told.contains('r') && published.trouble.is_none(), "{published:?}");
        left = left.into_iter().zip(told.chars()).filter(|(_, fate)| *fate == '-').map(|(event, _)| event).collect();
    }
}

/// One letter for each event: published, rejected, given up for good, left.
pub(crate) fn fates(published: &Published) -> String {
    let letter = |fate: &Fate| match fate {
        Fate::Published => 'p',
        Fate::Rejected(rejection) if rejection.verdict == Verdict::ForGood => 'g',
        Fate::Rejected(_) => 'r',
        Fate::Left => '-',
    };
    published.fates.iter().map(letter).collect()
}

/// Why the sink takes nothing, whichever way it said so.
pub(crate) fn trouble(result: Result<Published, SinkError>) -> SinkError {
    match result {
        Ok(Published { trouble: Some(error), .. }) | Err(error) => error,
        Ok(published) => panic!("the sink is content: {published:?}"),
    }
}

/// Temporary, not to be blamed on any event.
pub(crate) fn is_unavailable(error: &SinkError) -> bool {
    matches!(error, SinkError::Unavailable { .. })
}

/// To be put right by a person.
pub(crate) fn is_refused(error: &SinkError) -> bool {
    matches!(error, SinkError::Refused(_))
}
