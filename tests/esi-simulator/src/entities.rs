//! Characters, corporations and alliances, as the world holds them.

use serde::{Deserialize, Serialize};

/// A character; in JSON only `id` and `corporation_id` are needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Character {
    /// EVE id of the character.
    pub id: i64,
    /// The corporation every route shows, unless a fault shows an older one.
    pub corporation_id: i64,
    /// Which alliance the character's own rows show.
    #[serde(default)]
    pub alliance: AllianceShown,
    /// Display name; empty means `Character <id>`.
    #[serde(default)]
    pub name: String,
    /// `owner` claim of access tokens; empty means `owner-<id>`. Changes when a character is transferred.
    #[serde(default)]
    pub owner_hash: String,
    /// What the routes admit to knowing.
    #[serde(default)]
    pub state: CharacterState,
}

impl Character {
    /// A living character with generated name and owner.
    pub fn new(id: i64, corporation_id: i64) -> Self {
        Self {
            id,
            corporation_id,
            alliance: AllianceShown::default(),
            name: String::new(),
            owner_hash: String::new(),
            state: CharacterState::default(),
        }
    }

    /// The name shown.
    pub fn shown_name(&self) -> String {
        if self.name.is_empty() { format!("Character {}", self.id) } else { self.name.clone() }
    }

    /// The owner hash put into access tokens.
    pub fn shown_owner(&self) -> String {
        if self.owner_hash.is_empty() { format!("owner-{}", self.id) } else { self.owner_hash.clone() }
    }
}

/// The alliance in a character's rows: real ESI sometimes lags behind the corporation's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllianceShown {
    /// That of the corporation.
    #[default]
    OfCorporation,
    /// None, whatever the corporation says.
    None,
    /// This one, whatever the corporation says.
    Stale(i64),
}

/// What the routes admit to knowing of a character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CharacterState {
    /// Known everywhere.
    #[default]
    Living,
    /// `Character has been deleted`; one among the ids fails a whole affiliation call; refresh tokens are invalid.
    Deleted,
    /// Known by `/characters/{id}`, but affiliation answers `No characters found!`.
    Old,
}

/// A corporation; in JSON only `id` is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corporation {
    /// EVE id of the corporation.
    pub id: i64,
    /// Alliance it is in, if any.
    #[serde(default)]
    pub alliance_id: Option<i64>,
    /// Display name; empty means `Corporation <id>`.
    #[serde(default)]
    pub name: String,
    /// Ticker; empty means `C` and the id's last four digits.
    #[serde(default)]
    pub ticker: String,
}

impl Corporation {
    /// A corporation with generated name and ticker.
    pub fn new(id: i64, alliance_id: Option<i64>) -> Self {
        Self { id, alliance_id, name: String::new(), ticker: String::new() }
    }

    pub(crate) fn shown_name(&self) -> String {
        if self.name.is_empty() { format!("Corporation {}", self.id) } else { self.name.clone() }
    }

    pub(crate) fn shown_ticker(&self) -> String {
        if self.ticker.is_empty() { format!("C{:04}", self.id.rem_euclid(10_000)) } else { self.ticker.clone() }
    }
}

/// An alliance; in JSON only `id` is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alliance {
    /// EVE id of the alliance.
    pub id: i64,
    /// Display name; empty means `Alliance <id>`.
    #[serde(default)]
    pub name: String,
}

impl Alliance {
    /// An alliance with a generated name.
    pub fn new(id: i64) -> Self {
        Self { id, name: String::new() }
    }

    pub(crate) fn shown_name(&self) -> String {
        if self.name.is_empty() { format!("Alliance {}", self.id) } else { self.name.clone() }
    }
}
