//! Sessions that a take could not see, since the index does not name them: the mark ends them when they are used.

use identity::ids::{AccountId, CharacterId};
use sessions::{SessionToken, Sessions};

use crate::{
    fixture::{Redis, account, at, character, key, open, write_by_hand},
    take::{acting, take_all},
};

/// An open session that a take of its character at 100 has overlooked.
async fn overlooked(redis: &Redis, sessions: &Sessions, approved_at: i64) -> (AccountId, CharacterId, SessionToken) {
    let (account, left) = (account(), character());
    let token = sessions.open(&open(account, Some(left), approved_at)).await.expect("a session");
    redis.exec(&format!("DEL sess:{{{account}}}:index")).await;
    assert_eq!(take_all(sessions, &[acting(account, left, 100)]).await[0].removed, []);
    (account, left, token)
}

async fn exists(redis: &Redis, account: AccountId, token: &SessionToken) -> bool {
    redis.query(&format!("EXISTS {}", key(account, token))).await
}

#[tokio::test]
async fn validating_ends_a_session_approved_before_the_mark_of_its_character_only() {
    let redis = Redis::start().await;
    let sessions = redis.sessions();
    for (approved_at, lives) in [(99, false), (100, true), (101, true)] {
        let (account, _, token) = overlooked(&redis, &sessions, approved_at).await;
        assert_eq!(sessions.validate(token.expose()).await.unwrap().is_some(), lives, "approved at {approved_at}");
        assert_eq!(exists(&redis, account, &token).await, lives, "approved at {approved_at}");
        assert_eq!(sessions.list(account).await.unwrap().len(), usize::from(lives), "approved at {approved_at}");
    }
    let (account, _, token) = overlooked(&redis, &sessions, 99).await;
    redis.exec(&format!("HSET {} character_id {}", key(account, &token), character())).await;
    assert!(sessions.validate(token.expose()).await.unwrap().is_some(), "another character's mark");
}

#[tokio::test]
async fn validating_ends_sessions_approved_before_the_mark_of_the_account() {
    let redis = Redis::start().await;
    let (sessions, account) = (redis.sessions(), account());
    let mut tokens = Vec::new();
    for (character, approved_at) in [(Some(character()), 99), (None, 99), (None, 100)] {
        tokens.push(sessions.open(&open(account, character, approved_at)).await.unwrap());
    }
    redis.exec(&format!("HSET sess:{{{account}}}:denied * 100")).await;
    for (token, lives) in tokens.iter().zip([false, false, true]) {
        assert_eq!(sessions.validate(token.expose()).await.unwrap().is_some(), lives);
    }
}

#[tokio::test]
async fn the_mark_finds_a_character_in_capitals_and_an_approval_that_cannot_be_read() {
    let redis = Redis::start().await;
    let (sessions, account, left) = (redis.sessions(), account(), character());
    redis.exec(&format!("HSET sess:{{{account}}}:denied {left} 100")).await;
    let capitals = left.to_string().to_uppercase();
    for (hash, character, approved_at, lives) in
        [("a", &capitals, "99", false), ("b", &capitals, "100", true), ("c", &left.to_string(), "never", false)]
    {
        let hash = hash.repeat(64);
        let key = write_by_hand(&redis, account, &hash, character, 5).await;
        redis.exec(&format!("HSET {key} approved_at {approved_at}")).await;
        let session = sessions.validate_hash(account, &hash.parse().unwrap()).await.unwrap();
        assert_eq!(session.is_some(), lives, "approved at {approved_at}");
    }
}

#[tokio::test]
async fn a_marked_session_gets_no_ticket_redeems_none_and_acts_as_nobody_else() {
    let redis = Redis::start().await;
    let sessions = redis.sessions();

    let (account, _, token) = overlooked(&redis, &sessions, 99).await;
    assert!(sessions.issue_ticket(token.expose()).await.unwrap().is_none());
    assert!(!exists(&redis, account, &token).await);

    let (account, left) = (crate::fixture::account(), character());
    let token = sessions.open(&open(account, Some(left), 99)).await.unwrap();
    let ticket = sessions.issue_ticket(token.expose()).await.unwrap().unwrap();
    redis.exec(&format!("DEL sess:{{{account}}}:index")).await;
    take_all(&sessions, &[acting(account, left, 100)]).await;
    assert_eq!(sessions.redeem_ticket(ticket.expose()).await.unwrap(), None);
    assert!(!exists(&redis, account, &token).await);

    let (account, _, token) = overlooked(&redis, &sessions, 99).await;
    assert_eq!(sessions.act_as(token.expose(), Some(character()), at(200)).await.unwrap(), None);
    assert!(!exists(&redis, account, &token).await);
}
