//! Keys of one account that another program broke: they cost that account its turn and no other.

use harness::{CORPORATION, Member, STRANGERS, newcomer};
use suites::{Stage, outcome};
use uuid::Uuid;

use crate::support::{decide, ended, lines, verify};

/// Puts a list where another type belongs.
async fn spoil(stage: &Stage, member: &Member, name: &str) -> String {
    let key = format!("sess:{{{}}}:{name}", member.account_id);
    redis::pipe().del(&key).rpush(&key, "junk").exec_async(&mut stage.db.redis()).await.expect("Redis answers");
    key
}

#[tokio::test]
async fn a_decision_that_broken_keys_block_waits_alone_and_is_carried_out_when_they_are_gone() {
    let stage = Stage::new().await;
    let spoilt = stage.add(newcomer("Alice").verified_minutes_ago(1).session()).await;
    let other = stage.add(newcomer("Bob").verified_minutes_ago(1).session()).await;
    // Another one is found by the run itself, which looks at what is decided again then.
    let leaver = stage.add_in(STRANGERS, newcomer("Carol").verified_minutes_ago(60).session()).await;
    stage.crowd(10, |place| (CORPORATION, newcomer(format!("m{place}")).verified_minutes_ago(60).session())).await;
    decide(&stage, Uuid::from_u128(1), &spoilt).await;
    decide(&stage, Uuid::from_u128(2), &other).await;
    let key = spoil(&stage, &spoilt, "index").await;

    let run = verify(&stage).await;

    assert_eq!((ended(&run), &outcome(&run)["failed"]), ("done", &1.into()), "{run}");
    let told = lines(&run, "no session is taken: a key is of another type, remove it");
    assert_eq!(told.len(), 1, "{run}");
    assert!(run.stderr.contains(&key) || run.stdout.contains(&key), "{run}");
    assert_eq!(stage.community.pending().await.len(), 1);
    for gone in [&other, &leaver] {
        assert!(!stage.community.has_session(gone.session_token()).await);
    }
    assert_eq!(stage.community.audit().await.len(), 2);

    redis::cmd("DEL").arg(&key).exec_async(&mut stage.db.redis()).await.expect("Redis answers");
    let hash = harness::session_key(spoilt.session_token()).rsplit(':').next().unwrap().to_owned();
    redis::cmd("ZADD").arg(&key).arg(1).arg(hash).exec_async(&mut stage.db.redis()).await.expect("Redis answers");
    let run = verify(&stage).await;
    assert_eq!(&outcome(&run)["failed"], &0, "{run}");
    assert_eq!(stage.community.pending().await, []);
    assert!(!stage.community.has_session(spoilt.session_token()).await);
    assert_eq!(stage.community.audit().await.len(), 3);
}

#[tokio::test]
async fn a_mark_that_broken_keys_block_is_set_by_the_run_after_they_are_gone() {
    let stage = Stage::new().await;
    let spoilt = stage.add_in(STRANGERS, newcomer("Alice").verified_minutes_ago(60)).await;
    let other = stage.add_in(STRANGERS, newcomer("Bob").verified_minutes_ago(60)).await;
    let key = spoil(&stage, &spoilt, "denied").await;

    verify(&stage).await;
    assert!(stage.community.marks(other.account_id).await.contains_key(&other.character_id.to_string()));

    redis::cmd("DEL").arg(&key).exec_async(&mut stage.db.redis()).await.expect("Redis answers");
    verify(&stage).await;
    assert!(stage.community.marks(spoilt.account_id).await.contains_key(&spoilt.character_id.to_string()));
}
