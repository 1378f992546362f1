//! What happens in the hours: changes of the world that ESI shows. Pilots are named by their place in the crowd.

use esi_simulator::{DOOMHEIM, Fault, Kind, Route};

use crate::{
    cast::{BLACK_TIDE, CRIMSON_PACT, DRIFTERS_REST, FREE_SURVEYORS, IRON_HARBOUR, KESTREL_WING, QUIET_EYES},
    stage::Stage,
};

/// A pilot of Kestrel Wing, which goes to war.
pub(crate) const KESTREL_PILOT: usize = 3100;
/// The first who leaves.
pub(crate) const LEAVER: usize = 20;

const MOVER: usize = 10;
const MOVER_OUT_OF_ALLIANCE: usize = 12;
const REVOKER: usize = 40;
const SOLD: usize = 1600;
const MISSHOWN: usize = 4030;

/// Who did something in the mixed hour that is no reason to lose a session, and what that was.
pub(crate) const KEEPERS: &[(usize, &str)] = &[
    (MOVER, "moved within the alliance"),
    (MOVER_OUT_OF_ALLIANCE, "moved to an allowed corporation"),
    (REVOKER, "revoked the SSO token"),
    (MISSHOWN, "one source shows Black Tide, one does not"),
];

/// The character of the wrong answer, an hour later.
pub(crate) const MISTAKEN: &[(usize, &str)] = &[(MISSHOWN, "both sources agree again")];

/// Some moved, left, were deleted, sold, revoked their token; one answer is wrong.
pub(crate) fn mixed_hour(stage: &Stage) {
    let id = |place| stage.crowd.eve_id(place);
    stage.esi.world(|world| {
        let moves = [
            (MOVER, IRON_HARBOUR),
            (MOVER_OUT_OF_ALLIANCE, FREE_SURVEYORS),
            (LEAVER, BLACK_TIDE),
            (1520, DRIFTERS_REST),
            (4010, BLACK_TIDE),
            (1530, QUIET_EYES),
            (4020, DOOMHEIM),
        ];
        for (place, corporation) in moves {
            assert!(world.move_character(id(place), corporation), "pilot {place} is in the world");
        }
        world.revoke_refresh_tokens_of(id(REVOKER));
        let sold = world.character_mut(id(SOLD)).expect("the pilot is in the world");
        "a-stranger".clone_into(&mut sold.owner_hash);
    });
    let wrong = Kind::StaleOrganisation {
        character_id: id(MISSHOWN),
        corporation_id: BLACK_TIDE,
        alliance_id: Some(CRIMSON_PACT),
    };
    stage.esi.faults().add(Fault::on(Route::Affiliation, wrong));
}

/// Kestrel Wing changes sides, and all its pilots with it. The wrong answer of the hour before is over.
pub(crate) fn war(stage: &Stage) {
    stage.esi.faults().clear();
    stage.esi.world(|world| {
        let wing = world.corporation_mut(KESTREL_WING).expect("the corporation is in the world");
        wing.alliance_id = Some(CRIMSON_PACT);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::has_token;

    #[test]
    fn the_stories_told_by_a_token_happen_to_pilots_who_have_one() {
        assert!([REVOKER, SOLD].into_iter().all(has_token));
    }
}
