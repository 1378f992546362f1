//! What races an invalidation: logins, and a character that moves to another account.

use std::{collections::BTreeMap, time::Duration};

use harness::{Crowd, Member, STRANGERS, newcomer};
use sessions::{EpochMillis, SessionError, Sessions};
use suites::Stage;

use crate::support::{PATIENCE, client, login, move_to, now, verify, waits_for_a_lock};

/// What became of an attempt to get in.
struct Attempt {
    approved_at: EpochMillis,
    /// None: refused.
    token: Option<String>,
}

fn member(stage: &Stage, crowd: &Crowd, place: usize) -> Member {
    Member {
        name: String::new(),
        brand_id: stage.community.brand_id(),
        account_id: crowd.account_id(place),
        character_id: crowd.character_id(place),
        eve_id: crowd.eve_id(place),
        session_tokens: Vec::new(),
    }
}

/// Logs in, or opens a session of the account and then acts as the character, on an approval read some time ago.
async fn attempt(sessions: &Sessions, member: &Member, approved_at: EpochMillis, by_act_as: bool) -> Attempt {
    let mut open = login(member, approved_at);
    let character = open.character_id;
    if !by_act_as {
        return match sessions.open(&open).await {
            Ok(token) => Attempt { approved_at, token: Some(token.expose().to_owned()) },
            Err(SessionError::Refused { .. }) => Attempt { approved_at, token: None },
            Err(error) => panic!("{error}"),
        };
    }
    open.character_id = None;
    let token = sessions.open(&open).await.expect("an account's own session is not refused");
    match sessions.act_as(token.expose(), character, approved_at).await {
        Ok(Some(_)) => Attempt { approved_at, token: Some(token.expose().to_owned()) },
        Ok(None) => panic!("the account's own session was taken"),
        Err(SessionError::Refused { .. }) => Attempt { approved_at, token: None },
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn no_session_outlives_an_observation_it_is_older_than_and_none_dies_of_an_older_one() {
    let people = if std::env::var_os("ROLLCALL_LONG").is_some() { 200 } else { 20 };
    let stage = Stage::new().await;
    let describe = |place| (STRANGERS, newcomer(format!("m{place}")).verified_minutes_ago(60).session());
    let crowd = stage.crowd(people, describe).await;
    stage.sim.settings(|settings| settings.latency_ms = 15);
    let mut run = stage
        .verifier()
        .env("BATCH_SIZE", "3")
        .env("MAX_INVALIDATIONS_PER_RUN", "1000")
        .env("MAX_INVALIDATION_RATIO", "1")
        .start();

    // While it runs everybody gets in again and again, on approvals just read and on some read a while before.
    let sessions = client(&stage.db).await;
    let mut attempts: BTreeMap<usize, Vec<Attempt>> = BTreeMap::new();
    let mut round = 0;
    while run.is_running() {
        round += 1;
        for place in 0..people {
            let EpochMillis(now) = now(&stage.db).await;
            let ages = [0, 40, 400];
            let approved_at = EpochMillis(now - ages[(round + place) % ages.len()]);
            let made = attempt(&sessions, &member(&stage, &crowd, place), approved_at, place % 2 == 0).await;
            attempts.entry(place).or_default().push(made);
        }
    }
    let _ = run.wait(Duration::from_mins(1)).await.expect_code(0);

    let (mut lives, mut died) = (0, 0);
    for (place, attempts) in &attempts {
        let member = member(&stage, &crowd, *place);
        let marks = stage.community.marks(member.account_id).await;
        // The youngest observation that cost this character its sessions.
        let observed = marks[&member.character_id.to_string()];
        assert!(!stage.community.has_session(&crowd.session_token(*place)).await);
        for Attempt { approved_at: EpochMillis(approved_at), token } in attempts {
            let Some(token) = token else {
                assert!(*approved_at < observed, "refused though approved {} ms after", approved_at - observed);
                continue;
            };
            let alive = stage.community.has_session(token).await;
            let younger = *approved_at >= observed;
            assert_eq!(alive, younger, "place {place}: approved {} ms after the observation", approved_at - observed);
            lives += usize::from(alive);
            died += usize::from(!alive);
        }
    }
    assert!(lives > 0 && died > 0, "there was a race to see: {lives} live, {died} died, {round} rounds");

    // Every session that died is in the audit log, once, and so is its event.
    let audit = stage.community.audit().await;
    assert_eq!((audit.len(), stage.community.events().await.len()), (died + people, died + people));
    let mut named: Vec<_> = audit.iter().map(|row| row.details["session"].to_string()).collect();
    named.sort();
    named.dedup();
    assert_eq!(named.len(), audit.len());
}

#[tokio::test]
async fn a_character_that_moves_to_another_account_before_the_decision_costs_the_old_one_nothing() {
    let stage = Stage::new().await;
    let leaver = stage.add_in(STRANGERS, newcomer("leaver").verified_minutes_ago(60).session()).await;
    let heir = stage.add(newcomer("heir").verified_minutes_ago(1)).await;
    let before = stage.community.eve(leaver.eve_id).await.last_verified_at;
    let mut gate = stage.db.pool().begin().await.unwrap();
    let close = "-- verifier::race\nLOCK TABLE pending_invalidations IN SHARE ROW EXCLUSIVE MODE";
    sqlx::query(close).execute(&mut *gate).await.unwrap();
    let run = stage.verifier().start();
    // Found, confirmed, and not decided yet.
    waits_for_a_lock(&stage, "invalidations::record", None).await;
    move_to(&stage, leaver.character_id, heir.account_id).await;
    gate.rollback().await.unwrap();
    let run = run.wait(PATIENCE).await.expect_code(0);
    assert!(stage.community.has_session(leaver.session_token()).await, "{run}");
    assert!(stage.community.pending().await.is_empty() && stage.community.candidates().await.is_empty(), "{run}");
    assert_eq!(stage.community.audit().await, []);
    assert_eq!(stage.community.eve(leaver.eve_id).await.last_verified_at, before, "it stays due");

    // The next run looks at the account that it is in now.
    let moved = Member { account_id: heir.account_id, ..leaver.clone() };
    let token = stage.community.open_session(&moved, harness::SessionSpec::default()).await;
    verify(&stage).await;
    assert!(!stage.community.has_session(&token).await);
    assert!(stage.community.has_session(leaver.session_token()).await);
    let audit = stage.community.audit().await;
    assert_eq!((audit.len(), audit[0].account_id), (1, Some(heir.account_id)));
}
