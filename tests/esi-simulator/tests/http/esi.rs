//! What each ESI route answers.

use esi_simulator::{AllianceShown, DOOMHEIM, Generated, Route, Simulator, World};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{
    ALLIANCE, CHARACTER, CORPORATION, DELETED, LONER, LONER_CORPORATION, OLD, affiliation, get, request, row, send,
    world,
};

#[tokio::test]
async fn status_names_players_and_admits_vip_mode() {
    let simulator = Simulator::start(world());
    let normal = get(&simulator, "/status").await;
    assert_eq!((normal.status, &normal.json()["players"]), (200, &json!(23_456)));
    assert_eq!(normal.json().get("vip"), None);

    simulator.settings(|settings| settings.vip = true);
    simulator.advance(std::time::Duration::from_secs(30));
    assert_eq!(get(&simulator, "/status").await.json()["vip"], json!(true));
    assert_eq!(simulator.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn meta_status_lists_the_health_of_each_route() {
    let simulator = Simulator::start(world());
    simulator.settings(|settings| settings.route_health.insert(Route::Affiliation, "Degraded".into()));
    let routes = get(&simulator, "/meta/status").await.json()["routes"].clone();
    assert!(
        routes
            .as_array()
            .unwrap()
            .contains(&json!({ "method": "POST", "path": "/characters/affiliation", "status": "Degraded" }))
    );
    assert!(routes.as_array().unwrap().contains(&json!({ "method": "GET", "path": "/status", "status": "OK" })));
}

#[tokio::test]
async fn affiliation_answers_every_id_in_an_order_of_its_own() {
    let simulator = Simulator::start(world());
    let answer = affiliation(&simulator, &[CHARACTER, LONER]).await;
    assert_eq!(
        answer.json(),
        json!([
            { "character_id": LONER, "corporation_id": LONER_CORPORATION },
            { "character_id": CHARACTER, "corporation_id": CORPORATION, "alliance_id": ALLIANCE },
        ])
    );
}

#[tokio::test]
async fn one_unresolvable_id_fails_the_whole_affiliation_call() {
    let simulator = Simulator::start(world());
    for bad in [DELETED, 91_999_999] {
        assert_eq!(affiliation(&simulator, &[CHARACTER, bad]).await.error(), (404, "Character not found".into()));
    }
    assert_eq!(affiliation(&simulator, &[OLD]).await.error(), (404, "No characters found!".into()));
}

#[tokio::test]
async fn affiliation_answers_a_thousand_of_a_million_generated_characters() {
    let mut world = World::default();
    world.generate(Generated { first_id: 2_100_000_000, count: 1_000_000, corporations: vec![98_000_010, 98_000_011] });
    let simulator = Simulator::start(world);
    let ids: Vec<i64> = (2_100_999_000..2_101_000_000).collect();
    let answer = affiliation(&simulator, &ids).await;
    assert_eq!(answer.json().as_array().map(Vec::len), Some(1000));
    assert_eq!(row(&answer, 2_100_999_000)["corporation_id"], json!(98_000_010));
    assert_eq!(row(&answer, 2_100_999_999)["corporation_id"], json!(98_000_011));
    assert_eq!(affiliation(&simulator, &[2_101_000_000]).await.status, 404);

    simulator.world(|world| world.move_character(2_100_999_000, DOOMHEIM));
    assert_eq!(row(&affiliation(&simulator, &ids).await, 2_100_999_000)["corporation_id"], json!(DOOMHEIM));
}

#[tokio::test]
async fn character_tells_living_old_deleted_and_unknown_apart() {
    let simulator = Simulator::start(world());
    let path = |id: i64| format!("/characters/{id}");
    let living = get(&simulator, &path(CHARACTER)).await.json();
    assert_eq!(living["name"], json!("Character 90000001"));
    assert_eq!((&living["corporation_id"], &living["alliance_id"]), (&json!(CORPORATION), &json!(ALLIANCE)));
    assert_eq!(get(&simulator, &path(LONER)).await.json().get("alliance_id"), None);
    assert_eq!(get(&simulator, &path(OLD)).await.status, 200);
    assert_eq!(get(&simulator, &path(DELETED)).await.error(), (404, "Character has been deleted".into()));
    assert_eq!(get(&simulator, &path(1)).await.error(), (404, "Character not found".into()));
}

#[tokio::test]
async fn a_characters_alliance_may_lag_its_corporations() {
    let simulator = Simulator::start(world());
    for (shown, expected) in [(AllianceShown::Stale(99_000_009), json!(99_000_009)), (AllianceShown::None, Value::Null)]
    {
        simulator.world(|world| world.character_mut(CHARACTER).unwrap().alliance = shown);
        let answer = affiliation(&simulator, &[CHARACTER]).await;
        assert_eq!(row(&answer, CHARACTER)["alliance_id"], expected);
    }
    let corporation = get(&simulator, &format!("/corporations/{CORPORATION}")).await;
    assert_eq!(corporation.json()["alliance_id"], json!(ALLIANCE));
}

#[tokio::test]
async fn corporations_and_alliances_are_named_or_not_found() {
    let simulator = Simulator::start(world());
    let corporation = get(&simulator, &format!("/corporations/{CORPORATION}")).await.json();
    assert_eq!((&corporation["name"], &corporation["ticker"]), (&json!("Corporation 98000001"), &json!("C0001")));
    assert_eq!(get(&simulator, &format!("/corporations/{DOOMHEIM}")).await.json()["name"], json!("Doomheim"));
    assert_eq!(get(&simulator, "/corporations/5").await.error(), (404, "Corporation not found".into()));
    let alliance = get(&simulator, &format!("/alliances/{ALLIANCE}")).await.json();
    assert_eq!(alliance["name"], json!("Alliance 99000001"));
    assert_eq!(get(&simulator, "/alliances/5").await.error(), (404, "Alliance not found".into()));
}

#[tokio::test]
async fn names_resolves_every_category_and_fails_over_one_bad_id() {
    let simulator = Simulator::start(world());
    let names = async |ids: &[i64]| send(request(&simulator.url(), Method::POST, "/universe/names").json(ids)).await;
    let answer = names(&[CHARACTER, CORPORATION, ALLIANCE]).await;
    for (id, category) in [(CHARACTER, "character"), (CORPORATION, "corporation"), (ALLIANCE, "alliance")] {
        assert_eq!(row(&answer, id)["category"], json!(category));
    }
    assert_eq!(names(&[CHARACTER, 5]).await.status, 404);
}

#[tokio::test]
async fn an_unknown_path_or_method_is_not_found() {
    let simulator = Simulator::start(world());
    assert_eq!(get(&simulator, "/status/").await.error(), (404, "Not found".into()));
    assert_eq!(get(&simulator, "/characters/affiliation").await.status, 404);
    assert_eq!(simulator.counts().answered(Route::Unknown, 404), 2);
    assert_eq!(simulator.violations().len(), 2);
}
