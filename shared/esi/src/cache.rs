//! Answers to GET calls, kept until their `Expires`: here, and in Redis for later runs and other shards. Asking again
//! before that can get an application banned.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use runtime::cache::BoundedMap;
use tokio::{sync, time::Instant};

use crate::board::Board;

/// Answers kept in the process; each is a few dozen bytes.
const CAPACITY: usize = 4096;
/// Calls of different paths that may be made at once; two calls of one path may not.
const TURNS: usize = 64;

#[derive(Debug)]
pub(crate) struct Cache {
    answers: Mutex<BoundedMap<String, (Instant, String)>>,
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

    /// The answer, while it is fresh.
    pub(crate) async fn get(&self, board: &Board, path: &str) -> Option<String> {
        let now = Instant::now();
        let here = self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(&path.to_owned());
        if let Some((_, text)) = here.filter(|(until, _)| *until > now) {
            return Some(text);
        }
        let (text, left) = board.get(&key(path)).await?;
        self.remember(path, &text, left);
        Some(text)
    }

    /// Keeps an answer.
    pub(crate) async fn put(&self, board: &Board, path: &str, text: &str, fresh_for: Duration) {
        self.remember(path, text, fresh_for);
        board.keep(&key(path), text, fresh_for).await;
    }

    fn remember(&self, path: &str, text: &str, fresh_for: Duration) {
        let until = Instant::now() + fresh_for;
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(path.to_owned(), (until, text.to_owned()));
    }
}

fn key(path: &str) -> String {
    format!("esi:get:{path}")
}
