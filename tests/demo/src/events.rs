//! The end of the story: the drain publishes the events that the verifier's runs have written.

use std::collections::BTreeMap;

use redis::streams::StreamRangeReply;

use crate::{
    layout::{Screen, thousands},
    stage::{self, Stage},
    summary,
};

/// The drain's default for `OUTBOX_STREAM`.
const STREAM: &str = "rollcall:events";
/// Entries that are shown.
const SHOWN: usize = 3;
const FIELDS: [&str; 5] = ["partition", "n", "seq", "event_type", "aggregate_id"];

/// Runs the drain and shows what is on the stream.
///
/// # Panics
/// It ended with another exit code than 0; the message shows what it wrote.
pub(crate) async fn drain(stage: &Stage) {
    let mut screen = Screen::titled("5 · The events go out");
    screen.text(
        "Each lost session put an event into the outbox, in the transaction that took it. outbox-drain, every minute by \
         its CronJob, appends them to a Redis stream: each once, numbered, in the order of its account.",
    );
    screen.line("");
    screen.command(&stage::program("outbox-drain"));
    screen.show();
    let finished = stage.binary("outbox-drain").run().await.expect_code(0);
    summary::show(&mut screen, &finished);
    screen.line("");

    let mut redis = stage.db.redis();
    let entries: StreamRangeReply =
        redis::cmd("XRANGE").arg(STREAM).arg("-").arg("+").query_async(&mut redis).await.expect("Redis answers");
    let mut types: BTreeMap<String, usize> = BTreeMap::new();
    for entry in &entries.ids {
        *types.entry(entry.get("event_type").unwrap_or_default()).or_default() += 1;
    }
    let types: Vec<String> = types.iter().map(|(name, n)| format!("{name} {}", thousands(*n))).collect();
    screen.heading(&format!("On the stream {STREAM}: {} entries ({})", thousands(entries.ids.len()), types.join(", ")));
    let mut rows = vec![FIELDS.map(str::to_owned).to_vec()];
    rows.extend(
        entries.ids.iter().take(SHOWN).map(|entry| FIELDS.map(|field| entry.get(field).unwrap_or_default()).to_vec()),
    );
    screen.table(&rows);
    if let Some(payload) = entries.ids.first().and_then(|entry| entry.get::<String>("payload")) {
        screen.line(&format!("  payload of the first: {payload}"));
    }
    screen.line("");
    screen.command(&format!("{} reconcile", stage::program("outbox-drain")));
    let answer = stage.binary("outbox-drain").arg("reconcile").run().await.expect_code(0);
    screen.output(&answer.stdout);
    screen.show();
}
