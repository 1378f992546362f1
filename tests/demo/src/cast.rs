//! Who is in the story: organisations, and 5,000 pilots with names.

use esi_simulator::{Alliance, Character, Corporation, RefreshToken, World};
use harness::{Lists, Newcomer, newcomer};
use identity::approval::Rule;

/// An alliance on the allow list.
pub(crate) const NORTHERN_ACCORD: i64 = 99_000_001;
/// An alliance on no list.
pub(crate) const CRIMSON_PACT: i64 = 99_000_666;

/// A member of the Accord.
pub(crate) const IRON_HARBOUR: i64 = 98_000_012;
/// A member of the Accord, until the war.
pub(crate) const KESTREL_WING: i64 = 98_000_013;
/// In no alliance, and on the allow list itself.
pub(crate) const FREE_SURVEYORS: i64 = 98_000_014;
/// A member of the Pact.
pub(crate) const BLACK_TIDE: i64 = 98_666_001;
/// In no alliance and on no list.
pub(crate) const DRIFTERS_REST: i64 = 98_666_002;
/// A member of the Accord, and on the deny list all the same.
pub(crate) const QUIET_EYES: i64 = 98_666_003;

/// How many characters there are.
pub(crate) const PILOTS: usize = 5000;
/// Every so many-th has a stored SSO token.
const TOKEN_EVERY: usize = 40;

/// A corporation at the start.
pub(crate) struct Home {
    /// Its EVE id.
    pub(crate) id: i64,
    /// Its name.
    pub(crate) name: &'static str,
    /// Its alliance.
    pub(crate) alliance: Option<i64>,
    /// How many of the pilots are in it; they follow one another.
    pub(crate) pilots: usize,
}

/// All corporations; those without pilots are where some go.
pub(crate) const CORPORATIONS: &[Home] = &[
    Home { id: 98_000_011, name: "Dawn Shipyards", alliance: Some(NORTHERN_ACCORD), pilots: 1500 },
    Home { id: IRON_HARBOUR, name: "Iron Harbour", alliance: Some(NORTHERN_ACCORD), pilots: 1600 },
    Home { id: KESTREL_WING, name: "Kestrel Wing", alliance: Some(NORTHERN_ACCORD), pilots: 900 },
    Home { id: FREE_SURVEYORS, name: "Free Surveyors", alliance: None, pilots: 1000 },
    Home { id: BLACK_TIDE, name: "Black Tide", alliance: Some(CRIMSON_PACT), pilots: 0 },
    Home { id: DRIFTERS_REST, name: "Drifters Rest", alliance: None, pilots: 0 },
    Home { id: QUIET_EYES, name: "Quiet Eyes", alliance: Some(NORTHERN_ACCORD), pilots: 0 },
];

/// Name of an alliance of the story.
pub(crate) fn alliance_name(id: i64) -> &'static str {
    if id == NORTHERN_ACCORD { "Northern Accord" } else { "Crimson Pact" }
}

/// The lists of the brand.
pub(crate) fn lists() -> Lists {
    Lists {
        allowed_corporations: vec![FREE_SURVEYORS],
        allowed_alliances: vec![NORTHERN_ACCORD],
        denied_corporations: vec![QUIET_EYES],
        ..Lists::empty()
    }
}

/// The pilot at this place, as stored: verified an hour ago, with a live session.
pub(crate) fn pilot(place: usize) -> Newcomer {
    let home = home(place);
    let rule = if home.alliance.is_some() { Rule::AllowedAlliance } else { Rule::AllowedCorporation };
    let mut pilot = newcomer(name(place)).corporation(home.id).verified_minutes_ago(60).rule(rule).session();
    if let Some(alliance) = home.alliance {
        pilot = pilot.alliance(alliance);
    }
    if has_token(place) { pilot.token(refresh_token(place)).owner_hash(owner(place)) } else { pilot }
}

/// The world as ESI sees it: the same as stored.
pub(crate) fn world(eve_id: impl Fn(usize) -> i64) -> World {
    let mut world = World::default();
    for id in [NORTHERN_ACCORD, CRIMSON_PACT] {
        world.put_alliance(Alliance { name: alliance_name(id).to_owned(), ..Alliance::new(id) });
    }
    for home in CORPORATIONS {
        world.put_corporation(Corporation { name: home.name.to_owned(), ..Corporation::new(home.id, home.alliance) });
    }
    for place in 0..PILOTS {
        let id = eve_id(place);
        let character = Character::new(id, home(place).id);
        world.put_character(Character { name: name(place), owner_hash: owner(place), ..character });
    }
    let tokens = (0..PILOTS).filter(|place| has_token(*place));
    let refresh_tokens =
        tokens.map(|place| RefreshToken { token: refresh_token(place), character_id: eve_id(place) }).collect();
    world.apply(esi_simulator::WorldUpdate { refresh_tokens, ..Default::default() });
    world
}

fn home(place: usize) -> &'static Home {
    let mut end = 0;
    let found = CORPORATIONS.iter().find(|home| {
        end += home.pilots;
        place < end
    });
    found.expect("the corporations hold all pilots")
}

/// Whether this pilot's SSO token is stored.
pub(crate) fn has_token(place: usize) -> bool {
    place.is_multiple_of(TOKEN_EVERY)
}

fn refresh_token(place: usize) -> String {
    format!("demo-refresh-{place}")
}

fn owner(place: usize) -> String {
    format!("owner-{place}")
}

const BEGINNINGS: [&str; 20] = [
    "Ada", "Bel", "Cor", "Dar", "Eli", "Fen", "Gal", "Hel", "Iri", "Jor", "Kel", "Lor", "Mir", "Nor", "Ori", "Per",
    "Rae", "Sol", "Tal", "Vey",
];
const ENDINGS: [&str; 10] = ["na", "ric", "dis", "mar", "lo", "ven", "th", "sa", "kan", "ro"];
const SURNAMES: [&str; 25] = [
    "Ashdown", "Baros", "Calder", "Drake", "Ekari", "Falk", "Gresh", "Harrow", "Idris", "Jovian", "Karsoth", "Lund",
    "Maas", "Nakata", "Orlo", "Pryde", "Quill", "Rask", "Sarum", "Tanaka", "Umbral", "Varr", "Wexley", "Yulai", "Zand",
];

/// The pilot's name; all differ.
pub(crate) fn name(place: usize) -> String {
    let first = place % (BEGINNINGS.len() * ENDINGS.len());
    let round = place / (BEGINNINGS.len() * ENDINGS.len());
    let (beginning, ending) = (BEGINNINGS[first % BEGINNINGS.len()], ENDINGS[first / BEGINNINGS.len()]);
    format!("{beginning}{ending} {}", SURNAMES[(round + place) % SURNAMES.len()])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_pilot_has_a_home_and_a_name_of_its_own() {
        let names: HashSet<String> = (0..PILOTS).map(name).collect();
        assert_eq!(names.len(), PILOTS);
        assert_eq!(CORPORATIONS.iter().map(|home| home.pilots).sum::<usize>(), PILOTS);
        assert_eq!(home(PILOTS - 1).id, FREE_SURVEYORS);
    }
}
