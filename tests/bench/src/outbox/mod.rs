//! The drain of the outbox, beside the least that its two halves can take: reading and deleting, and appending.

mod ceilings;
mod enqueue;
mod ground;
mod latency;

use std::time::Duration;

use harness::{Durability, Servers, TestDb};

use self::ground::Outbox;
use crate::table::{Table, seconds};

/// Aggregates that a backlog is about.
const AGGREGATES: usize = 10_000;
/// Asked of the drain, as events a second on two cores.
const RATE: f64 = 80_000.0;
/// Write-ahead log an event, in bytes.
const WAL: f64 = 430.0;
const MEMORY: f64 = 64.0;

/// Measures everything about the outbox with backlogs of so many events.
pub(crate) async fn measure(events: usize, rounds: usize, refills: usize, table: &mut Table) {
    let servers = Servers::start(Durability::On);
    let outbox = Outbox::new(&servers, TestDb::on(&servers).await);
    let free = drains(&outbox, events, rounds, table).await;
    held_snapshot(&outbox, events, rounds, free, table).await;
    poisoned(&outbox, events, rounds, free, table).await;
    bloat(&outbox, events, refills, table).await;
    latency::measure(&outbox, table).await;
    enqueue::measure(&outbox, table).await;
}

/// Ceilings and drain in turn; the best rate of the drain.
async fn drains(outbox: &Outbox, events: usize, rounds: usize, table: &mut Table) -> f64 {
    let (mut deleting, mut appending, mut draining) = (0.0_f64, 0.0_f64, 0.0_f64);
    let (mut wal, mut memory) = (f64::MAX, 0);
    for round in 1..=rounds {
        outbox.empty().await;
        outbox.fill(events, AGGREGATES).await;
        let rate = rate(events, ceilings::claim_and_delete(outbox).await);
        table.say(&format!("outbox: claim and delete alone {round}: {rate:.0}/s"));
        deleting = deleting.max(rate);
        let rate = self::rate(events, ceilings::append(outbox, events).await);
        table.say(&format!("outbox: atomic step alone {round}: {rate:.0}/s"));
        appending = appending.max(rate);

        outbox.empty().await;
        outbox.fill(events, AGGREGATES).await;
        let before = outbox.wal().await;
        let run = outbox.drain(&[]).await;
        wal = wal.min((outbox.wal().await - before) / events as f64);
        memory = memory.max(run.peak_memory);
        outbox.assert_drained(events).await;
        let rate = self::rate(events, run.duration);
        table.say(&format!("outbox: drain {round}: {rate:.0}/s in {}", seconds(run.duration)));
        draining = draining.max(rate);
    }
    let ceiling = deleting.min(appending);
    table.row("outbox: claim and delete alone", "", &format!("{deleting:.0}/s"), None);
    table.row("outbox: atomic step alone", "", &format!("{appending:.0}/s"), None);
    table.row("outbox: drain", &format!("≥ {RATE:.0}/s"), &format!("{draining:.0}/s"), Some(draining >= RATE));
    table.at_least("outbox: drain / slower of the two", 0.8, draining / ceiling);
    table.row("outbox: write-ahead log an event", &format!("≤ {WAL:.0} B"), &format!("{wal:.0} B"), Some(wal <= WAL));
    let memory = memory as f64 / 1_048_576.0;
    let asked = format!("< {MEMORY:.0} MiB");
    table.row("outbox: peak memory", &asked, &format!("{memory:.1} MiB"), Some(memory < MEMORY));
    draining
}

/// Another session holds a snapshot from before the backlog.
async fn held_snapshot(outbox: &Outbox, events: usize, rounds: usize, free: f64, table: &mut Table) {
    let mut best = 0.0_f64;
    for _ in 0..rounds {
        outbox.empty().await;
        let snapshot = outbox.snapshot().await;
        outbox.fill(events, AGGREGATES).await;
        let run = outbox.drain(&[]).await;
        outbox.assert_drained(events).await;
        drop(snapshot);
        best = best.max(rate(events, run.duration));
    }
    table.at_least("outbox: under a held snapshot / free", 0.8, best / free);
}

/// Some aggregates are held back; the others' rate is told.
async fn poisoned(outbox: &Outbox, events: usize, rounds: usize, free: f64, table: &mut Table) {
    for (share, asked) in [(1, 0.9), (20, 0.7)] {
        let mut best = 0.0_f64;
        for _ in 0..rounds {
            outbox.empty().await;
            outbox.fill(events, AGGREGATES).await;
            let held = outbox.poison(share).await;
            let run = outbox.drain(&[]).await;
            outbox.assert_drained(events - held).await;
            best = best.max(rate(events - held, run.duration));
        }
        table.at_least(&format!("outbox: {share} % of the aggregates poisoned / clean"), asked, best / free);
    }
}

/// Table and indexes after each of many backlogs, before the next is filled in, with a platform at work beside: pages of an
/// index that a vacuum empties can be used again from the next transaction's number on, which in a database where nothing
/// else is written is found out by a later vacuum only.
async fn bloat(outbox: &Outbox, events: usize, refills: usize, table: &mut Table) {
    outbox.empty().await;
    outbox.clean_often().await;
    enqueue::prepare(outbox).await;
    let platform = tokio::spawn(enqueue::live(outbox.url().to_owned()));
    let mut sizes = Vec::new();
    for round in 1..=refills {
        outbox.fill(events, AGGREGATES).await;
        outbox.drain(&[]).await;
        outbox.cleaned_up().await;
        sizes.push(outbox.bytes().await);
        table.say(&format!("outbox: size after backlog {round}: {} MiB", sizes[round - 1] / 1_048_576));
    }
    platform.abort();
    let (first, last) = (sizes[0] as f64, sizes[sizes.len() - 1] as f64);
    let measured = format!("{:.0} MiB, then {:.0} MiB", first / 1_048_576.0, last / 1_048_576.0);
    let asked = "no larger than after the first";
    table.row(&format!("outbox: size after {refills} backlogs"), asked, &measured, Some(last <= first * 1.01));
}

fn rate(events: usize, took: Duration) -> f64 {
    events as f64 / took.as_secs_f64()
}
