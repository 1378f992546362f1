//! Logins racing invalidations: thousands of opens and act-as steps against takes on the same accounts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use identity::ids::{AccountId, CharacterId};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use sessions::{EpochMillis, Gate, SessionError, SessionHash, Sessions, Take, Taken};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    fixture::{Redis, account, at, character, open},
    take::{acting, take_all},
};

const ACCOUNTS: usize = 60;
const LOGINS_PER_ACCOUNT: usize = 40;
const STEPS_PER_LOGIN: usize = 3;
const TAKES_PER_ACCOUNT: usize = 12;
const TAKES_PER_BATCH: usize = 15;
/// Approvals and observations fall into this many milliseconds, so that they often meet exactly.
const SPAN: i64 = 40;

struct Player {
    account: AccountId,
    characters: [CharacterId; 3],
}

/// The last state that a login knows of its session; what it was when it died, if it did.
#[derive(Debug)]
struct Last {
    account: AccountId,
    hash: SessionHash,
    character: Option<CharacterId>,
    approved_at: EpochMillis,
}

/// What one login saw.
struct Seen {
    last: Option<Last>,
    /// Approvals that were refused: character, approval, mark.
    refused: Vec<(AccountId, Option<CharacterId>, EpochMillis, EpochMillis)>,
}

/// A step to take: the character to act as, and its approval.
type Step = (Option<CharacterId>, EpochMillis);

fn step(player: &Player, random: &mut StdRng) -> Step {
    let character = player.characters.get(random.random_range(0..4)).copied();
    (character, at(random.random_range(0..SPAN)))
}

/// Opens a session, tells `opened`, then changes its character until it is found dead.
async fn log_in(sessions: Sessions, account: AccountId, steps: Vec<Step>, opened: Arc<Semaphore>) -> Seen {
    let mut seen = Seen { last: None, refused: Vec::new() };
    let mut token = None;
    for (i, (character, approved_at)) in steps.into_iter().enumerate() {
        let done = match &token {
            None => sessions.open(&open(account, character, approved_at.0)).await.map(|new| {
                let hash = new.hash();
                token = Some(new);
                Some((hash, approved_at))
            }),
            Some(token) => sessions
                .act_as(token.expose(), character, approved_at)
                .await
                .map(|session| session.map(|session| (session.hash, session.approved_at))),
        };
        if i == 0 {
            opened.add_permits(1);
        }
        match done {
            Ok(Some((hash, approved_at))) => seen.last = Some(Last { account, hash, character, approved_at }),
            Ok(None) => break,
            Err(SessionError::Refused { observed_at, .. }) => {
                seen.refused.push((account, character, approved_at, observed_at));
            }
            Err(error) => panic!("{error}"),
        }
    }
    seen
}

/// The youngest observation that hit sessions acting as `character`.
fn youngest_hit(takes: &[Take], account: AccountId, character: Option<CharacterId>) -> EpochMillis {
    takes
        .iter()
        .filter(|take| take.account_id == account)
        .filter(|take| take.gate != Gate::Acting || Some(take.character_id) == character)
        .map(|take| take.observed_at)
        .max()
        .unwrap_or(at(i64::MIN))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_login_survives_an_observation_younger_than_its_approval_and_none_dies_of_an_older_one() {
    let redis = Redis::start().await;
    let sessions = redis.sessions();
    let mut random = StdRng::seed_from_u64(20_261_103);
    let players: Vec<Player> = (0..ACCOUNTS)
        .map(|_| Player { account: account(), characters: [character(), character(), character()] })
        .collect();

    let mut takes = Vec::new();
    let mut logins = Vec::new();
    for (i, player) in players.iter().enumerate() {
        for _ in 0..TAKES_PER_ACCOUNT {
            let character = player.characters[random.random_range(0..3)];
            let observed_at = random.random_range(0..SPAN);
            // Account-wide gates on a third of the accounts, or they would hide what the others do.
            let gate = if i % 3 == 0 && random.random_ratio(1, 4) { Gate::Any } else { Gate::Acting };
            takes.push(Take { gate, ..acting(player.account, character, observed_at) });
        }
        for _ in 0..LOGINS_PER_ACCOUNT {
            logins.push((player.account, (0..=STEPS_PER_LOGIN).map(|_| step(player, &mut random)).collect::<Vec<_>>()));
        }
    }
    takes.shuffle(&mut random);
    logins.shuffle(&mut random);

    // Run: all logins at once, and a batch of takes whenever its share of them has begun, however the tasks are run.
    let opened = Arc::new(Semaphore::new(0));
    let mut running = JoinSet::new();
    for (account, steps) in logins {
        running.spawn(log_in(sessions.clone(), account, steps, opened.clone()));
    }
    let mut taking = JoinSet::new();
    let share = u32::try_from(ACCOUNTS * LOGINS_PER_ACCOUNT * TAKES_PER_BATCH / takes.len()).unwrap();
    for batch in takes.chunks(TAKES_PER_BATCH) {
        opened.acquire_many(share).await.unwrap().forget();
        let (sessions, batch) = (sessions.clone(), batch.to_vec());
        taking.spawn(async move { take_all(&sessions, &batch).await });
    }
    let seen = running.join_all().await;
    let taken: Vec<Taken> = taking.join_all().await.into_iter().flatten().collect();

    // Verify: alive exactly where no observation is younger than the approval it rests on.
    let mut alive = BTreeSet::new();
    for player in &players {
        alive.extend(sessions.list(player.account).await.unwrap().into_iter().map(|session| session.hash));
    }
    let mut dead = BTreeMap::new();
    for last in seen.iter().filter_map(|seen| seen.last.as_ref()) {
        let hit = youngest_hit(&takes, last.account, last.character);
        assert_eq!(alive.contains(&last.hash), hit <= last.approved_at, "{last:?}, youngest observation {hit}");
        if !alive.contains(&last.hash) {
            dead.insert(last.hash.clone(), (last.character, last.approved_at));
        }
    }
    let mut refusals = 0;
    for (account, character, approved_at, mark) in seen.iter().flat_map(|seen| &seen.refused) {
        let hit = youngest_hit(&takes, *account, *character);
        assert!(*approved_at < *mark && *mark <= hit, "approved {approved_at}, mark {mark}, youngest {hit}");
        refusals += 1;
    }
    // Each death is answered by exactly one take.
    let removed: Vec<_> = taken.iter().flat_map(|taken| &taken.removed).collect();
    assert_eq!(removed.len(), dead.len());
    for session in removed {
        assert_eq!(dead.get(&session.hash), Some(&(session.character_id, session.approved_at)));
    }
    // And the race was one: each way it can go was gone often.
    assert!(alive.len() > 100 && dead.len() > 100 && refusals > 100, "{} {} {refusals}", alive.len(), dead.len());
}
