//! The builders and readers.

use std::{collections::HashMap, time::Duration};

use harness::{ALLIANCE, CORPORATION, Community, Lists, SessionSpec, TestDb, newcomer, session_key};
use identity::approval::Rule;
use time::OffsetDateTime;

async fn community() -> (TestDb, Community) {
    let db = TestDb::new().await;
    let community = Community::new(&db).await;
    (db, community)
}

async fn database_now(db: &TestDb) -> OffsetDateTime {
    sqlx::query_scalar("-- tests\nSELECT now()").fetch_one(db.pool()).await.expect("PostgreSQL answers")
}

#[tokio::test]
async fn a_member_is_stored_as_described() {
    let (db, community) = community().await;
    let alice = community
        .add(newcomer("Alice").alliance(ALLIANCE).verified_minutes_ago(90).token("refresh").owner_hash("owner"))
        .await;
    let row = community.eve(alice.eve_id).await;
    assert_eq!((row.corporation_id, row.alliance_id), (Some(CORPORATION), Some(ALLIANCE)));
    assert_eq!(row.corporation_name.as_deref(), Some("Corporation 98000001"));
    assert_eq!((row.verdict.as_deref(), row.rule.as_deref()), (Some("allowed"), Some("allowed_corporation")));
    let age = database_now(&db).await - row.last_verified_at.unwrap();
    assert_eq!(age.whole_minutes(), 90);
    assert_eq!(community.refresh_token(alice.eve_id).await, "refresh");
    assert_eq!(community.token(alice.eve_id).await.unwrap().owner_hash.as_deref(), Some("owner"));

    let fresh = community.add(newcomer("Bob").of_unknown_organisation().eve_id(90_000_001)).await;
    let row = community.eve(90_000_001).await;
    assert_eq!(row.character_id, fresh.character_id);
    assert!(row.corporation_id.is_none() && row.verdict.is_none() && row.last_verified_at.is_none());
    assert!(community.token(fresh.eve_id).await.is_none());
}

#[tokio::test]
async fn an_alt_shares_the_account_and_accounts_can_be_out_of_use() {
    let (db, community) = community().await;
    let alice = community.add(newcomer("Alice")).await;
    let alt = community.add(newcomer("Alt").alt_of(&alice).rule(Rule::NotAMember)).await;
    assert_eq!(alt.account_id, alice.account_id);
    assert_eq!(community.eve(alt.eve_id).await.verdict.as_deref(), Some("disallowed"));
    community.add(newcomer("Blocked").blocked()).await;
    let deleted = community.add(newcomer("Later").nameless()).await;
    assert!(community.eve(deleted.eve_id).await.corporation_name.is_none());
    community.delete(deleted.account_id).await;
    community.block(alice.account_id).await;
    let in_use: i64 =
        sqlx::query_scalar("-- tests\nSELECT count(*) FROM accounts WHERE NOT is_blocked AND deleted_at IS NULL")
            .fetch_one(db.pool())
            .await
            .unwrap();
    let all: i64 = sqlx::query_scalar("-- tests\nSELECT count(*) FROM accounts").fetch_one(db.pool()).await.unwrap();
    assert_eq!((in_use, all), (0, 3));
}

#[tokio::test]
async fn sessions_have_the_documented_layout() {
    let (db, community) = community().await;
    let own = SessionSpec { is_acting: false, has_ttl: false, ..SessionSpec::default() };
    let alice = community.add(newcomer("Alice").session().session_like(own)).await;
    let later = community.open_session(&alice, SessionSpec { approved_minutes_ago: 0, ..SessionSpec::default() }).await;

    let token = alice.session_token();
    let (account, secret) = token.split_once('.').unwrap();
    assert_eq!((account, secret.len()), (alice.account_id.to_string().as_str(), 43));
    let mut redis = db.redis();
    let key = session_key(token);
    let fields: HashMap<String, String> = redis::cmd("HGETALL").arg(&key).query_async(&mut redis).await.unwrap();
    assert_eq!(fields["account_id"], alice.account_id.to_string());
    assert_eq!(fields["brand_id"], community.brand_id().to_string());
    assert_eq!(fields["character_id"], alice.character_id.to_string());
    assert_eq!(fields.len(), 9);
    let millis = |name: &str| fields[name].parse::<i64>().unwrap();
    assert_eq!(millis("last_seen_at") - millis("approved_at"), 120 * 60_000);
    assert_eq!(millis("expires_at") - millis("last_seen_at"), 720 * 60_000);
    let now = database_now(&db).await.unix_timestamp() * 1000;
    assert!((millis("last_seen_at") - now).abs() < 60_000);

    let sessions = community.sessions(alice.account_id).await;
    assert_eq!(sessions.len(), 3);
    assert!(sessions.iter().all(|session| session.is_indexed));
    assert_eq!(sessions.iter().filter(|session| session.character_id().is_none()).count(), 1);
    let expire_at: i64 = redis::cmd("PEXPIRETIME").arg(&key).query_async(&mut redis).await.unwrap();
    assert_eq!(expire_at, millis("expires_at"));
    let ttl: i64 = redis::cmd("TTL").arg(session_key(&alice.session_tokens[1])).query_async(&mut redis).await.unwrap();
    assert_eq!(ttl, -1);
    let () = redis::cmd("DEL").arg(session_key(&later)).query_async(&mut redis).await.unwrap();
    assert!(!community.has_session(&later).await && community.has_session(token).await);
}

#[tokio::test]
async fn brands_have_their_own_lists() {
    let (db, community) = community().await;
    let other = community.brand("other", &Lists::empty()).await;
    let bob = community.add(newcomer("Bob").brand(other)).await;
    assert_eq!(bob.brand_id, other);
    community.set_lists(other, &Lists { denied_alliances: vec![7], ..Lists::default() }).await;
    let denied: Vec<i64> = sqlx::query_scalar("-- tests\nSELECT denied_alliances FROM auth_config WHERE brand_id = $1")
        .bind(other)
        .fetch_one(db.pool())
        .await
        .unwrap();
    assert_eq!(denied, [7]);
}

#[tokio::test]
async fn a_crowd_of_100_000_is_there_with_its_sessions_and_tokens() {
    let (db, community) = community().await;
    let before = community.add(newcomer("first")).await;
    let crowd = community
        .crowd(100_000, |place| {
            let one = newcomer(format!("member {place}")).verified_minutes_ago(90);
            let one = if place % 10 == 0 { one.session() } else { one };
            if place % 1000 == 0 { one.token(format!("token {place}")) } else { one }
        })
        .await;
    assert_eq!(crowd.eve_id(0), before.eve_id + 1);
    let count: i64 =
        sqlx::query_scalar("-- tests\nSELECT count(*) FROM eve_characters JOIN characters c ON c.id = character_id JOIN accounts a ON a.id = c.account_id")
            .fetch_one(db.pool())
            .await
            .unwrap();
    assert_eq!(count, 100_001);
    assert_eq!(community.eve(crowd.eve_id(99_999)).await.character_id, crowd.character_id(99_999));
    assert_eq!(community.refresh_token(crowd.eve_id(98_000)).await, "token 98000");
    assert!(community.has_session(&crowd.session_token(99_990)).await);
    assert!(!community.has_session(&crowd.session_token(99_991)).await);
    assert_eq!(community.sessions(crowd.account_id(99_990)).await[0].character_id(), Some(crowd.character_id(99_990)));
}

#[tokio::test]
async fn a_fingerprint_changes_with_the_data_and_only_then() {
    let (db, community) = community().await;
    let alice = community.add(newcomer("Alice").verified_minutes_ago(10).session()).await;
    let (rough, exact) = (community.fingerprint().await, community.exact_fingerprint().await);
    assert_eq!((&community.fingerprint().await, &community.exact_fingerprint().await), (&rough, &exact));

    sqlx::query(
        "-- tests\nINSERT INTO job_runs (run_id, job, shard_count, shard_index, trigger, dry_run, version)
         VALUES ('a', 'b', 1, 0, 'local', true, '1')",
    )
    .execute(db.pool())
    .await
    .unwrap();
    assert_eq!(community.exact_fingerprint().await, exact, "the ledger does not count");
    community.make_due().await;
    assert_eq!(community.fingerprint().await, rough, "time stamps do not count");
    assert_ne!(community.exact_fingerprint().await, exact, "unless everything counts");
    community.block(alice.account_id).await;
    let blocked = community.fingerprint().await;
    assert_ne!(blocked.tables["accounts"], rough.tables["accounts"]);
    assert_eq!(blocked.tables["eve_characters"], rough.tables["eve_characters"]);
    let () = redis::cmd("DEL").arg(session_key(alice.session_token())).query_async(&mut db.redis()).await.unwrap();
    assert_ne!(community.fingerprint().await.redis, rough.redis);
}

#[tokio::test]
async fn ageing_moves_every_time_stamp_and_every_approval() {
    let (db, community) = community().await;
    let alice = community.add(newcomer("Alice").verified_minutes_ago(10).session()).await;
    let denied = format!("sess:{{{}}}:denied", alice.account_id);
    let () = redis::cmd("HSET").arg(&denied).arg("*").arg(10_000_000).query_async(&mut db.redis()).await.unwrap();
    let before = community.eve(alice.eve_id).await;
    let approved = |fields: &HashMap<String, String>| fields["approved_at"].parse::<i64>().unwrap();
    let approved_before = approved(&community.sessions(alice.account_id).await[0].fields);

    community.age(60).await;

    let after = community.eve(alice.eve_id).await;
    let hour = Duration::from_hours(1);
    assert_eq!(before.last_verified_at.unwrap() - after.last_verified_at.unwrap(), hour);
    assert_eq!(before.verdict_since.unwrap() - after.verdict_since.unwrap(), hour);
    assert!(after.last_attempted_at.is_none());
    assert_eq!(approved_before - approved(&community.sessions(alice.account_id).await[0].fields), 3_600_000);
    assert_eq!(community.marks(alice.account_id).await["*"], 6_400_000);
}
