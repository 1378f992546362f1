//! A session as others see it, and how it is read from Redis.

use std::{fmt, str::FromStr};

use identity::ids::{AccountId, BrandId, CharacterId};
use serde::{Deserialize, Serialize};

use crate::{SessionError, token::SessionHash};

/// Milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EpochMillis(pub i64);

impl fmt::Display for EpochMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A live session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its public name.
    pub hash: SessionHash,
    /// Whose it is.
    pub account_id: AccountId,
    /// The brand the account belongs to.
    pub brand_id: BrandId,
    /// The character it acts as; none for an account-only session.
    pub character_id: Option<CharacterId>,
    /// When the approval it rests on was read, by the database's clock.
    pub approved_at: EpochMillis,
    /// When it was opened, by Redis's clock.
    pub created_at: EpochMillis,
    /// When its token was last used, by Redis's clock.
    pub last_seen_at: EpochMillis,
    /// When it ends however busy it is, by Redis's clock.
    pub expires_at: EpochMillis,
    /// What the client called itself; may be empty.
    pub client_type: String,
    /// The account's role when the session was opened.
    pub role: String,
}

/// A session that a take removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedSession {
    /// The name it had.
    pub hash: SessionHash,
    /// The character it acted as; none for an account-only session.
    pub character_id: Option<CharacterId>,
    /// What the client had called itself; may be empty.
    pub client_type: String,
    /// When the approval it rested on was read, by the database's clock; 0 where that could not be read.
    pub approved_at: EpochMillis,
    /// When it was opened, by Redis's clock; 0 where that could not be read.
    pub created_at: EpochMillis,
}

/// A session as the steps answer it: its hash, then nine fields (`lua/session.lua`).
pub(crate) type Row = Vec<Option<String>>;

impl Session {
    pub(crate) fn from_row(row: Row) -> Result<Self, SessionError> {
        let [hash, account, brand, character, approved, created, seen, expires, client_type, role] =
            <[Option<String>; 10]>::try_from(row)
                .map_err(|row| SessionError::Broken(format!("a session of {} values instead of 10", row.len())))?;
        let hash = SessionHash::stored(hash.unwrap_or_default());
        let character = character.unwrap_or_default();
        Ok(Self {
            account_id: field(&hash, "account_id", account)?,
            brand_id: field(&hash, "brand_id", brand)?,
            character_id: if character.is_empty() {
                None
            } else {
                Some(field(&hash, "character_id", Some(character))?)
            },
            approved_at: EpochMillis(field(&hash, "approved_at", approved)?),
            created_at: EpochMillis(field(&hash, "created_at", created)?),
            last_seen_at: EpochMillis(field(&hash, "last_seen_at", seen)?),
            expires_at: EpochMillis(field(&hash, "expires_at", expires)?),
            client_type: client_type.unwrap_or_default(),
            role: role.unwrap_or_default(),
            hash,
        })
    }
}

fn field<T: FromStr>(hash: &SessionHash, name: &str, value: Option<String>) -> Result<T, SessionError> {
    value
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| SessionError::Broken(format!("session {hash} has no readable {name}")))
}

/// One element of a receipt, as `lua/take.lua` writes it.
#[derive(Deserialize)]
struct Entry {
    hash: String,
    character_id: String,
    client_type: String,
    approved_at: EpochMillis,
    created_at: EpochMillis,
}

/// Reads a receipt. Tolerant within the fields: the sessions are gone, and whatever else another program wrote into
/// them must not keep that from being recorded.
pub(crate) fn removed_from_receipt(receipt: &[u8]) -> serde_json::Result<Vec<RemovedSession>> {
    let entries: Vec<Entry> = serde_json::from_str(&String::from_utf8_lossy(receipt))?;
    Ok(entries
        .into_iter()
        .map(|entry| RemovedSession {
            hash: SessionHash::stored(entry.hash),
            character_id: entry.character_id.parse().ok(),
            client_type: entry.client_type,
            approved_at: entry.approved_at,
            created_at: entry.created_at,
        })
        .collect())
}
