//! Bulk answers, bad ids and outages.

use std::{collections::HashMap, time::Duration};

use esi::{Affiliations, BadId, Esi, EsiError, SecondAnswer, SecondSource};
use esi_simulator::{AllianceShown, CharacterState, DOOMHEIM, Fault, Kind, Route, World};
use identity::{
    approval::Organisation,
    ids::{CorporationId, EveCharacterId},
};

use crate::support::{ALLIANCE, Bench, CORPORATION, FIRST, character, member, nth, thousand, within};

fn refused(bench: &Bench) -> u64 {
    let counts = bench.simulator.counts();
    counts.answered(Route::Affiliation, 404) + counts.answered(Route::Affiliation, 400)
}

fn with_state(state: CharacterState, indices: impl IntoIterator<Item = i64>) -> World {
    let mut world = crate::support::world();
    for index in indices {
        world.character_mut(FIRST + index).unwrap().state = state;
    }
    world
}

/// How many ids are in each list.
fn sizes(result: &Affiliations) -> (usize, usize, usize, usize) {
    (result.found.len(), result.missing.len(), result.bad.len(), result.unasked.len())
}

#[tokio::test]
async fn a_thousand_characters_take_one_call() {
    let bench = Bench::start();
    let result = bench.esi().await.affiliations(&thousand(), within(10)).await.unwrap();
    assert_eq!(sizes(&result), (1000, 0, 0, 0));
    let found: HashMap<_, _> = result.found.into_iter().collect();
    assert_eq!(found[&nth(0)], member());
    assert_eq!(found[&nth(1)].alliance, None);
    assert_eq!(bench.simulator.counts().total(), 1);
    bench.well_behaved();
}

#[tokio::test]
async fn nothing_asked_is_nothing_called() {
    let bench = Bench::start();
    assert_eq!(bench.esi().await.affiliations(&[], within(1)).await, Ok(Affiliations::default()));
    assert_eq!(bench.simulator.counts().total(), 0);
}

#[tokio::test]
async fn duplicates_are_asked_once_and_more_than_a_thousand_in_pieces() {
    let bench = Bench::start();
    let ids: Vec<_> = thousand().into_iter().chain(thousand()).chain([EveCharacterId(7)]).collect();
    let result = bench.esi().await.affiliations(&ids, within(10)).await.unwrap();
    assert_eq!(sizes(&result), (1000, 0, 1, 0));
    bench.well_behaved();
}

#[tokio::test]
async fn one_dead_id_anywhere_costs_eleven_refusals_at_most() {
    for index in [0, 500, 999] {
        let bench = Bench::of(with_state(CharacterState::Deleted, [index]));
        let result = bench.esi().await.affiliations(&thousand(), within(20)).await.unwrap();
        assert_eq!(result.bad, [(nth(index), BadId::Deleted)]);
        assert_eq!(sizes(&result), (999, 0, 1, 0));
        assert!(refused(&bench) <= 11, "{}", refused(&bench));
        assert_eq!(bench.simulator.counts().arrived(Route::Character), 1);
        bench.well_behaved();
    }
}

#[tokio::test]
async fn bad_ids_answered_400_are_found_as_well() {
    let bench = Bench::of(with_state(CharacterState::Deleted, [123]));
    bench.simulator.faults().add(Fault::on(Route::Affiliation, Kind::BadIdsAs400));
    let result = bench.esi().await.affiliations(&thousand(), within(20)).await.unwrap();
    assert_eq!(result.bad, [(nth(123), BadId::Deleted)]);
    assert_eq!(bench.simulator.counts().answered(Route::Affiliation, 404), 0);
    bench.well_behaved();
}

#[tokio::test]
async fn twelve_scattered_dead_ids_cost_no_more_than_the_floor_leaves() {
    let bench = Bench::of(with_state(CharacterState::Deleted, (0..12).map(|i| i * 83 + 1)));
    let result = bench.esi().await.affiliations(&thousand(), within(5)).await.unwrap();
    let errors = refused(&bench) + bench.simulator.counts().answered(Route::Character, 404);
    assert_eq!(sizes(&result), (988, 0, 12, 0));
    assert!(errors <= 80, "{errors}");
    bench.well_behaved();
}

#[tokio::test]
async fn the_error_budget_ends_a_hunt_with_the_rest_unasked() {
    let bench = Bench::of(with_state(CharacterState::Deleted, [0, 999]));
    bench.simulator.settings(|settings| settings.error_limit = 30);
    let esi = bench.esi().await;
    let result = esi.affiliations(&thousand(), within(5)).await.unwrap();
    let (found, missing, bad, unasked) = sizes(&result);
    assert_eq!((found, missing, bad), (0, 0, 0));
    assert_eq!(unasked, 1000);
    assert_eq!(refused(&bench), 10);
    assert!(matches!(esi.affiliations(&thousand(), within(5)).await, Err(EsiError::Budget { .. })));
    assert_eq!(refused(&bench), 10);
    bench.well_behaved();
}

#[tokio::test]
async fn an_id_nobody_knows_a_deleted_and_a_refused_one_are_told_apart() {
    let mut world = with_state(CharacterState::Deleted, [1]);
    world.put_character(esi_simulator::Character { state: CharacterState::Old, ..character(FIRST + 2) });
    let bench = Bench::of(world);
    let ids = [nth(0), nth(1), nth(2), nth(3), EveCharacterId(5)];
    let result = bench.esi().await.affiliations(&ids, within(20)).await.unwrap();
    let mut bad = result.bad.clone();
    bad.sort_by_key(|(id, _)| *id);
    assert_eq!(
        bad,
        [(EveCharacterId(5), BadId::NotFound), (nth(1), BadId::Deleted), (nth(2), BadId::AffiliationRefuses(member()))]
    );
    assert_eq!(sizes(&result), (2, 0, 3, 0));
    bench.well_behaved();
}

#[tokio::test]
async fn two_old_characters_alone_are_no_outage() {
    let bench = Bench::of(with_state(CharacterState::Old, [0, 2]));
    let result = bench.esi().await.affiliations(&[nth(0), nth(2)], within(20)).await.unwrap();
    assert_eq!(sizes(&result), (0, 0, 2, 0));
    bench.well_behaved();
}

#[tokio::test]
async fn a_route_that_answers_not_found_to_everybody_is_down_after_one_call() {
    let bench = Bench::start();
    bench.simulator.faults().add(Fault::on(Route::Affiliation, Kind::NotFound));
    let error = bench.esi().await.affiliations(&thousand(), within(20)).await.unwrap_err();
    assert!(matches!(error, EsiError::Down { .. }), "{error}");
    assert_eq!(bench.simulator.counts().total(), 1);
}

#[tokio::test]
async fn a_route_that_refuses_characters_that_exist_is_down_after_two_of_them() {
    let bench = Bench::start();
    bench.simulator.faults().add(Fault::on(Route::Affiliation, Kind::CharacterNotFound));
    let error = bench.esi().await.affiliations(&thousand(), within(20)).await.unwrap_err();
    assert!(matches!(error, EsiError::Down { .. }), "{error}");
    assert!(refused(&bench) <= 12, "{}", refused(&bench));
    assert_eq!(bench.simulator.counts().arrived(Route::Character), 2);
    bench.well_behaved();
}

#[tokio::test]
async fn an_outage_in_the_words_for_very_old_characters_is_called_one() {
    let bench = Bench::of(with_state(CharacterState::Old, 0..1000));
    let error = bench.esi().await.affiliations(&thousand(), within(20)).await.unwrap_err();
    assert!(matches!(error, EsiError::Down { .. }), "{error}");
    assert!(refused(&bench) <= 20, "{}", refused(&bench));
    assert_eq!(bench.simulator.counts().arrived(Route::Character), 5);
    bench.well_behaved();
}

#[tokio::test]
async fn very_old_characters_before_all_others_are_no_outage() {
    let bench = Bench::of(with_state(CharacterState::Old, 0..6));
    let result = bench.esi().await.affiliations(&thousand(), within(20)).await.unwrap();
    assert_eq!(sizes(&result), (994, 0, 6, 0));
    let ids: std::collections::HashSet<_> = result.found.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), 994, "nobody is found twice");
    bench.well_behaved();
}

#[tokio::test]
async fn a_few_very_old_characters_alone_are_no_outage() {
    let bench = Bench::of(with_state(CharacterState::Old, 0..10));
    let ids: Vec<_> = (0..10).map(nth).collect();
    let result = bench.esi().await.affiliations(&ids, within(20)).await.unwrap();
    assert_eq!(sizes(&result), (0, 0, 10, 0));
    bench.well_behaved();
}

#[tokio::test]
async fn characters_left_out_of_the_answer_are_missing_and_not_gone() {
    let bench = Bench::start();
    bench.simulator.faults().add(Fault::on(Route::Affiliation, Kind::MissingRows { ids: vec![FIRST] }));
    bench.simulator.faults().add(Fault::on(Route::Affiliation, Kind::ExtraFields));
    let result = bench.esi().await.affiliations(&thousand(), within(20)).await.unwrap();
    assert_eq!(sizes(&result), (999, 1, 0, 0));
    assert_eq!(result.missing, [nth(0)]);
    bench.well_behaved();
}

#[tokio::test]
async fn the_second_source_goes_by_the_corporations_own_alliance() {
    let mut world = crate::support::world();
    world.put_character(esi_simulator::Character { alliance: AllianceShown::Stale(99_000_009), ..character(FIRST) });
    world.put_character(esi_simulator::Character { state: CharacterState::Deleted, ..character(FIRST + 1) });
    world.move_character(FIRST + 2, DOOMHEIM);
    world.move_character(FIRST + 3, 98_999_999);
    let bench = Bench::of(world);
    let esi = bench.esi().await;
    let ask = async |id| {
        let answer: Result<SecondAnswer, EsiError> = esi.organisation_by_second_source(id, within(20)).await;
        answer.map(|answer| answer.source)
    };
    assert_eq!(ask(nth(0)).await, Ok(SecondSource::Member(member())));
    assert_eq!(ask(nth(1)).await, Ok(SecondSource::Gone));
    assert_eq!(ask(nth(2)).await, Ok(SecondSource::Gone));
    assert!(matches!(ask(nth(3)).await, Err(EsiError::Unavailable(_))));
    assert_eq!(ask(EveCharacterId(5)).await, Err(EsiError::NotFound));
    let old = esi.affiliations(&[nth(0)], within(20)).await.unwrap();
    let shown = Organisation { corporation: CorporationId(CORPORATION), alliance: None };
    assert_ne!(old.found[0].1, shown);
    bench.well_behaved();
}

/// Asks, from what is kept, until the answer is so old.
async fn until_as_old(esi: &Esi, id: EveCharacterId, age: Duration) -> Duration {
    let asked = async {
        loop {
            let answer = esi.organisation_by_second_source(id, within(20)).await.unwrap();
            if answer.age >= age {
                return answer.age;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asked).await.expect("it grows old")
}

#[tokio::test]
async fn the_second_source_says_how_old_the_older_of_its_sheets_is_in_every_shard() {
    let bench = Bench::of(with_state(CharacterState::Deleted, [1]));
    let (first, second) = (bench.esi().await, bench.esi().await);
    let new = first.organisation_by_second_source(nth(0), within(20)).await.unwrap();
    assert_eq!(new, SecondAnswer { source: SecondSource::Member(member()), age: Duration::ZERO });
    let least = Duration::from_millis(100);
    until_as_old(&first, nth(0), least).await;
    assert!(until_as_old(&second, nth(0), least).await < Duration::from_secs(20), "not the time it is kept");
    assert_eq!(bench.simulator.counts().total(), 2);
    // A new sheet of a character, the old one of the corporation.
    assert!(second.organisation_by_second_source(nth(2), within(20)).await.unwrap().age >= least);
    assert_eq!(bench.simulator.counts().total(), 3);
    let gone = SecondAnswer { source: SecondSource::Gone, age: Duration::ZERO };
    assert_eq!(second.organisation_by_second_source(nth(1), within(20)).await, Ok(gone));
    bench.well_behaved();
}

#[tokio::test]
async fn names_are_found_around_an_id_that_has_none() {
    let bench = Bench::start();
    let ids = [FIRST, CORPORATION, ALLIANCE, 5, FIRST + 1];
    let names = bench.esi().await.names(&ids, within(20)).await;
    assert_eq!(names.len(), 4);
    assert_eq!(names[&ALLIANCE], format!("Alliance {ALLIANCE}"));
    bench.well_behaved();
}
