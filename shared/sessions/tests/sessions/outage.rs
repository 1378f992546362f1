//! What callers see when Redis fails, and what they never see.

use sessions::SessionError;

use crate::fixture::{Redis, account, open};

#[tokio::test]
async fn a_server_that_is_gone_is_unavailable_and_no_error_holds_the_token() {
    let mut redis = Redis::start().await;
    let (sessions, account) = (redis.sessions(), account());
    let token = sessions.open(&open(account, None, 5)).await.unwrap();
    redis.stop();

    let error = sessions.validate(token.expose()).await.unwrap_err();

    assert!(matches!(error, SessionError::Unavailable(_)), "{error:?}");
    let secret = token.expose().split_once('.').unwrap().1;
    assert!(!format!("{error} {error:?}").contains(secret));
}

#[tokio::test]
async fn a_server_out_of_memory_is_unavailable_for_now() {
    let redis = Redis::start().await;
    let (sessions, account) = (redis.sessions(), account());
    redis.exec("CONFIG SET maxmemory 1").await;

    assert!(matches!(sessions.open(&open(account, None, 5)).await, Err(SessionError::Unavailable(_))));
    let take = crate::take::acting(account, crate::fixture::character(), 5);
    assert!(matches!(sessions.take(&[take]).await, Err(SessionError::Unavailable(_))));

    redis.exec("CONFIG SET maxmemory 0").await;
    sessions.open(&open(account, None, 5)).await.unwrap();
}

#[tokio::test]
async fn scripts_come_back_after_the_server_forgot_them() {
    let redis = Redis::start().await;
    let (sessions, account) = (redis.sessions(), account());
    let token = sessions.open(&open(account, None, 5)).await.unwrap();
    for _ in 0..2 {
        redis.exec("SCRIPT FLUSH").await;
        assert!(sessions.validate(token.expose()).await.unwrap().is_some());
        redis.exec("SCRIPT FLUSH").await;
        assert_eq!(sessions.has_live_sessions(&[account]).await.unwrap(), [true]);
    }
}
