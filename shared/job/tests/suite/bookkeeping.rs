//! `store::ledger` and `store::counters`.

use std::collections::BTreeMap;

use harness::TestDb;
use runtime::Database;
use store::{
    counters::{self, Count},
    lease::Slot,
    ledger::{self, Closing, NewRun, Tally},
};

use crate::probe::pooled;

const WHOLE: Slot<'_> = Slot { job: "probe", shard_count: 1, shard_index: 0, shared: false };

async fn open(db: &Database, slot: Slot<'_>, dry_run: bool) -> i64 {
    let run = NewRun { slot, run_id: "r", trigger: "manual", dry_run, version: "0.1.0" };
    db.transaction("open", async |tx| ledger::open(tx, run).await).await.unwrap().id
}

async fn close(db: &Database, id: i64, outcome: &str) -> bool {
    let closing = Closing { outcome, remaining: 3, note: Some("look"), error: None };
    db.transaction("close", async |tx| ledger::close(tx, id, closing).await).await.unwrap()
}

fn count(labels: &str, value: i64) -> Count {
    Count { metric: "rollcall_job_runs_total".to_owned(), labels: labels.to_owned(), value }
}

#[tokio::test]
async fn numbers_add_up_until_a_row_is_closed() {
    let test = TestDb::new().await;
    let db = pooled(&test);
    let id = open(&db, WHOLE, false).await;
    let add = async |tally, details: &[(&'static str, u64)]| {
        let details: BTreeMap<_, _> = details.iter().copied().collect();
        db.transaction("add", async |tx| ledger::add(tx, id, tally, &details).await).await.unwrap()
    };
    add(Tally { scanned: 5, changed: 1, ..Tally::default() }, &[("pages", 1), ("names", 2)]).await;
    assert!(add(Tally { scanned: 7, failed: 2, ..Tally::default() }, &[("pages", 1)]).await);
    assert!(close(&db, id, "done").await);
    assert!(!close(&db, id, "failed").await);
    assert!(!add(Tally { scanned: 1, ..Tally::default() }, &[]).await);

    let runs = db.transaction("latest", async |tx| ledger::latest(tx, "probe", 10).await).await.unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].outcome.as_deref(), runs[0].remaining), (Some("done"), 3));
    assert_eq!((runs[0].scanned, runs[0].changed, runs[0].skipped, runs[0].failed), (12, 1, 0, 2));
    assert_eq!(runs[0].details.0, BTreeMap::from([("names".to_owned(), 2), ("pages".to_owned(), 2)]));
    assert_eq!(runs[0].note.as_deref(), Some("look"));
}

#[tokio::test]
async fn the_newest_runs_come_first_and_a_running_one_has_no_outcome() {
    let test = TestDb::new().await;
    let db = pooled(&test);
    for _ in 0..3 {
        let id = open(&db, WHOLE, false).await;
        close(&db, id, "nothing_to_do").await;
    }
    open(&db, WHOLE, true).await;
    open(&db, Slot { job: "another", ..WHOLE }, false).await;
    let runs = db.transaction("latest", async |tx| ledger::latest(tx, "probe", 2).await).await.unwrap();
    let seen: Vec<_> = runs.iter().map(|run| (run.dry_run, run.outcome.as_deref())).collect();
    assert_eq!(seen, [(true, None), (false, Some("nothing_to_do"))]);
}

#[tokio::test]
async fn only_a_real_run_of_the_same_group_that_did_its_work_is_a_success() {
    let test = TestDb::new().await;
    let db = pooled(&test);
    let last =
        async |slot| db.transaction("last success", async |tx| ledger::last_success_at(tx, slot).await).await.unwrap();
    for (slot, dry_run, outcome) in [
        (WHOLE, true, "done"),
        (WHOLE, false, "upstream_down"),
        (WHOLE, false, "failed"),
        (Slot { shard_count: 2, ..WHOLE }, false, "done"),
        (Slot { job: "another", ..WHOLE }, false, "done"),
    ] {
        let id = open(&db, slot, dry_run).await;
        close(&db, id, outcome).await;
        assert_eq!(last(WHOLE).await, None, "{outcome}");
    }
    assert!(last(Slot { shard_count: 4, ..WHOLE }).await.is_some());
    let id = open(&db, WHOLE, false).await;
    close(&db, id, "nothing_to_do").await;
    assert!(last(WHOLE).await.is_some());
}

#[tokio::test]
async fn totals_go_on_from_run_to_run_each_shard_for_itself() {
    let test = TestDb::new().await;
    let db = pooled(&test);
    let add = async |shard, counts: &[Count]| {
        db.transaction("add", async |tx| counters::add(tx, "probe", shard, counts).await).await.unwrap()
    };
    assert_eq!(add("", &[]).await, []);
    add("", &[count("done", 2), count("failed", 1)]).await;
    add("1", &[count("done", 9)]).await;
    assert_eq!(add("", &[count("done", 3)]).await, [count("done", 5)]);
    let totals = db.transaction("totals", async |tx| counters::totals(tx, "probe", "").await).await.unwrap();
    assert_eq!(totals, [count("done", 5), count("failed", 1)]);
}

#[tokio::test]
async fn many_may_count_at_once() {
    let test = TestDb::new().await;
    let db = pooled(&test);
    let counts: Vec<Count> = (0..20).map(|n| count(&n.to_string(), 1)).collect();
    let reversed: Vec<Count> = counts.iter().rev().cloned().collect();
    let add = async |counts: &[Count]| {
        db.transaction("add", async |tx| counters::add(tx, "probe", "", counts).await).await.unwrap();
    };
    futures::future::join_all((0..10).flat_map(|_| [&counts, &reversed]).map(|counts| add(counts))).await;
    let totals = db.transaction("totals", async |tx| counters::totals(tx, "probe", "").await).await.unwrap();
    assert!(totals.iter().all(|total| total.value == 20), "{totals:?}");
}
