//! Takes, marks, receipts, probes.

use std::collections::BTreeSet;

use identity::ids::{AccountId, CharacterId};
use sessions::{Gate, Probe, SessionError, Sessions, Take, Taken, UnknownGate};
use uuid::Uuid;

use crate::fixture::{Redis, account, at, character, key, open, write_by_hand};

pub(crate) fn acting(account_id: AccountId, character_id: CharacterId, observed_at: i64) -> Take {
    Take { account_id, gate: Gate::Acting, character_id, observed_at: at(observed_at), receipt: Uuid::new_v4() }
}

/// Carries out takes of accounts whose keys are in order.
pub(crate) async fn take_all(sessions: &Sessions, takes: &[Take]) -> Vec<Taken> {
    sessions.take(takes).await.expect("Redis answers").into_iter().map(|taken| taken.expect("keys in order")).collect()
}

pub(crate) fn probe_of(take: &Take) -> Probe {
    Probe {
        account_id: take.account_id,
        gate: take.gate,
        character_id: take.character_id,
        observed_at: take.observed_at,
    }
}

#[test]
fn gates_are_parsed_from_their_names_alone() {
    for gate in [Gate::Acting, Gate::Primary, Gate::Any] {
        assert_eq!(gate.to_string().parse(), Ok(gate));
    }
    for wrong in ["", "Acting", "all", "acting "] {
        assert_eq!(wrong.parse::<Gate>(), Err(UnknownGate));
    }
}

#[tokio::test]
async fn the_acting_gate_takes_older_sessions_of_the_character_only() {
    let redis = Redis::start().await;
    let (sessions, account, left, stayed) = (redis.sessions(), account(), character(), character());
    let older = sessions.open(&open(account, Some(left), 99)).await.unwrap();
    let older_created: i64 = redis.query(&format!("HGET {} created_at", key(account, &older))).await;
    let same = sessions.open(&open(account, Some(left), 100)).await.unwrap();
    let other = sessions.open(&open(account, Some(stayed), 1)).await.unwrap();
    let plain = sessions.open(&open(account, None, 1)).await.unwrap();

    let taken = take_all(&sessions, &[acting(account, left, 100)]).await;

    assert_eq!(taken.len(), 1);
    assert!(!taken[0].replayed);
    assert_eq!(taken[0].removed.len(), 1);
    let removed = &taken[0].removed[0];
    assert_eq!((&removed.hash, removed.character_id), (&older.hash(), Some(left)));
    assert_eq!((removed.approved_at, removed.created_at), (at(99), at(older_created)));
    assert_eq!(removed.client_type, "web");

    assert_eq!(sessions.validate(older.expose()).await.unwrap(), None);
    for token in [same, other, plain] {
        assert!(sessions.validate(token.expose()).await.unwrap().is_some());
    }
    assert_eq!(redis.query::<u32>(&format!("ZCARD sess:{{{account}}}:index")).await, 3);
    let refused = sessions.open(&open(account, Some(left), 99)).await;
    assert!(matches!(refused, Err(SessionError::Refused { observed_at, .. }) if observed_at == at(100)), "{refused:?}");
    sessions.open(&open(account, Some(left), 100)).await.unwrap();
    sessions.open(&open(account, Some(stayed), 1)).await.unwrap();
}

#[tokio::test]
async fn the_other_gates_take_the_whole_account() {
    for gate in [Gate::Primary, Gate::Any] {
        let redis = Redis::start().await;
        let (sessions, account, left) = (redis.sessions(), account(), character());
        let mut tokens = Vec::new();
        for character in [Some(left), Some(character()), None] {
            tokens.push(sessions.open(&open(account, character, 99)).await.unwrap().hash());
        }
        sessions.open(&open(account, Some(left), 100)).await.unwrap();

        let taken = take_all(&sessions, &[Take { gate, ..acting(account, left, 100) }]).await;

        let removed: BTreeSet<_> = taken[0].removed.iter().map(|session| session.hash.clone()).collect();
        assert_eq!(removed, tokens.into_iter().collect());
        assert_eq!(sessions.list(account).await.unwrap().len(), 1);
        assert_eq!(redis.query::<i64>(&format!("HGET sess:{{{account}}}:denied *")).await, 100);
        for character in [Some(character()), None] {
            assert!(matches!(sessions.open(&open(account, character, 99)).await, Err(SessionError::Refused { .. })));
        }
    }
}

#[tokio::test]
async fn a_mark_is_never_lowered_and_ends_after_a_day() {
    let redis = Redis::start().await;
    let (sessions, account, left) = (redis.sessions(), account(), character());
    let denied = format!("sess:{{{account}}}:denied");
    for (observed_at, mark) in [(100, 100), (50, 100), (150, 150)] {
        take_all(&sessions, &[acting(account, left, observed_at)]).await;
        assert_eq!(redis.query::<i64>(&format!("HGET {denied} {left}")).await, mark);
        sessions.mark_and_probe(&[probe_of(&acting(account, left, observed_at - 1))]).await.unwrap();
        assert_eq!(redis.query::<i64>(&format!("HGET {denied} {left}")).await, mark);
    }
    let left: i64 = redis.query(&format!("PTTL {denied}")).await;
    assert!((23 * 3_600_000..=24 * 3_600_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_repeated_take_changes_nothing_and_answers_the_same() {
    let redis = Redis::start().await;
    let (sessions, account, left) = (redis.sessions(), account(), character());
    for _ in 0..3 {
        sessions.open(&open(account, Some(left), 99)).await.unwrap();
    }
    let (take, nothing) = (acting(account, left, 100), acting(account, left, 90));
    let first = take_all(&sessions, &[take, nothing]).await;
    assert_eq!((first[0].removed.len(), first[1].removed.len()), (3, 0));
    // Whatever turns up later belongs to another take.
    write_by_hand(&redis, account, &"ab".repeat(32), &left.to_string(), 1).await;
    redis.exec(&format!("DEL sess:{{{account}}}:denied")).await;
    let before = redis.contents().await;

    let again = take_all(&sessions, &[nothing, take]).await;

    assert!(first.iter().all(|taken| !taken.replayed) && again.iter().all(|taken| taken.replayed));
    assert_eq!(again[1].removed, first[0].removed);
    assert_eq!(again[0].removed, []);
    assert_eq!(redis.contents().await, before);

    let left: i64 = redis.query(&format!("PTTL sess:{{{account}}}:receipt:{}", take.receipt)).await;
    assert!((6 * 86_400_000..=7 * 86_400_000).contains(&left), "{left}");
}

#[tokio::test]
async fn forgotten_receipts_are_gone() {
    let redis = Redis::start().await;
    let (sessions, left) = (redis.sessions(), character());
    let takes: Vec<Take> = (0..450).map(|_| acting(account(), left, 100)).collect();
    take_all(&sessions, &takes).await;
    assert_eq!(redis.query::<Vec<String>>("KEYS *:receipt:*").await.len(), 450);

    let receipts: Vec<_> = takes[1..].iter().map(|take| (take.account_id, take.receipt)).collect();
    sessions.forget_receipts(&receipts).await.unwrap();
    sessions.forget_receipts(&receipts).await.unwrap();

    let kept = format!("sess:{{{}}}:receipt:{}", takes[0].account_id, takes[0].receipt);
    assert_eq!(redis.query::<Vec<String>>("KEYS *:receipt:*").await, [kept]);
}

#[tokio::test]
async fn many_takes_are_answered_in_their_order() {
    let redis = Redis::start().await;
    let (sessions, left) = (redis.sessions(), character());
    let mut takes = Vec::new();
    let mut expected = Vec::new();
    for i in 0..450 {
        let account = account();
        let mut hashes = BTreeSet::new();
        for _ in 0..i % 3 {
            hashes.insert(sessions.open(&open(account, Some(left), 99)).await.unwrap().hash());
        }
        takes.push(acting(account, left, 100));
        expected.push(hashes);
    }
    let accounts: Vec<AccountId> = takes.iter().map(|take| take.account_id).collect();
    let probes: Vec<Probe> = takes.iter().map(probe_of).collect();
    let counts: Vec<u32> = expected.iter().map(|hashes| u32::try_from(hashes.len()).unwrap()).collect();
    let live: Vec<bool> = counts.iter().map(|count| *count > 0).collect();

    assert_eq!(sessions.probe(&probes).await.unwrap(), counts);
    assert_eq!(sessions.mark_and_probe(&probes).await.unwrap(), counts.iter().copied().map(Some).collect::<Vec<_>>());
    assert_eq!(sessions.has_live_sessions(&accounts).await.unwrap(), live);
    let taken = take_all(&sessions, &takes).await;

    let removed: Vec<BTreeSet<_>> =
        taken.into_iter().map(|taken| taken.removed.into_iter().map(|session| session.hash).collect()).collect();
    assert_eq!(removed, expected);
    assert_eq!(sessions.has_live_sessions(&accounts).await.unwrap(), [false; 450]);
    assert_eq!(take_all(&sessions, &[]).await, []);
}

#[tokio::test]
async fn marking_refuses_older_approvals_and_takes_no_session() {
    let redis = Redis::start().await;
    let (sessions, account, left) = (redis.sessions(), account(), character());
    sessions.open(&open(account, Some(left), 99)).await.unwrap();
    sessions.open(&open(account, Some(left), 100)).await.unwrap();
    sessions.open(&open(account, None, 1)).await.unwrap();

    let observed = probe_of(&acting(account, left, 100));
    assert_eq!(sessions.mark_and_probe(&[observed]).await.unwrap(), [Some(1)]);

    assert_eq!(sessions.list(account).await.unwrap().len(), 3);
    assert!(matches!(sessions.open(&open(account, Some(left), 99)).await, Err(SessionError::Refused { .. })));
    let whole = Probe { gate: Gate::Primary, ..observed };
    assert_eq!(sessions.mark_and_probe(&[whole]).await.unwrap(), [Some(2)]);
    assert_eq!(redis.query::<i64>(&format!("HGET sess:{{{account}}}:denied *")).await, 100);
}

#[tokio::test]
async fn looking_writes_nothing() {
    let redis = Redis::start().await;
    let (sessions, account, left) = (redis.sessions(), account(), character());
    sessions.open(&open(account, Some(left), 99)).await.unwrap();
    sessions.open(&open(account, Some(left), 100)).await.unwrap();
    sessions.open(&open(account, None, 1)).await.unwrap();
    let hash = "cd".repeat(32);
    let dead = write_by_hand(&redis, account, &hash, &left.to_string(), 1).await;
    redis.exec(&format!("HSET {dead} expires_at 1")).await;
    redis.exec(&format!("ZADD sess:{{{account}}}:index 1 {}", "ef".repeat(32))).await;
    let (contents, changes) = (redis.contents().await, redis.changes().await);

    let observed = probe_of(&acting(account, left, 100));
    let gates = [Gate::Acting, Gate::Primary, Gate::Any].map(|gate| Probe { gate, ..observed });
    assert_eq!(sessions.probe(&gates).await.unwrap(), [1, 2, 2]);
    assert_eq!(sessions.has_live_sessions(&[account, crate::fixture::account()]).await.unwrap(), [true, false]);
    assert_eq!(sessions.find_acting(account, left).await.unwrap().len(), 2);
    assert_eq!(sessions.find_acting(account, character()).await.unwrap(), []);

    assert_eq!(redis.contents().await, contents);
    assert_eq!(redis.changes().await, changes);
}
