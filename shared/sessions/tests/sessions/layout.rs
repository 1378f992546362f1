//! Sessions that other programs wrote, and keys that are none.

use std::time::Duration;

use sessions::{SessionError, Settings};

use crate::{
    fixture::{Redis, account, character, key, open, write_by_hand},
    take::{acting, probe_of, take_all},
};

/// SHA-256 of `token()`, computed elsewhere, so that the contract does not rest on this crate's own hashing.
const HASH: &str = "93a3afe9396639b8101778a13356830ac14c75b2e97dda22a41c22decc4a8dd3";
const ACCOUNT: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn token() -> String {
    format!("{ACCOUNT}.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
}

#[tokio::test]
async fn a_session_written_by_hand_is_validated_and_gets_a_time_to_live() {
    let redis = Redis::start().await;
    let (account, acting) = (ACCOUNT.parse().unwrap(), character());
    let key = write_by_hand(&redis, account, HASH, &acting.to_string(), 99).await;

    let session = redis.sessions().validate(&token()).await.unwrap().unwrap();

    assert_eq!((session.account_id, session.character_id), (account, Some(acting)));
    assert_eq!(session.client_type, "desktop");
    let left: i64 = redis.query(&format!("PTTL {key}")).await;
    assert!((1..=3_600_000).contains(&left), "{left}");
}

#[tokio::test]
async fn sessions_written_by_hand_are_counted_and_taken() {
    let redis = Redis::start().await;
    let (sessions, account, left) = (redis.sessions(), account(), character());
    for (hash, character, approved_at) in [
        ("a".repeat(64), left.to_string(), 99),
        ("b".repeat(64), left.to_string().to_uppercase(), 99),
        ("c".repeat(64), left.to_string(), 100),
        ("d".repeat(64), "_".to_owned(), 99),
    ] {
        write_by_hand(&redis, account, &hash, &character, approved_at).await;
    }
    assert_eq!(sessions.has_live_sessions(&[account]).await.unwrap(), [true]);
    assert_eq!(sessions.find_acting(account, left).await.unwrap().len(), 3);

    let taken = take_all(&sessions, &[acting(account, left, 100)]).await;

    let mut removed: Vec<_> = taken[0].removed.iter().map(|session| session.hash.to_string()).collect();
    removed.sort();
    assert_eq!(removed, ["a".repeat(64), "b".repeat(64)]);
    assert!(taken[0].removed.iter().all(|session| session.character_id == Some(left)));
    assert_eq!(sessions.list(account).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_validated_session_missing_from_the_index_is_entered_and_can_be_taken() {
    let redis = Redis::start().await;
    let (sessions, account, left) = (redis.sessions(), account(), character());
    let token = sessions.open(&open(account, Some(left), 99)).await.unwrap();
    redis.exec(&format!("DEL sess:{{{account}}}:index")).await;

    assert!(sessions.validate(token.expose()).await.unwrap().is_some());

    assert_eq!(take_all(&sessions, &[acting(account, left, 100)]).await[0].removed.len(), 1);
}

#[tokio::test]
async fn unreadable_fields_neither_save_a_session_nor_stop_its_take() {
    let redis = Redis::start().await;
    let (sessions, account, left) = (redis.sessions(), account(), character());
    let unapproved = write_by_hand(&redis, account, &"a".repeat(64), &left.to_string(), 99).await;
    redis.exec(&format!("HSET {unapproved} approved_at inf created_at never")).await;
    let binary = write_by_hand(&redis, account, &"b".repeat(64), &left.to_string(), 99).await;
    redis.exec(&format!("EVAL redis.call('hset',KEYS[1],'client_type','\\255\\0\"') 1 {binary}")).await;
    let bare = write_by_hand(&redis, account, &"c".repeat(64), &left.to_string(), 99).await;
    redis.exec(&format!("HDEL {bare} client_type approved_at brand_id role")).await;

    let error = sessions.list(account).await.unwrap_err();
    assert!(matches!(error, SessionError::Broken(_)), "{error:?}");
    let taken = take_all(&sessions, &[acting(account, left, 100)]).await;

    assert_eq!(taken[0].removed.len(), 3);
    assert_eq!(redis.query::<Vec<String>>("KEYS *").await.len(), 2, "the mark and the receipt are left");
}

#[tokio::test]
async fn what_is_no_session_is_passed_over_and_other_keys_are_safe() {
    let redis = Redis::start().await;
    let (sessions, account, left) = (redis.sessions(), account(), character());
    let index = format!("sess:{{{account}}}:index");
    let text = "a".repeat(64);
    redis.exec(&format!("SET sess:{{{account}}}:{text} x")).await;
    redis.exec(&format!("ZADD {index} 1 denied 2 index 3 receipt:x 4 {text} 5 {}", "b".repeat(64))).await;
    write_by_hand(&redis, account, &"c".repeat(64), &left.to_string(), 99).await;
    redis.exec(&format!("HSET sess:{{{account}}}:denied expires_at 99999999999999 last_seen_at 99999999999999")).await;

    assert_eq!(take_all(&sessions, &[acting(account, left, 100)]).await[0].removed.len(), 1);
    assert_eq!(sessions.list(account).await.unwrap(), []);

    let mut keys: Vec<String> = redis.query(&format!("KEYS sess:{{{account}}}:[^r]*")).await;
    keys.sort();
    assert_eq!(keys, [format!("sess:{{{account}}}:denied")], "the index is empty, the marks are there");
}

#[tokio::test]
async fn sessions_kept_by_a_longer_idle_setting_elsewhere_are_found_and_taken() {
    let redis = Redis::start().await;
    let (account, left) = (account(), character());
    let api = redis.sessions_with(Settings { idle: Duration::from_hours(20 * 24), ..Settings::default() });
    let job = redis.sessions();
    let token = api.open(&open(account, Some(left), 99)).await.unwrap();
    let seen = redis.now().await - 10 * 86_400_000;
    redis.exec(&format!("HSET {} last_seen_at {seen}", key(account, &token))).await;
    let idle = write_by_hand(&redis, account, &"a".repeat(64), &left.to_string(), 99).await;
    redis.exec(&format!("HSET {idle} last_seen_at {seen}")).await;
    let observed = probe_of(&acting(account, left, 100));

    assert_eq!(job.find_acting(account, left).await.unwrap().len(), 2);
    assert_eq!(job.probe(&[observed]).await.unwrap(), [2]);
    assert_eq!(job.has_live_sessions(&[account]).await.unwrap(), [true]);
    assert_eq!(job.mark_and_probe(&[observed]).await.unwrap(), [Some(2)]);

    let taken = take_all(&job, &[acting(account, left, 100)]).await;

    assert_eq!(taken[0].removed.len(), 2);
    assert_eq!(job.has_live_sessions(&[account]).await.unwrap(), [false]);
}

#[tokio::test]
async fn numbers_too_long_for_a_receipt_are_junk() {
    let redis = Redis::start().await;
    let (sessions, account, left) = (redis.sessions(), account(), character());
    for (hash, number) in [("a", "120000000000000"), ("b", "99999999999999"), ("c", "-120000000000000")] {
        let key = write_by_hand(&redis, account, &hash.repeat(64), &left.to_string(), 99).await;
        redis.exec(&format!("HSET {key} created_at {number}")).await;
    }
    let unapproved = write_by_hand(&redis, account, &"d".repeat(64), &left.to_string(), 120_000_000_000_000).await;
    redis.exec(&format!("HSET {unapproved} created_at 5")).await;

    let removed = &take_all(&sessions, &[acting(account, left, 100)]).await[0].removed;

    let mut read: Vec<_> = removed.iter().map(|s| (s.hash.to_string(), s.approved_at.0, s.created_at.0)).collect();
    read.sort();
    let expected = [("a", 99, 0), ("b", 99, 99_999_999_999_999), ("c", 99, 0), ("d", 0, 5)];
    assert_eq!(read, expected.map(|(hash, approved_at, created_at)| (hash.repeat(64), approved_at, created_at)));
}
