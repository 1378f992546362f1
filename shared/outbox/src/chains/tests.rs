use std::time::Duration;

use futures::FutureExt;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;

use super::*;
use crate::sink::Lane;

/// One event for each letter, which names its aggregate.
fn events(aggregates: &str) -> Vec<Event> {
    let event = |(seq, letter): (i64, char)| Event {
        seq,
        event_id: Uuid::from_u128(seq.unsigned_abs().into()),
        aggregate: Aggregate { kind: "account".to_owned(), id: letter.to_string() },
        brand_id: Uuid::nil(),
        event_type: "TEST".to_owned(),
        occurred_at: OffsetDateTime::UNIX_EPOCH,
        payload: RawValue::from_string("null".to_owned()).unwrap(),
    };
    (1..).zip(aggregates.chars()).map(event).collect()
}

/// None of them was rejected before.
fn all(events: &[Event]) -> Batch<'_> {
    Batch { lane: Lane { partition: 0, token: 1 }, number: 1, events, fresh: events.len() }
}

fn soft(reason: &str) -> Rejection {
    Rejection { reason: reason.to_owned(), verdict: Verdict::Refused, retry_after: None }
}

fn for_good() -> Rejection {
    Rejection { reason: "too large".to_owned(), verdict: Verdict::ForGood, retry_after: None }
}

fn limited() -> End {
    End::Refused(Rejection { verdict: Verdict::Limited, ..soft("no more for now") })
}

/// One letter for each event: published, rejected, left.
fn fates(published: &Published) -> String {
    let letter = |fate: &Fate| match fate {
        Fate::Published => 'p',
        Fate::Rejected(_) => 'r',
        Fate::Left => '-',
    };
    published.fates.iter().map(letter).collect()
}

/// Publishes one at a time; `ends` gives each event's end by its number.
async fn one_by_one(aggregates: &str, ends: impl Fn(i64) -> End) -> Published {
    let mut published = publish(all(&events(aggregates)), 1, async |event| ends(event.seq)).await;
    crate::judge(std::slice::from_mut(&mut published), false, |_, _| false);
    published
}

#[tokio::test]
async fn an_aggregate_never_has_two_events_on_their_way_and_the_width_is_kept() {
    let (seats, on_their_way) = (Semaphore::new(0), RefCell::new(Vec::<String>::new()));
    let (most, two_are_there) = (Cell::new(0), Notify::new());
    let events = events("aabbcaabc");
    let order = RefCell::new(Vec::new());
    let work = publish(all(&events), 2, async |event| {
        let name = event.aggregate.id.clone();
        assert!(!on_their_way.borrow().contains(&name), "two events of {name} at once");
        on_their_way.borrow_mut().push(name.clone());
        most.set(on_their_way.borrow().len().max(most.get()));
        if most.get() == 2 {
            two_are_there.notify_one();
        }
        seats.acquire().await.unwrap().forget();
        on_their_way.borrow_mut().retain(|other| *other != name);
        order.borrow_mut().push((name, event.seq));
        End::Taken
    });
    let open = async {
        two_are_there.notified().await;
        seats.add_permits(100);
    };
    let (published, ()) = tokio::join!(work, open);
    assert_eq!((fates(&published).as_str(), most.get()), ("ppppppppp", 2));
    for name in ["a", "b", "c"] {
        let numbers: Vec<i64> = order.borrow().iter().filter(|(of, _)| of == name).map(|(_, seq)| *seq).collect();
        assert!(numbers.is_sorted(), "{name}: {numbers:?}");
    }
}

#[tokio::test]
async fn a_rejected_event_leaves_the_rest_of_its_aggregate_alone() {
    let published = one_by_one("aabab", |seq| if seq == 2 { End::Refused(soft("422")) } else { End::Taken }).await;
    assert_eq!((fates(&published).as_str(), published.trouble), ("prp-p", None));
}

#[tokio::test]
async fn a_sink_that_stops_leaves_what_was_not_tried() {
    let stop = || End::Stop(SinkError::unavailable("gone"));
    let published = one_by_one("abc", |seq| if seq == 2 { stop() } else { End::Taken }).await;
    assert_eq!((fates(&published).as_str(), published.trouble), ("p--", Some(SinkError::unavailable("gone"))));
}

#[tokio::test]
async fn three_aggregates_that_all_fail_show_an_outage_and_two_do_not() {
    let all_fail = |_| End::Refused(soft("422"));
    let published = one_by_one("abc", all_fail).await;
    assert_eq!(fates(&published), "---");
    assert!(matches!(published.trouble, Some(SinkError::Unavailable { .. })));
    let published = one_by_one("abab", all_fail).await;
    assert_eq!((fates(&published).as_str(), published.trouble), ("rr--", None));
}

#[tokio::test]
async fn an_outage_asks_for_the_longest_pause_that_was_named() {
    let after = |seconds: i64| Some(Duration::from_secs(seconds.unsigned_abs()));
    let published = one_by_one("abc", |seq| End::Refused(Rejection { retry_after: after(seq), ..soft("422") })).await;
    let Some(SinkError::Unavailable { retry_after, .. }) = published.trouble else { panic!("{published:?}") };
    assert_eq!(retry_after, after(3));
}

#[tokio::test]
async fn one_that_is_taken_or_too_large_shows_that_the_sink_works() {
    for (is_taken, expected) in [(true, "rrrp"), (false, "rrrr")] {
        let published = one_by_one("abcd", |seq| match (seq, is_taken) {
            (4, true) => End::Taken,
            (4, false) => End::Refused(for_good()),
            _ => End::Refused(soft("422")),
        })
        .await;
        assert_eq!((fates(&published).as_str(), published.trouble), (expected, None));
    }
}

#[tokio::test]
async fn what_is_too_large_stays_rejected_in_an_outage() {
    let published =
        one_by_one(
            "ab",
            |seq| {
                if seq == 1 { End::Refused(for_good()) } else { End::Stop(SinkError::unavailable("gone")) }
            },
        )
        .await;
    assert_eq!(fates(&published), "r-");
    assert!(published.trouble.is_some());
}

#[tokio::test]
async fn silence_is_the_sinks_unless_others_are_answered() {
    let silent = || End::Silence("no answer".to_owned());
    let published = one_by_one("ab", |_| silent()).await;
    assert_eq!((fates(&published).as_str(), published.trouble), ("--", Some(SinkError::unavailable("no answer"))));
    let published = one_by_one("abc", |seq| if seq == 2 { silent() } else { End::Taken }).await;
    assert_eq!((fates(&published).as_str(), published.trouble), ("prp", None));
}

#[tokio::test]
async fn who_waits_for_a_permit_begins_nothing_once_the_sink_has_stopped() {
    let (permits, tries) = (Semaphore::new(1), Cell::new(0));
    let published = publish_with(&permits, all(&events("ab")), 2, async |_| {
        tries.set(tries.get() + 1);
        // The other one asks for its permit meanwhile.
        tokio::task::yield_now().await;
        End::Stop(SinkError::unavailable("gone"))
    })
    .await;
    assert_eq!((fates(&published).as_str(), tries.get()), ("--", 1));
}

#[tokio::test]
async fn a_publish_that_is_dropped_gives_its_permits_back_also_to_those_that_wait() {
    let (permits, events) = (Semaphore::new(1), events("ab"));
    let never = publish_with(&permits, all(&events), 2, async |_| std::future::pending::<End>().await);
    let mut other = Box::pin(publish_with(&permits, all(&events), 2, async |_| End::Taken));
    {
        let mut never = Box::pin(never);
        assert!(never.as_mut().now_or_never().is_none(), "it has the permit");
        assert!(other.as_mut().now_or_never().is_none(), "the permit is taken");
    }
    assert_eq!(fates(&other.await), "pp");
}

#[tokio::test]
async fn what_was_rejected_before_waits_for_the_fresh_ones_of_all_partitions() {
    let (permits, tried) = (Semaphore::new(1), RefCell::new(Vec::new()));
    let note = async |event: &Event| {
        tried.borrow_mut().push(event.seq);
        tokio::task::yield_now().await;
        End::Taken
    };
    let (one, other) = (events("abc"), events("abcdef"));
    let one = Batch { fresh: 1, ..all(&one) };
    let other = Batch { events: &other[3..], fresh: 2, ..all(&other) };
    futures::join!(publish_with(&permits, one, 16, note), publish_with(&permits, other, 16, note));
    assert_eq!(tried.into_inner()[..3], [1, 4, 5]);
}

#[tokio::test]
async fn an_attempt_that_lasts_lets_others_begin() {
    let (permits, other, events) = (Semaphore::new(1), Notify::new(), events("ab"));
    let published = publish_with(&permits, all(&events), 2, async |event| {
        if event.seq == 1 {
            other.notified().await;
        } else {
            other.notify_one();
        }
        End::Taken
    });
    let published =
        tokio::time::timeout(Duration::from_secs(30), published).await.expect("the other one gets its turn");
    assert_eq!(fates(&published), "pp");
}

#[tokio::test]
async fn a_limit_for_one_aggregate_leaves_that_one_alone() {
    let published = one_by_one("abab", |seq| if seq == 1 { limited() } else { End::Taken }).await;
    assert_eq!(
        (fates(&published).as_str(), published.trouble),
        ("-p-p", Some(SinkError::unavailable("no more for now")))
    );
}

#[tokio::test]
async fn three_limits_in_a_row_leave_the_rest() {
    let tries = Cell::new(0);
    let published = one_by_one("abcdefg", |seq| {
        tries.set(tries.get() + 1);
        if seq == 3 { End::Taken } else { limited() }
    })
    .await;
    assert_eq!((fates(&published).as_str(), tries.get()), ("--p----", 6));
}
