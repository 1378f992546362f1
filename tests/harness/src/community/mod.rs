//! Accounts, characters, tokens and sessions to test with, and what became of them.

mod age;
mod fingerprint;
mod insert;
mod newcomer;
mod read;
mod sessions;

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicUsize, Ordering},
};

use pii::envelope::Key;
use redis::aio::MultiplexedConnection;
use runtime::{Random, Secret};
use sqlx::PgPool;
use uuid::Uuid;

pub use self::{
    fingerprint::Fingerprint,
    newcomer::{Newcomer, newcomer},
    read::{AuditRow, CandidateRow, EveRow, EventRow, PendingRow, RunRow, TokenRow},
    sessions::{SessionRow, SessionSpec, session_key},
};
use crate::TestDb;

/// The corporation newcomers are in unless told otherwise; allowed in the first brand.
pub const CORPORATION: i64 = 98_000_001;
/// An alliance that is allowed in the first brand.
pub const ALLIANCE: i64 = 99_000_001;
/// A corporation that is on no list.
pub const STRANGERS: i64 = 98_666_001;
/// `ENCRYPTION_KEY` under which the builders seal refresh tokens.
pub const ENCRYPTION_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// EVE ids are given from here upward.
const FIRST_EVE_ID: i64 = 2_100_000_000;
/// Rows built and written at a time.
const CHUNK: usize = 20_000;
/// From so many rows on, foreign keys are not checked and statistics are gathered.
const BULK: usize = 10_000;

/// Approval lists of a brand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lists {
    /// `false`: everybody who is not denied may stay.
    pub require_membership: bool,
    /// EVE corporation ids.
    pub allowed_corporations: Vec<i64>,
    /// EVE alliance ids.
    pub allowed_alliances: Vec<i64>,
    /// EVE corporation ids.
    pub denied_corporations: Vec<i64>,
    /// EVE alliance ids.
    pub denied_alliances: Vec<i64>,
}

impl Lists {
    /// Membership is required and nobody is a member.
    pub fn empty() -> Self {
        Self {
            require_membership: true,
            allowed_corporations: Vec::new(),
            allowed_alliances: Vec::new(),
            denied_corporations: Vec::new(),
            denied_alliances: Vec::new(),
        }
    }
}

impl Default for Lists {
    /// Membership is required; [`CORPORATION`] and [`ALLIANCE`] have it.
    fn default() -> Self {
        Self { allowed_corporations: vec![CORPORATION], allowed_alliances: vec![ALLIANCE], ..Self::empty() }
    }
}

/// Builds and reads the data of one [`TestDb`]; one for each. Clones share it. Ids and tokens are the same in every
/// run: they follow from the order of building.
#[derive(Debug, Clone)]
pub struct Community {
    pool: PgPool,
    redis: MultiplexedConnection,
    brand_id: Uuid,
    key: Key,
    random: Random,
    /// Number of the next character.
    next: Arc<AtomicI64>,
    /// Number of the next session opened later.
    later_sessions: Arc<AtomicUsize>,
}

/// A character with its account, as it was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, and its account's.
    pub name: String,
    /// Its brand.
    pub brand_id: Uuid,
    /// Its account.
    pub account_id: Uuid,
    /// Its id here.
    pub character_id: Uuid,
    /// Its id in EVE Online.
    pub eve_id: i64,
    /// The tokens of its sessions, in the order they were asked for.
    pub session_tokens: Vec<String>,
}

impl Member {
    /// The token of its only, or first, session.
    ///
    /// # Panics
    /// It has none.
    pub fn session_token(&self) -> &str {
        self.session_tokens.first().unwrap_or_else(|| panic!("{} was built without a session", self.name))
    }
}

/// Many characters, each with an account of its own. Nothing of them is kept: ids follow from the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowd {
    first: i64,
    len: usize,
}

impl Crowd {
    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// EVE id of the character at `place`, from 0.
    pub fn eve_id(&self, place: usize) -> i64 {
        FIRST_EVE_ID + self.number(place)
    }

    /// Its account.
    pub fn account_id(&self, place: usize) -> Uuid {
        account_id(self.number(place))
    }

    /// Its id here.
    pub fn character_id(&self, place: usize) -> Uuid {
        character_id(self.number(place))
    }

    /// The token of its first session, if it was built with one.
    pub fn session_token(&self, place: usize) -> String {
        sessions::first_token(self.account_id(place), self.number(place), 0)
    }

    fn number(&self, place: usize) -> i64 {
        assert!(place < self.len, "the crowd has {} characters", self.len);
        self.first + i64::try_from(place).expect("a crowd is small")
    }
}

impl Community {
    /// The first brand, named `main`, with the default [`Lists`].
    pub async fn new(db: &TestDb) -> Self {
        let mut community = Self {
            pool: db.pool().clone(),
            redis: db.redis(),
            brand_id: Uuid::nil(),
            key: Key::from_hex(&Secret::new(ENCRYPTION_KEY)).expect("the key is well-formed"),
            random: Random::system(),
            next: Arc::new(AtomicI64::new(0)),
            later_sessions: Arc::new(AtomicUsize::new(0)),
        };
        community.brand_id = community.brand("main", &Lists::default()).await;
        community
    }

    /// The first brand.
    pub fn brand_id(&self) -> Uuid {
        self.brand_id
    }

    /// Adds one character, with an account unless it joins one.
    pub async fn add(&self, newcomer: Newcomer) -> Member {
        let number = self.take_numbers(1);
        let mut members = self.insert(vec![(number, newcomer)], false).await;
        members.remove(0)
    }

    /// Adds `len` characters with an account each, as `describe` says for its place (from 0).
    ///
    /// For a large crowd foreign keys are not checked, and statistics are gathered at the end.
    pub async fn crowd(&self, len: usize, describe: impl Fn(usize) -> Newcomer) -> Crowd {
        let is_bulk = len >= BULK;
        let first = self.take_numbers(len);
        let crowd = Crowd { first, len };
        for start in (0..len).step_by(CHUNK) {
            let chunk = (start..len.min(start + CHUNK)).map(|place| {
                let newcomer = describe(place);
                assert!(newcomer.is_plain(), "in a crowd everybody has a new account and the next EVE id");
                (crowd.number(place), newcomer)
            });
            self.insert(chunk.collect(), is_bulk).await;
        }
        if is_bulk {
            self.analyze().await;
        }
        crowd
    }

    fn take_numbers(&self, len: usize) -> i64 {
        self.next.fetch_add(i64::try_from(len).expect("a crowd is small"), Ordering::Relaxed)
    }
}

fn brand_id(number: i64) -> Uuid {
    id(0xb, number)
}

fn account_id(number: i64) -> Uuid {
    id(0xa, number)
}

fn character_id(number: i64) -> Uuid {
    id(0xc, number)
}

/// A well-formed UUIDv7 that tells what it is and which.
fn id(kind: u128, number: i64) -> Uuid {
    let number = u128::from(number.unsigned_abs());
    Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0000 | kind << 80 | number)
}
