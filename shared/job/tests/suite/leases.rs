//! `store::lease` and `store::ledger` together, as the runner uses them.

use std::{collections::BTreeMap, time::Duration};

use harness::TestDb;
use runtime::{Database, DbError, db::Limits};
use sqlx::PgConnection;
use store::{
    checkpoint::{self, Holder, Numbers},
    lease::{self, Busy, Slot},
    ledger::{self, NewRun, Tally},
};

use crate::probe::{expire_leases, pooled};

const WHOLE: Slot<'_> = Slot { job: "probe", shard_count: 1, shard_index: 0, shared: false };

fn shard(index: i32, count: i32) -> Slot<'static> {
    Slot { job: "probe", shard_count: count, shard_index: index, shared: false }
}

async fn acquire(db: &Database, slot: Slot<'_>, run_id: &str) -> Result<i64, Busy> {
    db.transaction("acquire", async |tx| {
        if let Some(busy) = lease::enter(tx, slot, run_id).await? {
            return Ok::<_, sqlx::Error>(Err(busy));
        }
        lease::take(tx, slot, run_id).await.map(Ok)
    })
    .await
    .unwrap()
}

async fn holds(db: &Database, slot: Slot<'_>, token: i64) -> bool {
    db.transaction("holds", async |tx| seals(tx, slot, token).await).await.unwrap()
}

/// Whether a batch of the holder of `token` would stand.
async fn seals(tx: &mut PgConnection, slot: Slot<'_>, fencing_token: i64) -> Result<bool, sqlx::Error> {
    let run = NewRun { slot, run_id: "batch", trigger: "local", dry_run: false, version: "0" };
    let holder = Holder { slot, fencing_token, row: ledger::open(tx, run).await?.id };
    let numbers = Numbers { tally: Tally::default(), details: &BTreeMap::new(), counts: &[] };
    Ok(checkpoint::seal(tx, holder, numbers).await?.is_some())
}

async fn renew(db: &Database, slot: Slot<'_>, token: i64) -> bool {
    db.transaction("renew", async |tx| lease::renew(tx, slot, token).await).await.unwrap()
}

#[tokio::test]
async fn a_second_run_is_told_who_is_at_it_until_the_first_has_gone() {
    let test = TestDb::new().await;
    let db = pooled(&test);
    let token = acquire(&db, WHOLE, "first").await.unwrap();
    assert_eq!(acquire(&db, WHOLE, "second").await.unwrap_err().run_id, "first");
    assert!(holds(&db, WHOLE, token).await && renew(&db, WHOLE, token).await);
    db.transaction("release", async |tx| lease::release(tx, WHOLE, token).await).await.unwrap();
    assert!(acquire(&db, WHOLE, "second").await.unwrap() > token);
}

#[tokio::test]
async fn of_many_that_start_at_once_one_gets_the_lease() {
    let test = TestDb::new().await;
    let db = pooled(&test);
    let names: Vec<String> = (0..12).map(|n| format!("run {n}")).collect();
    let results = futures::future::join_all(names.iter().map(|name| acquire(&db, WHOLE, name))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
}

#[tokio::test]
async fn shards_of_one_split_run_side_by_side_and_everything_else_excludes() {
    let test = TestDb::new().await;
    let db = pooled(&test);
    acquire(&db, shard(0, 3), "a").await.unwrap();
    acquire(&db, shard(2, 3), "b").await.unwrap();
    for excluded in [shard(0, 3), shard(1, 2), WHOLE] {
        assert!(acquire(&db, excluded, "c").await.is_err(), "{excluded:?}");
    }
    assert!(acquire(&db, Slot { job: "another", ..WHOLE }, "c").await.is_ok());
}

#[tokio::test]
async fn a_lease_that_ran_out_is_taken_and_its_former_holder_is_fenced_off() {
    let test = TestDb::new().await;
    let db = pooled(&test);
    let old = acquire(&db, shard(0, 2), "old").await.unwrap();
    expire_leases(&test).await;
    assert!(!holds(&db, shard(0, 2), old).await);
    let new = acquire(&db, WHOLE, "new").await.unwrap();
    assert!(new > old);
    assert!(!renew(&db, shard(0, 2), old).await);
    db.transaction("release", async |tx| lease::release(tx, shard(0, 2), old).await).await.unwrap();
    assert!(holds(&db, WHOLE, new).await);
}

#[tokio::test]
async fn whoever_takes_over_waits_for_the_batch_that_is_just_being_committed() {
    let test = TestDb::new().await;
    let db = pooled(&test);
    let old = acquire(&db, shard(0, 2), "old").await.unwrap();
    let impatient = Limits { lock: Duration::from_millis(100), ..Limits::BATCH };
    let enter = || db.transaction_within("enter", impatient, async |tx| lease::enter(tx, WHOLE, "new").await);
    db.transaction("a long batch", async |tx| {
        assert!(seals(tx, shard(0, 2), old).await?);
        // Renewals pass meanwhile; so does the expiry's coming.
        assert!(renew(&db, shard(0, 2), old).await);
        expire_leases(&test).await;
        assert!(matches!(enter().await, Err(DbError::Unavailable { .. })));
        Ok::<_, sqlx::Error>(())
    })
    .await
    .unwrap();
    assert_eq!(enter().await.unwrap(), None);
}

#[tokio::test]
async fn runs_that_died_are_closed_as_lost_and_those_that_live_are_not() {
    let test = TestDb::new().await;
    let db = pooled(&test);
    let open = async |slot, run_id, dry_run| {
        let run = NewRun { slot, run_id, trigger: "local", dry_run, version: "0" };
        db.transaction("open", async |tx| ledger::open(tx, run).await).await.unwrap()
    };
    acquire(&db, shard(0, 2), "lives").await.unwrap();
    open(shard(0, 2), "lives", false).await;
    open(shard(1, 2), "died", false).await;
    open(WHOLE, "dry and alive", true).await;
    let silent = open(WHOLE, "dry and silent", true).await;
    sqlx::query("UPDATE job_runs SET heartbeat_at = now() - interval '3 minutes' WHERE id = $1")
        .bind(silent.id)
        .execute(test.pool())
        .await
        .unwrap();
    let lost = db.transaction("close", async |tx| ledger::close_lost(tx, "probe").await).await.unwrap();
    let mut lost: Vec<_> = lost.into_iter().map(|lost| (lost.run_id, lost.shard_index, lost.dry_run)).collect();
    lost.sort();
    assert_eq!(lost, [("died".to_owned(), 1, false), ("dry and silent".to_owned(), 0, true)]);
}
