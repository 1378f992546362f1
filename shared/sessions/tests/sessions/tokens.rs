//! What is no token, and what is no session's name.

use sessions::SessionHash;

use crate::fixture::{Redis, account, at, open};

#[tokio::test]
async fn malformed_and_unknown_tokens_are_no_sessions_and_change_nothing() {
    let redis = Redis::start().await;
    let (sessions, account) = (redis.sessions(), account());
    let token = sessions.open(&open(account, None, 5)).await.unwrap();
    let (id, secret) = token.expose().split_once('.').unwrap();
    let before = redis.contents().await;

    let wrong = [
        String::new(),
        ".".to_owned(),
        id.to_owned(),
        secret.to_owned(),
        format!("{id}{secret}"),
        format!("{id}.{}", &secret[1..]),
        format!("{id}.{secret}A"),
        format!("{id}.{}=", &secret[1..]),
        format!("{id}.{}", "A".repeat(43)),
        format!("{id}.{}", "é".repeat(22)),
        format!(" {id}.{secret}"),
        format!("{id}.{secret}\n"),
        format!("{}.{secret}", id.to_uppercase()),
        format!("{{{id}}}.{secret}"),
        format!("{}.{secret}", id.replace('-', "")),
        format!("{}.{secret}", uuid::Uuid::new_v4()),
        "a".repeat(1_000_000),
    ];
    for token in &wrong {
        assert_eq!(sessions.validate(token).await.unwrap(), None);
        assert_eq!(sessions.act_as(token, None, at(9)).await.unwrap(), None);
        assert!(!sessions.end(token).await.unwrap());
        assert_eq!(sessions.end_others(token).await.unwrap(), 0);
        assert!(sessions.issue_ticket(token).await.unwrap().is_none());
        assert_eq!(sessions.redeem_ticket(token).await.unwrap(), None);
    }
    assert_eq!(redis.contents().await, before);
    assert!(sessions.validate(token.expose()).await.unwrap().is_some());
}

#[tokio::test]
async fn session_hashes_name_nothing_but_sessions() {
    let good = "0123456789abcdef".repeat(4);
    assert_eq!(good.parse::<SessionHash>().unwrap().as_str(), good);
    for wrong in ["", "denied", "index", &good[1..], &good.to_uppercase(), &format!("{}:", &good[1..])] {
        assert!(wrong.parse::<SessionHash>().is_err(), "{wrong}");
    }
}
