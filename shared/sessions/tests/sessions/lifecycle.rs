//! Opening, validating, acting, listing, ending, tickets.

use std::{collections::BTreeMap, time::Duration};

use sessions::{MAX_SESSIONS_PER_ACCOUNT, SessionError, Settings};

use crate::fixture::{Redis, account, at, character, key, open};

#[tokio::test]
async fn an_opened_session_has_the_documented_layout() {
    let redis = Redis::start().await;
    let (account, character) = (account(), character());

    let token = redis.sessions().open(&open(account, Some(character), 1_700_000_000_123)).await.unwrap();

    let (id, secret) = token.expose().split_once('.').unwrap();
    assert_eq!(id, account.to_string());
    assert_eq!(secret.len(), 43);
    assert_eq!(format!("{token:?}"), "SessionToken(redacted)");

    let stored: BTreeMap<String, String> = redis.query(&format!("HGETALL {}", key(account, &token))).await;
    let names: Vec<&str> = stored.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "account_id",
            "approved_at",
            "brand_id",
            "character_id",
            "client_type",
            "created_at",
            "expires_at",
            "last_seen_at",
            "role"
        ]
    );
    assert_eq!(stored["account_id"], account.to_string());
    assert_eq!(stored["character_id"], character.to_string());
    assert_eq!(stored["approved_at"], "1700000000123");
    assert_eq!(stored["client_type"], "web");
    assert_eq!(stored["role"], "player");
    let created: i64 = stored["created_at"].parse().unwrap();
    assert!((redis.now().await - created).abs() < 60_000);
    assert_eq!(stored["last_seen_at"], stored["created_at"]);
    assert_eq!(stored["expires_at"], (created + 30 * 86_400_000).to_string());

    let score: i64 = redis.query(&format!("ZSCORE sess:{{{account}}}:index {}", token.hash())).await;
    assert_eq!(score.to_string(), stored["expires_at"]);
    let index_end: i64 = redis.query(&format!("PEXPIRETIME sess:{{{account}}}:index")).await;
    assert_eq!(index_end, score);
    let left: i64 = redis.query(&format!("PTTL {}", key(account, &token))).await;
    assert!((6 * 86_400_000..=7 * 86_400_000).contains(&left), "{left}");
    assert_eq!(redis.contents().await.len(), 2);
}

#[tokio::test]
async fn validating_marks_the_session_as_seen_and_prolongs_it_within_its_absolute_end() {
    let redis = Redis::start().await;
    let (sessions, account, character) = (redis.sessions(), account(), character());
    let token = sessions.open(&open(account, Some(character), 5)).await.unwrap();
    let key = key(account, &token);
    let now = redis.now().await;
    redis.exec(&format!("HSET {key} last_seen_at {} expires_at {}", now - 90_000, now + 100_000)).await;
    redis.exec(&format!("PEXPIRE {key} 50000")).await;

    let session = sessions.validate(token.expose()).await.unwrap().unwrap();

    assert_eq!(session.hash, token.hash());
    assert_eq!((session.account_id, session.character_id), (account, Some(character)));
    assert_eq!((session.approved_at, session.expires_at), (at(5), at(now + 100_000)));
    assert!(session.last_seen_at >= at(now));
    let seen: i64 = redis.query(&format!("HGET {key} last_seen_at")).await;
    assert_eq!(at(seen), session.last_seen_at);
    let left: i64 = redis.query(&format!("PTTL {key}")).await;
    assert!((50_001..=100_000).contains(&left), "{left}");
    assert_eq!(sessions.validate_hash(account, &token.hash()).await.unwrap().unwrap().hash, session.hash);
}

#[tokio::test]
async fn a_session_past_its_idle_or_absolute_end_is_gone_and_leaves_the_index() {
    let redis = Redis::start().await;
    let (sessions, account) = (redis.sessions(), account());
    let now = redis.now().await;
    for past in [format!("last_seen_at {}", now - 7 * 86_400_000), format!("expires_at {now}")] {
        let token = sessions.open(&open(account, None, 5)).await.unwrap();
        redis.exec(&format!("HSET {} {past}", key(account, &token))).await;

        assert_eq!(sessions.validate(token.expose()).await.unwrap(), None, "{past}");

        let left: (u32, Option<i64>) = (
            redis.query(&format!("EXISTS {}", key(account, &token))).await,
            redis.query(&format!("ZSCORE sess:{{{account}}}:index {}", token.hash())).await,
        );
        assert_eq!(left, (0, None), "{past}");
    }
}

#[tokio::test]
async fn an_open_is_refused_by_a_younger_mark_of_its_character_or_account_only() {
    let redis = Redis::start().await;
    let (sessions, account, left, stayed) = (redis.sessions(), account(), character(), character());
    redis.exec(&format!("HSET sess:{{{account}}}:denied {left} 200 * 100")).await;

    for (character_id, approved_at, mark) in [
        (Some(left), 199, Some(200)),
        (Some(left), 200, None),
        (Some(left), 201, None),
        (Some(stayed), 99, Some(100)),
        (Some(stayed), 100, None),
        (None, 99, Some(100)),
        (None, 100, None),
    ] {
        let opened = sessions.open(&open(account, character_id, approved_at)).await;
        match (opened, mark) {
            (Ok(_), None) => {}
            (Err(SessionError::Refused { character, observed_at }), Some(mark)) => {
                assert_eq!((character, observed_at), (character_id, at(mark)));
            }
            other => panic!("{character_id:?} approved at {approved_at}: {other:?}"),
        }
    }
    assert_eq!(sessions.list(account).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_session_acts_as_another_character_unless_a_mark_is_younger() {
    let redis = Redis::start().await;
    let (sessions, account, one, other) = (redis.sessions(), account(), character(), character());
    let token = sessions.open(&open(account, None, 10)).await.unwrap();

    let acting = sessions.act_as(token.expose(), Some(one), at(50)).await.unwrap().unwrap();
    assert_eq!((acting.character_id, acting.approved_at), (Some(one), at(50)));
    assert_eq!(sessions.validate(token.expose()).await.unwrap().unwrap().character_id, Some(one));

    // A step that overtook an older one to the same character keeps the younger approval.
    let late = sessions.act_as(token.expose(), Some(one), at(40)).await.unwrap().unwrap();
    assert_eq!(late.approved_at, at(50));

    redis.exec(&format!("HSET sess:{{{account}}}:denied {other} 60")).await;
    let refused = sessions.act_as(token.expose(), Some(other), at(59)).await;
    assert!(
        matches!(refused, Err(SessionError::Refused { character, observed_at }) if character == Some(other) && observed_at == at(60)),
        "{refused:?}"
    );
    let kept = sessions.validate(token.expose()).await.unwrap().unwrap();
    assert_eq!((kept.character_id, kept.approved_at), (Some(one), at(50)));

    // To another character the approval is that character's, also when it is older.
    let changed = sessions.act_as(token.expose(), None, at(45)).await.unwrap().unwrap();
    assert_eq!((changed.character_id, changed.approved_at), (None, at(45)));
    let stored: String = redis.query(&format!("HGET {} character_id", key(account, &token))).await;
    assert_eq!(stored, "");

    redis.exec(&format!("HSET sess:{{{account}}}:denied * 44")).await;
    assert!(matches!(
        sessions.act_as(token.expose(), None, at(43)).await,
        Err(SessionError::Refused { character: None, .. })
    ));
    assert!(sessions.act_as(token.expose(), Some(other), at(60)).await.unwrap().is_some());
}

#[tokio::test]
async fn the_list_is_young_first_and_drops_the_dead() {
    let redis = Redis::start().await;
    let (sessions, account) = (redis.sessions(), account());
    let now = redis.now().await;
    let mut tokens = Vec::new();
    for age in [30, 10, 20, 40] {
        let token = sessions.open(&open(account, None, 5)).await.unwrap();
        redis.exec(&format!("HSET {} created_at {}", key(account, &token), now - age)).await;
        tokens.push(token);
    }
    redis.exec(&format!("DEL {}", key(account, &tokens[3]))).await;
    sessions.open(&open(crate::fixture::account(), None, 5)).await.unwrap();

    let hashes: Vec<_> = sessions.list(account).await.unwrap().into_iter().map(|session| session.hash).collect();

    assert_eq!(hashes, [tokens[1].hash(), tokens[2].hash(), tokens[0].hash()]);
    assert_eq!(redis.query::<u32>(&format!("ZCARD sess:{{{account}}}:index")).await, 3);
}

#[tokio::test]
async fn at_the_limit_the_session_unseen_for_longest_makes_room() {
    let redis = Redis::start().await;
    let (sessions, account) = (redis.sessions(), account());
    let mut tokens = Vec::new();
    for _ in 0..MAX_SESSIONS_PER_ACCOUNT {
        tokens.push(sessions.open(&open(account, None, 5)).await.unwrap());
    }
    let now = redis.now().await;
    redis.exec(&format!("HSET {} last_seen_at {}", key(account, &tokens[17]), now - 100_000)).await;

    tokens.push(sessions.open(&open(account, None, 5)).await.unwrap());

    assert_eq!(sessions.list(account).await.unwrap().len(), MAX_SESSIONS_PER_ACCOUNT);
    for (i, token) in tokens.iter().enumerate() {
        assert_eq!(sessions.validate(token.expose()).await.unwrap().is_some(), i != 17, "session {i}");
    }
}

#[tokio::test]
async fn sessions_end_one_by_one_or_all_but_one_or_all() {
    let redis = Redis::start().await;
    let (sessions, account) = (redis.sessions(), account());
    let mut tokens = Vec::new();
    for _ in 0..6 {
        tokens.push(sessions.open(&open(account, None, 5)).await.unwrap());
    }
    let elsewhere = sessions.open(&open(crate::fixture::account(), None, 5)).await.unwrap();

    assert!(sessions.end(tokens[0].expose()).await.unwrap());
    assert!(!sessions.end(tokens[0].expose()).await.unwrap());
    assert_eq!(sessions.validate(tokens[0].expose()).await.unwrap(), None);
    assert!(sessions.end_one(account, &tokens[1].hash()).await.unwrap());
    assert_eq!(sessions.list(account).await.unwrap().len(), 4);

    assert_eq!(sessions.end_others(tokens[0].expose()).await.unwrap(), 0, "a token that is over ends nothing");
    assert_eq!(sessions.end_others(tokens[2].expose()).await.unwrap(), 3);
    assert_eq!(sessions.list(account).await.unwrap()[0].hash, tokens[2].hash());

    assert_eq!(sessions.end_all(account).await.unwrap(), 1);
    assert_eq!(sessions.end_all(account).await.unwrap(), 0);
    assert!(sessions.validate(elsewhere.expose()).await.unwrap().is_some());
    assert_eq!(redis.contents().await.len(), 2, "only the other account's session and index are left");
}

#[tokio::test]
async fn a_ticket_works_once_for_half_a_minute_while_its_session_lives() {
    let redis = Redis::start().await;
    let (sessions, account) = (redis.sessions(), account());
    let token = sessions.open(&open(account, None, 5)).await.unwrap();

    let ticket = sessions.issue_ticket(token.expose()).await.unwrap().unwrap();
    assert_eq!(format!("{ticket:?}"), "Ticket(redacted)");
    let keys: Vec<String> = redis.query("KEYS *:ticket:*").await;
    let left: i64 = redis.query(&format!("PTTL {}", keys[0])).await;
    assert!((1..=30_000).contains(&left), "{left}");
    assert_eq!(sessions.validate(ticket.expose()).await.unwrap(), None, "a ticket is no token");

    assert_eq!(sessions.redeem_ticket(ticket.expose()).await.unwrap().unwrap().hash, token.hash());
    assert_eq!(sessions.redeem_ticket(ticket.expose()).await.unwrap(), None);
    assert_eq!(sessions.redeem_ticket(token.expose()).await.unwrap(), None, "a token is no ticket");

    let ticket = sessions.issue_ticket(token.expose()).await.unwrap().unwrap();
    sessions.end(token.expose()).await.unwrap();
    assert_eq!(sessions.redeem_ticket(ticket.expose()).await.unwrap(), None);
    assert!(sessions.issue_ticket(token.expose()).await.unwrap().is_none());
    assert_eq!(redis.contents().await, []);
}

#[tokio::test]
async fn life_times_follow_the_settings() {
    let redis = Redis::start().await;
    let account = account();
    let settings =
        Settings { idle: Duration::from_secs(500), absolute: Duration::from_secs(400), ..Settings::default() };

    let token = redis.sessions_with(settings).open(&open(account, None, 5)).await.unwrap();

    let left: i64 = redis.query(&format!("PTTL {}", key(account, &token))).await;
    assert!((300_000..=400_000).contains(&left), "{left}");
    let shorter = Settings { idle: Duration::from_millis(1), ..settings };
    redis.exec(&format!("HINCRBY {} last_seen_at -1", key(account, &token))).await;
    assert_eq!(redis.sessions_with(shorter).validate(token.expose()).await.unwrap(), None);
}
