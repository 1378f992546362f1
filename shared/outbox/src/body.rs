//! An event as its consumers read it: one JSON object, the same at every sink that takes JSON.

use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::Event;

/// An event as one JSON object, fields in this order. Borrowed, since it lives for one attempt.
#[derive(Debug, Serialize)]
pub struct Body<'a> {
    seq: i64,
    event_id: Uuid,
    event_type: &'a str,
    aggregate_type: &'a str,
    aggregate_id: &'a str,
    brand_id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    occurred_at: OffsetDateTime,
    payload: &'a RawValue,
}

impl<'a> From<&'a Event> for Body<'a> {
    fn from(event: &'a Event) -> Self {
        Self {
            seq: event.seq,
            event_id: event.event_id,
            event_type: &event.event_type,
            aggregate_type: &event.aggregate.kind,
            aggregate_id: &event.aggregate.id,
            brand_id: event.brand_id,
            occurred_at: event.occurred_at,
            payload: &event.payload,
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::Aggregate;

    #[test]
    fn the_payload_is_kept_to_the_letter() {
        let payload = r#"{"z":1, "big":18446744073709551617, "a":[1.0,1e400,null,"\u00e9é"] }"#;
        let event = Event {
            seq: 9_007_199_254_740_993,
            event_id: Uuid::from_u128(1),
            aggregate: Aggregate { kind: "account".to_owned(), id: "\"7\"".to_owned() },
            brand_id: Uuid::nil(),
            event_type: "SESSION_INVALIDATED".to_owned(),
            occurred_at: datetime!(2026-11-22 11:00:00.123456 UTC),
            payload: RawValue::from_string(payload.to_owned()).unwrap(),
        };
        let expected = format!(
            r#"{{"seq":9007199254740993,"event_id":"00000000-0000-0000-0000-000000000001","event_type":"SESSION_INVALIDATED","aggregate_type":"account","aggregate_id":"\"7\"","brand_id":"00000000-0000-0000-0000-000000000000","occurred_at":"2026-11-22T11:00:00.123456Z","payload":{payload}}}"#
        );
        assert_eq!(serde_json::to_string(&Body::from(&event)).unwrap(), expected);
    }
}
