//! SIGKILL and SIGTERM at any instant: the next run completes the work, and the end is that of a run nobody disturbed.

use std::{rc::Rc, time::Duration};

use harness::Finished;
use nix::sys::signal::Signal;
use suites::{message, outcome};
use tokio::{
    sync::Semaphore,
    task::LocalSet,
    time::{Instant, sleep_until},
};

use crate::{end_state::EndState, village::Village};

/// Villages at a time.
const AT_ONCE: usize = 4;
/// No run in a village may take longer.
const BOUND: Duration = Duration::from_secs(50);

/// A seeded sequence of numbers, so that a failure can be played again.
pub(crate) struct Dice(u64);

impl Dice {
    /// One of the sequences of a seed.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        Self(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The next number below `bound` (splitmix64).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// `ROLLCALL_SEED`, or one that differs from run to run.
fn seed() -> u64 {
    let given = std::env::var("ROLLCALL_SEED").ok().map(|text| text.parse().expect("ROLLCALL_SEED is a number"));
    given.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0)
}

/// How often, in short and in long.
fn rounds(short: u64, long: u64) -> u64 {
    if std::env::var_os("ROLLCALL_LONG").is_some_and(|value| value == "1") { long } else { short }
}

/// Starts a run and sends it a signal at a random moment of its life, counted from its first log line.
async fn disturbed(village: &Village, dice: &mut Dice, life: Duration, signal: Signal) -> (Finished, Duration) {
    let mut run = village.verifier().start();
    run.wait_for_log(BOUND, |line| message(line) == Some("started")).await;
    let after = Duration::from_micros(dice.below(u64::try_from(life.as_micros()).unwrap()));
    // A random moment is what this is about.
    sleep_until(Instant::now() + after).await;
    run.signal(signal);
    (run.wait(BOUND).await, after)
}

/// How a run nobody disturbs ends, and how long it takes from its first log line.
async fn reference() -> (EndState, Duration) {
    let village = Village::new().await;
    let mut run = village.verifier().start();
    run.wait_for_log(BOUND, |line| message(line) == Some("started")).await;
    let started = Instant::now();
    let run = run.wait(BOUND).await.expect_code(0);
    let life = started.elapsed();
    assert_eq!(outcome(&run)["outcome"], "done", "{run}");
    let state = EndState::of(&village.stage).await;
    assert!(state.removed() >= 20, "there is something to lose: {state:#?}");
    (state, life)
}

/// Plays `rounds` villages, a few at a time; `play` gets the number of the round.
async fn in_many_villages(seed: u64, rounds: u64, play: impl AsyncFn(u64) + 'static) {
    let (play, seats, local) = (Rc::new(play), Rc::new(Semaphore::new(AT_ONCE)), LocalSet::new());
    let mut playing = Vec::new();
    for number in 0..rounds {
        let (play, seats) = (Rc::clone(&play), Rc::clone(&seats));
        playing.push(local.spawn_local(async move {
            let _seat = seats.acquire().await.unwrap();
            play(number).await;
        }));
    }
    let failed = local
        .run_until(async {
            let mut failed = Vec::new();
            for (number, work) in playing.into_iter().enumerate() {
                if let Err(error) = work.await {
                    let panic = error.into_panic();
                    let text = panic.downcast_ref::<String>().map_or("a failed assertion", String::as_str);
                    failed.push(format!("--- round {number}\n{text}"));
                }
            }
            failed
        })
        .await;
    let count = failed.len();
    assert!(failed.is_empty(), "ROLLCALL_SEED={seed}: {count} of {rounds} rounds failed:\n{}", failed.join("\n"));
}

#[tokio::test]
async fn a_killed_run_loses_nothing_and_the_next_one_completes_the_work() {
    let seed = seed();
    let (expected, life) = reference().await;
    in_many_villages(seed, rounds(12, 120), async move |number| {
        let mut dice = Dice::new(seed, number);
        let village = Village::new().await;
        let (mut lost, mut story) = (0, String::new());
        for _ in 0..=dice.below(3) {
            let (run, after) = disturbed(&village, &mut dice, life, Signal::SIGKILL).await;
            story += &format!("\n=== killed after {after:?}: {run}");
            if run.signal == Some(9) {
                lost += 1;
            } else {
                assert_eq!(run.code, Some(0), "{story}");
            }
            village.free_the_lease().await;
        }
        let last = village.verifier().start().wait(BOUND).await;
        story += &format!("\n=== the last: {last}");
        assert_eq!(last.code, Some(0), "{story}");
        EndState::of(&village.stage).await.assert_same(&expected, &story);
        assert_eq!(village.leases().await, 0);
        let runs = village.stage.community.runs().await;
        let closed = runs.iter().filter(|run| run.outcome.as_deref() == Some("lost")).count();
        // A process killed before it wrote its row, or after it closed it, was not lost to the ledger.
        assert!(closed <= lost, "{runs:#?}");
        assert!(runs.iter().all(|run| run.outcome.is_some()), "{runs:#?}");
        village.stage.forgive();
    })
    .await;
}

#[tokio::test]
async fn a_stopped_run_ends_cleanly_and_the_next_one_completes_the_work() {
    let seed = seed();
    let (expected, life) = reference().await;
    in_many_villages(seed, rounds(12, 60), async move |number| {
        let mut dice = Dice::new(seed, number);
        let village = Village::new().await;
        let (run, after) = disturbed(&village, &mut dice, life, Signal::SIGTERM).await;
        let mut story = format!("stopped after {after:?}: {run}");
        let told = outcome(&run);
        match run.code {
            Some(143) => assert_eq!(told["outcome"], "stopped", "{story}"),
            Some(0) => assert_eq!(told["outcome"], "done", "{story}"),
            _ => panic!("{story}"),
        }
        assert!(run.duration < after + Duration::from_secs(20), "{story}");
        assert_eq!(village.leases().await, 0, "the lease is given back: {story}");
        let last = village.verifier().start().wait(BOUND).await;
        story += &format!("\n=== the last: {last}");
        assert_eq!(last.code, Some(0), "{story}");
        EndState::of(&village.stage).await.assert_same(&expected, &story);
        let runs = village.stage.community.runs().await;
        assert!(runs.iter().all(|run| run.outcome.as_deref().is_some_and(|name| name != "lost")), "{runs:#?}");
        village.stage.forgive();
    })
    .await;
}
