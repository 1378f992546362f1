//! Ids as types, so that a corporation cannot be passed where a character is meant.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

macro_rules! eve_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id! {
    /// One login identity inside one brand (`accounts.id`).
    AccountId
}
uuid_id! {
    /// A playable avatar of an account (`characters.id`).
    CharacterId
}
uuid_id! {
    /// A brand, the outermost separation of accounts (`brands.id`).
    BrandId
}
eve_id! {
    /// A character's id in EVE Online.
    EveCharacterId
}
eve_id! {
    /// A corporation's id in EVE Online. Below 2,000,000: run by the game, not by players.
    CorporationId
}
eve_id! {
    /// An alliance's id in EVE Online.
    AllianceId
}

impl CorporationId {
    /// Doomheim, where deleted characters end (EVE's static data: corporation 1000001).
    pub const DOOMHEIM: Self = Self(1_000_001);
}
