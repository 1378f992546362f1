//! A receiver of webhooks that believes nothing: it holds every request to its signature and every account to its order.

use std::collections::{BTreeSet, HashMap, HashSet};

use base64::{Engine, engine::general_purpose::STANDARD};
use harness::{Answer, Binary, Received, WebhookReceiver};
use sha2::{Digest, Sha256};

use crate::support::Ground;

/// A key as the specification has it.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The drain, with this receiver as its sink.
pub(crate) fn drain(ground: &Ground, receiver: &WebhookReceiver) -> Binary {
    to(ground.drain(), receiver)
}

/// The same for a subcommand.
pub(crate) fn to(binary: Binary, receiver: &WebhookReceiver) -> Binary {
    binary
        .env("OUTBOX_SINK", "webhook")
        .env("WEBHOOK_URL", receiver.url())
        .env("WEBHOOK_SECRET", SECRET)
        .env("WEBHOOK_ALLOW_PRIVATE", "true")
}

/// Time passes, for what is held back.
pub(crate) async fn later(ground: &Ground) {
    ground
        .execute("UPDATE outbox_held SET next_attempt_at = clock_timestamp() WHERE next_attempt_at IS NOT NULL")
        .await;
}

/// What was posted, in the order of its arrival. A drain also asks whether the receiver is there (HEAD).
pub(crate) fn posts(receiver: &WebhookReceiver) -> Vec<Received> {
    receiver.received().into_iter().filter(|received| received.method == "POST").collect()
}

/// The marks of all posts, in the order of their arrival.
pub(crate) fn marks(receiver: &WebhookReceiver) -> Vec<i64> {
    posts(receiver).iter().map(mark).collect()
}

/// How many posts were about an account.
pub(crate) fn posts_about(receiver: &WebhookReceiver, account: &str) -> usize {
    posts(receiver).iter().filter(|received| received.data("aggregate_id") == account).count()
}

/// Nothing is held back, and nobody's attempt is counted.
pub(crate) async fn assert_nobody_is_blamed(ground: &Ground) {
    let blamed = "SELECT (SELECT count(*) FROM outbox_held) + (SELECT count(*) FROM outbox_dead_letters)";
    assert_eq!(ground.number(blamed).await, 0, "no event is to blame");
    let retried =
        "SELECT coalesce(sum(value), 0)::bigint FROM job_counters WHERE metric = 'rollcall_outbox_retried_total'";
    assert_eq!(ground.number(retried).await, 0);
}

fn mark(received: &Received) -> i64 {
    received.data("payload")["mark"].as_i64().unwrap()
}

/// What the receiver says to an event that it will not have.
pub(crate) fn no() -> Answer {
    Answer::status(422)
}

/// Each of these events arrived, each signed; each account's in the order of their numbers, as far as an event's first
/// arrival goes, and never two at once. How many posts were repeats.
pub(crate) fn assert_arrived(receiver: &WebhookReceiver, wanted: impl IntoIterator<Item = i64>) -> usize {
    let all = posts(receiver);
    let mut events = HashSet::new();
    let mut accounts: HashMap<String, i64> = HashMap::new();
    for received in &all {
        assert_signed(received);
        assert_eq!(received.siblings, 0, "two of an account at once: {received:?}");
        if events.insert(received.data("event_id").to_string()) {
            let seq = received.data("seq").as_i64().unwrap();
            let last = accounts.entry(received.data("aggregate_id").to_string()).or_default();
            assert!(seq > *last, "overtaken: {received:?}");
            *last = seq;
        }
    }
    let found: BTreeSet<i64> = all.iter().map(mark).collect();
    let wanted: BTreeSet<i64> = wanted.into_iter().collect();
    assert!(found == wanted, "{} arrived, {} wanted", found.len(), wanted.len());
    assert_eq!(events.len(), wanted.len(), "an event has one id");
    all.len() - events.len()
}

fn assert_signed(received: &Received) {
    let header = |name: &str| received.header(name).unwrap_or_else(|| panic!("no {name}: {received:?}"));
    let (id, stamp) = (header("webhook-id"), header("webhook-timestamp"));
    assert_eq!(received.data("event_id"), id);
    let age = runtime::Clock::System.now().unix_timestamp() - stamp.parse::<i64>().unwrap();
    assert!((0..300).contains(&age), "stamped {age} s ago");
    let key = STANDARD.decode(SECRET.trim_start_matches("whsec_")).unwrap();
    let message = [format!("{id}.{stamp}.").as_bytes(), &received.body].concat();
    let signature = STANDARD.encode(hmac_sha256(&key, &message));
    assert_eq!(header("webhook-signature"), format!("v1,{signature}"));
}

/// HMAC-SHA256 from its definition (RFC 2104), so that the library under test does not judge itself.
fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let pad = |with: u8| (0..64).map(|place| key.get(place).copied().unwrap_or(0) ^ with).collect::<Vec<u8>>();
    let inner = Sha256::digest([pad(0x36).as_slice(), message].concat());
    Sha256::digest([pad(0x5c).as_slice(), inner.as_slice()].concat()).to_vec()
}
