//! What ESI says about the characters, compared with what is stored.

use harness::{ALLIANCE, CORPORATION, Crowd, STRANGERS};
use serde_json::{Value, json};

/// An allowed alliance's other corporation: who moves there changes and stays.
const SECOND_CORPORATION: i64 = 98_000_002;
/// One in so many characters has moved …
const MOVED: usize = 100;
/// … and one in so many to a corporation that is not approved.
const LEFT: usize = 1000;

/// Which run it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// ESI says of everybody what is stored.
    Unchanged,
    /// One in a hundred has moved; one in a thousand, each with a session, to where nobody is approved.
    Changed,
}

impl Load {
    /// How it is called in the table.
    pub(crate) fn title(self, characters: usize) -> String {
        match self {
            Self::Unchanged => "nothing changed".to_owned(),
            Self::Changed => format!("{} changed, {} sessions end", self.moved(characters), self.leavers(characters)),
        }
    }

    /// How many have another corporation.
    pub(crate) fn moved(self, characters: usize) -> usize {
        if self == Self::Changed { characters.div_ceil(MOVED) } else { 0 }
    }

    /// How many must leave, each with one session.
    pub(crate) fn leavers(self, characters: usize) -> usize {
        if self == Self::Changed { characters.div_ceil(LEFT) } else { 0 }
    }

    /// The places of those who must leave.
    pub(crate) fn places_of_leavers(self, characters: usize) -> impl Iterator<Item = usize> {
        (0..self.leavers(characters)).map(|n| n * LEFT)
    }

    /// The simulated world that differs from the stored one: body of `POST /_sim/world`.
    pub(crate) fn world(self, crowd: Crowd) -> Value {
        let characters: Vec<Value> = (0..self.moved(crowd.len()))
            .map(|n| n * MOVED)
            .map(|place| {
                let to = if place % LEFT == 0 { STRANGERS } else { SECOND_CORPORATION };
                json!({ "id": crowd.eve_id(place), "corporation_id": to })
            })
            .collect();
        json!({
            "alliances": [{ "id": ALLIANCE }],
            "corporations": [
                { "id": CORPORATION, "alliance_id": ALLIANCE },
                { "id": SECOND_CORPORATION, "alliance_id": ALLIANCE },
                { "id": STRANGERS },
            ],
            "generate": { "first_id": crowd.eve_id(0), "count": crowd.len(), "corporations": [CORPORATION] },
            "characters": characters,
        })
    }
}
