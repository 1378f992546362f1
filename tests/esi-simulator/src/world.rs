//! The world the simulator answers from: who exists, where they are, and which refresh tokens live.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::entities::{Alliance, AllianceShown, Character, CharacterState, Corporation};

/// The corporation in which deleted characters end.
pub const DOOMHEIM: i64 = 1_000_001;

/// A run of consecutive characters that cost no memory until one of them is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generated {
    /// Id of the first character.
    pub first_id: i64,
    /// How many follow, the first included.
    pub count: i64,
    /// Corporations dealt out in turn (id `first_id + i` gets entry `i mod len`); at least one.
    pub corporations: Vec<i64>,
}

impl Generated {
    fn corporation_of(&self, id: i64) -> Option<i64> {
        let index = id.checked_sub(self.first_id).filter(|index| (0..self.count).contains(index))?;
        let slot = usize::try_from(index).ok()?.checked_rem(self.corporations.len())?;
        self.corporations.get(slot).copied()
    }
}

/// A refresh token known to SSO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefreshToken {
    /// The token itself.
    pub token: String,
    /// Whose it is.
    pub character_id: i64,
}

/// Things to add or replace, as `POST /_sim/world` takes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorldUpdate {
    /// Alliances, replaced by id.
    pub alliances: Vec<Alliance>,
    /// Corporations, replaced by id.
    pub corporations: Vec<Corporation>,
    /// Characters, replaced by id.
    pub characters: Vec<Character>,
    /// A run of generated characters, added to the earlier ones.
    pub generate: Option<Generated>,
    /// Refresh tokens that are valid from now on.
    pub refresh_tokens: Vec<RefreshToken>,
}

/// Who exists, where they are, and which refresh tokens live. A new world holds Doomheim alone.
#[derive(Clone, Debug)]
pub struct World {
    characters: HashMap<i64, Character>,
    generated: Vec<Generated>,
    corporations: HashMap<i64, Corporation>,
    alliances: HashMap<i64, Alliance>,
    refresh_tokens: HashMap<String, i64>,
    issued: u64,
}

impl Default for World {
    fn default() -> Self {
        let mut world = Self {
            characters: HashMap::new(),
            generated: Vec::new(),
            corporations: HashMap::new(),
            alliances: HashMap::new(),
            refresh_tokens: HashMap::new(),
            issued: 0,
        };
        world.put_corporation(Corporation { name: "Doomheim".into(), ..Corporation::new(DOOMHEIM, None) });
        world
    }
}

/// Where a character is, as a row of affiliation shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// What the routes admit to knowing.
    pub state: CharacterState,
    /// Corporation shown.
    pub corporation_id: i64,
    /// Alliance shown, if any.
    pub alliance_id: Option<i64>,
}

impl World {
    /// Adds or replaces an alliance.
    pub fn put_alliance(&mut self, alliance: Alliance) {
        self.alliances.insert(alliance.id, alliance);
    }

    /// Adds or replaces a corporation.
    pub fn put_corporation(&mut self, corporation: Corporation) {
        self.corporations.insert(corporation.id, corporation);
    }

    /// Adds or replaces a character. Its corporation need not exist; then it has no alliance.
    pub fn put_character(&mut self, character: Character) {
        self.characters.insert(character.id, character);
    }

    /// Adds a run of characters, and those of its corporations that do not exist yet (without alliance).
    pub fn generate(&mut self, run: Generated) {
        for &id in &run.corporations {
            self.corporations.entry(id).or_insert_with(|| Corporation::new(id, None));
        }
        self.generated.push(run);
    }

    /// Applies an update as `POST /_sim/world` does.
    pub fn apply(&mut self, update: WorldUpdate) {
        update.alliances.into_iter().for_each(|alliance| self.put_alliance(alliance));
        update.corporations.into_iter().for_each(|corporation| self.put_corporation(corporation));
        if let Some(run) = update.generate {
            self.generate(run);
        }
        update.characters.into_iter().for_each(|character| self.put_character(character));
        for RefreshToken { token, character_id } in update.refresh_tokens {
            self.refresh_tokens.insert(token, character_id);
        }
    }

    /// The character, generated ones included.
    pub fn character(&self, id: i64) -> Option<Character> {
        self.characters.get(&id).cloned().or_else(|| Some(Character::new(id, self.generated_corporation(id)?)))
    }

    /// The character, to be changed in place.
    pub fn character_mut(&mut self, id: i64) -> Option<&mut Character> {
        let found = self.character(id)?;
        Some(self.characters.entry(id).or_insert(found))
    }

    /// The corporation.
    pub fn corporation(&self, id: i64) -> Option<&Corporation> {
        self.corporations.get(&id)
    }

    /// The corporation, to be changed in place.
    pub fn corporation_mut(&mut self, id: i64) -> Option<&mut Corporation> {
        self.corporations.get_mut(&id)
    }

    /// The alliance.
    pub fn alliance(&self, id: i64) -> Option<&Alliance> {
        self.alliances.get(&id)
    }

    /// Moves a character to another corporation. False if there is no such character.
    pub fn move_character(&mut self, id: i64, corporation_id: i64) -> bool {
        self.character_mut(id).map(|character| character.corporation_id = corporation_id).is_some()
    }

    /// Where a character is, whatever its state; `None` if there never was one.
    pub fn whereabouts(&self, id: i64) -> Option<Whereabouts> {
        let (state, corporation_id, alliance) = match self.characters.get(&id) {
            Some(character) => (character.state, character.corporation_id, character.alliance),
            None => (CharacterState::Living, self.generated_corporation(id)?, AllianceShown::OfCorporation),
        };
        let alliance_id = match alliance {
            AllianceShown::OfCorporation => self.corporations.get(&corporation_id).and_then(|c| c.alliance_id),
            AllianceShown::None => None,
            AllianceShown::Stale(id) => Some(id),
        };
        Some(Whereabouts { state, corporation_id, alliance_id })
    }

    /// A fresh refresh token of the character; earlier ones stay valid.
    pub fn issue_refresh_token(&mut self, character_id: i64) -> String {
        self.issued += 1;
        let token = format!("sim-refresh-{character_id}-{}", self.issued);
        self.refresh_tokens.insert(token.clone(), character_id);
        token
    }

    /// Makes one refresh token invalid. False if it was not valid.
    pub fn revoke_refresh_token(&mut self, token: &str) -> bool {
        self.refresh_tokens.remove(token).is_some()
    }

    /// Makes every refresh token of the character invalid, as a password change does.
    pub fn revoke_refresh_tokens_of(&mut self, character_id: i64) {
        self.refresh_tokens.retain(|_, holder| *holder != character_id);
    }

    /// Whose refresh token this is; `None` if it is not valid.
    pub fn refresh_token_holder(&self, token: &str) -> Option<i64> {
        self.refresh_tokens.get(token).copied()
    }

    fn generated_corporation(&self, id: i64) -> Option<i64> {
        self.generated.iter().find_map(|run| run.corporation_of(id))
    }
}
