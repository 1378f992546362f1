//! Answers to GET calls, kept until their `Expires`: here, and in Redis for later runs and other shards. Asking again
//! before that can get an application banned.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use runtime::cache::BoundedMap;
use tokio::{sync, time::Instant};

use crate::board::{Board, millis};

/// Answers kept in the process; each is a few dozen bytes.
const CAPACITY: usize = 4096;
/// How long other processes leave a call to the one that claimed it; one that died holds them up no longer.
const CLAIM: Duration = Duration::from_secs(10);
/// Calls of different paths that may be made at once; two calls of one path may not.
const TURNS: usize = 64;

/// An answer that is kept.
#[derive(Debug, Clone)]
struct Kept {
    text: String,
    /// How long it was fresh when it came.
    fresh_for: Duration,
    until: Instant,
}

impl Kept {
    /// Since it was fetched.
    fn age(&self, now: Instant) -> Duration {
        self.fresh_for.saturating_sub(self.until.saturating_duration_since(now))
    }
}

#[derive(Debug)]
pub(crate) struct Cache {
    answers: Mutex<BoundedMap<String, Kept>>,
    turns: [sync::Mutex<()>; TURNS],
}

impl Cache {
    pub(crate) fn new() -> Self {
        Self { answers: Mutex::new(BoundedMap::new(CAPACITY)), turns: std::array::from_fn(|_| sync::Mutex::default()) }
    }

    /// Waits until nobody else in this process is asking for the path.
    pub(crate) async fn turn(&self, path: &str) -> sync::MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        let slot = usize::try_from(hasher.finish() % TURNS as u64).unwrap_or(0);
        self.turns[slot].lock().await
    }

    /// Whether no other process is asking for the path either; [`Cache::done`] lets them.
    pub(crate) async fn claim(&self, board: &Board, path: &str) -> bool {
        board.claim(&turn_key(path), CLAIM).await
    }

    /// The call that was claimed is over, whatever came of it.
    pub(crate) async fn done(&self, board: &Board, path: &str) {
        board.give_back(&turn_key(path)).await;
    }

    /// The answer, while it is fresh, and how long ago it was fetched.
    pub(crate) async fn get(&self, board: &Board, path: &str) -> Option<(String, Duration)> {
        let now = Instant::now();
        let here = self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(&path.to_owned());
        let kept = if let Some(kept) = here.filter(|kept| kept.until > now) {
            kept
        } else {
            // Its age comes from what is left of its time, so that no two machines' clocks are compared.
            let (line, left) = board.get(&key(path)).await?;
            let (fresh_for, text) = line.split_once(' ')?;
            self.remember(path, text, Duration::from_millis(fresh_for.parse().ok()?), left)
        };
        let age = kept.age(Instant::now());
        Some((kept.text, age))
    }

    /// Keeps an answer that was just fetched.
    pub(crate) async fn put(&self, board: &Board, path: &str, text: &str, fresh_for: Duration) {
        self.remember(path, text, fresh_for, fresh_for);
        board.keep(&key(path), &format!("{} {text}", millis(fresh_for)), fresh_for).await;
    }

    fn remember(&self, path: &str, text: &str, fresh_for: Duration, left: Duration) -> Kept {
        let kept = Kept { text: text.to_owned(), fresh_for, until: Instant::now() + left };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(path.to_owned(), kept.clone());
        kept
    }
}

fn turn_key(path: &str) -> String {
    format!("esi:turn:{path}")
}

fn key(path: &str) -> String {
    format!("esi:get:{path}")
}
