//! Keys of another type, which some other program or hand left: they spoil their own account and no other.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use identity::ids::AccountId;
use sessions::{SessionError, Sessions, Take};
use tracing_subscriber::fmt::MakeWriter;

use crate::{
    fixture::{Redis, account, character, key, open, write_by_hand},
    take::{acting, probe_of, take_all},
};

/// The log of this test.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("the log").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    /// What was logged since the last call.
    fn lines(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().expect("the log"));
        String::from_utf8(bytes).expect("lines of text").lines().map(str::to_owned).collect()
    }

    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        tracing::subscriber::set_default(tracing_subscriber::fmt().with_ansi(false).with_writer(self.clone()).finish())
    }
}

/// Takes on three accounts with a session that is hit; the keys of the middle one are then spoilt.
async fn three(redis: &Redis, sessions: &Sessions) -> [Take; 3] {
    let takes = [(); 3].map(|()| acting(account(), character(), 100));
    for take in &takes {
        sessions.open(&open(take.account_id, Some(take.character_id), 99)).await.expect("a session");
    }
    // So that nothing but the spoilt key is wrong with it.
    redis.exec(&format!("DEL sess:{{{}}}:denied", takes[1].account_id)).await;
    takes
}

async fn spoil(redis: &Redis, account: AccountId, name: &str) -> String {
    let key = format!("sess:{{{account}}}:{name}");
    redis.exec(&format!("DEL {key}")).await;
    redis.exec(&format!("RPUSH {key} junk")).await;
    key
}

#[tokio::test]
async fn junk_of_one_account_spoils_its_own_take_alone_and_is_told_once() {
    let redis = Redis::start().await;
    let (sessions, log) = (redis.sessions(), Log::default());
    let _listening = log.listen();
    for spoilt in ["index", "denied", "receipt"] {
        let takes = three(&redis, &sessions).await;
        let name = if spoilt == "receipt" { format!("receipt:{}", takes[1].receipt) } else { spoilt.to_owned() };
        let key = spoil(&redis, takes[1].account_id, &name).await;
        let pattern = format!("KEYS sess:{{{}}}:*", takes[1].account_id);
        let before: Vec<String> = redis.query(&pattern).await;

        let results = sessions.take(&takes).await.unwrap();

        let removed: Vec<_> = results.iter().map(|taken| taken.as_ref().map(|taken| taken.removed.len())).collect();
        assert_eq!(removed, [Some(1), None, Some(1)], "{spoilt}");
        assert_eq!(redis.query::<Vec<String>>(&pattern).await.len(), before.len(), "{spoilt}: nothing is half done");
        let lines = log.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("WARN") && lines[0].contains(&key), "{lines:?}");
        assert!(lines[0].contains(&format!("account_id={}", takes[1].account_id)), "{lines:?}");

        // Cleaned up, the same take goes through.
        redis.exec(&format!("DEL {key}")).await;
        assert!(sessions.take(&takes).await.unwrap().iter().all(Option::is_some), "{spoilt}");
        assert_eq!(log.lines(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_receipt_that_cannot_be_read_spoils_its_own_take_alone() {
    let redis = Redis::start().await;
    let (sessions, log) = (redis.sessions(), Log::default());
    let _listening = log.listen();
    let takes = three(&redis, &sessions).await;
    let key = format!("sess:{{{}}}:receipt:{}", takes[1].account_id, takes[1].receipt);
    redis.exec(&format!("SET {key} [{{")).await;

    let removed: Vec<_> =
        sessions.take(&takes).await.unwrap().into_iter().map(|taken| taken.map(|taken| taken.removed.len())).collect();

    assert_eq!(removed, [Some(1), None, Some(1)]);
    let lines = log.lines();
    assert!(lines.len() == 1 && lines[0].contains(&key), "{lines:?}");
}

#[tokio::test]
async fn junk_of_one_account_spoils_its_own_mark_alone_and_is_told_once() {
    let redis = Redis::start().await;
    let (sessions, log) = (redis.sessions(), Log::default());
    let _listening = log.listen();
    for spoilt in ["index", "denied"] {
        let takes = three(&redis, &sessions).await;
        let key = spoil(&redis, takes[1].account_id, spoilt).await;

        let counts = sessions.mark_and_probe(&takes.each_ref().map(probe_of)).await.unwrap();

        assert_eq!(counts, [Some(1), None, Some(1)], "{spoilt}");
        let lines = log.lines();
        assert!(lines.len() == 1 && lines[0].contains(&key), "{lines:?}");
        assert!(lines[0].contains(&format!("account_id={}", takes[1].account_id)), "{lines:?}");
        for take in [takes[0], takes[2]] {
            let mark: i64 =
                redis.query(&format!("HGET sess:{{{}}}:denied {}", take.account_id, take.character_id)).await;
            assert_eq!(mark, 100);
        }
    }
}

#[tokio::test]
async fn looking_passes_over_an_index_of_another_type_and_writes_nothing() {
    let redis = Redis::start().await;
    let sessions = redis.sessions();
    let takes = three(&redis, &sessions).await;
    spoil(&redis, takes[1].account_id, "index").await;
    spoil(&redis, takes[2].account_id, "denied").await;
    let before = redis.contents().await;

    assert_eq!(sessions.probe(&takes.each_ref().map(probe_of)).await.unwrap(), [1, 0, 1]);
    assert_eq!(sessions.has_live_sessions(&takes.map(|take| take.account_id)).await.unwrap(), [true, false, true]);
    assert_eq!(sessions.find_acting(takes[1].account_id, takes[1].character_id).await.unwrap(), []);

    assert_eq!(redis.contents().await, before);
}

#[tokio::test]
async fn a_session_key_of_another_type_is_no_session_and_saves_no_other() {
    let redis = Redis::start().await;
    let (sessions, account, left) = (redis.sessions(), account(), character());
    let token = sessions.open(&open(account, Some(left), 99)).await.unwrap();
    write_by_hand(&redis, account, &"a".repeat(64), &left.to_string(), 99).await;
    redis.exec(&format!("DEL {}", key(account, &token))).await;
    redis.exec(&format!("RPUSH {} junk", key(account, &token))).await;
    let take = acting(account, left, 100);

    assert_eq!(sessions.probe(&[probe_of(&take)]).await.unwrap(), [1]);
    assert_eq!(sessions.mark_and_probe(&[probe_of(&take)]).await.unwrap(), [Some(1)]);
    assert_eq!(take_all(&sessions, &[take]).await[0].removed.len(), 1);
}

/// Nobody gets in past marks that cannot be read, and ending all sessions never says "none" without having looked.
#[tokio::test]
async fn using_sessions_beside_junk_is_broken_not_unavailable() {
    let redis = Redis::start().await;
    let (sessions, account) = (redis.sessions(), account());
    let token = sessions.open(&open(account, None, 5)).await.unwrap();
    let marks = spoil(&redis, account, "denied").await;
    assert!(matches!(sessions.open(&open(account, None, 5)).await, Err(SessionError::Broken(_))));
    assert!(matches!(sessions.validate(token.expose()).await, Err(SessionError::Broken(_))));
    redis.exec(&format!("DEL {marks}")).await;

    spoil(&redis, account, "index").await;
    assert!(matches!(sessions.list(account).await, Err(SessionError::Broken(_))));
    assert!(matches!(sessions.end_all(account).await, Err(SessionError::Broken(_))));
}
