//! ESI's own answers from the world, as they are when nothing is wrong but what the world and the faults say.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::call::Call;
use crate::entities::CharacterState;
use crate::fault::Kind;
use crate::reply::Reply;
use crate::route::Route;
use crate::script::Hit;
use crate::settings::Settings;
use crate::world::{Whereabouts, World};

pub(crate) fn answer(world: &World, settings: &Settings, call: &Call, hits: &[Hit]) -> Reply {
    let ids = call.ids.as_deref().unwrap_or_default();
    match (call.route, call.path_id) {
        (Route::Status, _) => status(settings),
        (Route::MetaStatus, _) => meta_status(settings),
        (Route::Affiliation, _) => affiliation(world, ids, hits),
        (Route::Names, _) => names(world, ids, hits),
        (Route::Character, Some(id)) => character(world, id, hits),
        (Route::Corporation, Some(id)) => corporation(world, id),
        (Route::Alliance, Some(id)) => alliance(world, id),
        _ => Reply::error(404, "Not found"),
    }
}

fn status(settings: &Settings) -> Reply {
    let mut body = json!({
        "players": settings.players,
        "server_version": settings.server_version,
        "start_time": settings.start_time,
    });
    if settings.vip {
        body["vip"] = Value::Bool(true);
    }
    Reply::value(200, &body)
}

fn meta_status(settings: &Settings) -> Reply {
    let health = |route: &Route| settings.route_health.get(route).map_or("OK", String::as_str);
    let routes: Vec<Value> = Route::ESI
        .iter()
        .map(|route| json!({ "method": route.method(), "path": route.template(), "status": health(route) }))
        .collect();
    Reply::value(200, &json!({ "routes": routes }))
}

/// Written by hand: a thousand rows a call, many calls a second.
fn affiliation(world: &World, ids: &[i64], hits: &[Hit]) -> Reply {
    let mut body = String::with_capacity(ids.len() * 88 + 2);
    body.push('[');
    // No order is promised, so the order of the request must not come back.
    for &id in ids.iter().rev() {
        let Some(found) = world.whereabouts(id).filter(|found| found.state != CharacterState::Deleted) else {
            return bad_id(hits, "Character not found");
        };
        if found.state == CharacterState::Old {
            return bad_id(hits, "No characters found!");
        }
        if is_missing(id, hits) {
            continue;
        }
        let found = as_shown(id, found, hits);
        if body.len() > 1 {
            body.push(',');
        }
        // Writing to a String does not fail.
        let _ = write!(body, r#"{{"character_id":{id},"corporation_id":{}"#, found.corporation_id);
        if let Some(alliance_id) = found.alliance_id {
            let _ = write!(body, r#","alliance_id":{alliance_id}"#);
        }
        body.push('}');
    }
    body.push(']');
    Reply::json(200, body)
}

fn names(world: &World, ids: &[i64], hits: &[Hit]) -> Reply {
    let mut rows = Vec::with_capacity(ids.len());
    for &id in ids.iter().rev() {
        let character = world.character(id).filter(|character| character.state != CharacterState::Deleted);
        let (category, name) = if let Some(character) = character {
            ("character", character.shown_name())
        } else if let Some(corporation) = world.corporation(id) {
            ("corporation", corporation.shown_name())
        } else if let Some(alliance) = world.alliance(id) {
            ("alliance", alliance.shown_name())
        } else {
            return bad_id(hits, "Ensure all IDs are valid before resolving.");
        };
        if !is_missing(id, hits) {
            rows.push(json!({ "id": id, "name": name, "category": category }));
        }
    }
    Reply::value(200, &Value::Array(rows))
}

fn character(world: &World, id: i64, hits: &[Hit]) -> Reply {
    let (Some(character), Some(found)) = (world.character(id), world.whereabouts(id)) else {
        return bad_id(hits, "Character not found");
    };
    if character.state == CharacterState::Deleted {
        return bad_id(hits, "Character has been deleted");
    }
    let found = as_shown(id, found, hits);
    let mut body = json!({
        "birthday": "2015-03-24T11:37:00Z",
        "bloodline_id": 3,
        "corporation_id": found.corporation_id,
        "description": "",
        "gender": "female",
        "name": character.shown_name(),
        "race_id": 2,
        "security_status": 0.0,
    });
    if let Some(alliance_id) = found.alliance_id {
        body["alliance_id"] = alliance_id.into();
    }
    Reply::value(200, &body)
}

fn corporation(world: &World, id: i64) -> Reply {
    let Some(corporation) = world.corporation(id) else { return Reply::error(404, "Corporation not found") };
    let mut body = json!({
        "ceo_id": 1,
        "creator_id": 1,
        "member_count": 1,
        "name": corporation.shown_name(),
        "tax_rate": 0.1,
        "ticker": corporation.shown_ticker(),
    });
    if let Some(alliance_id) = corporation.alliance_id {
        body["alliance_id"] = alliance_id.into();
    }
    Reply::value(200, &body)
}

fn alliance(world: &World, id: i64) -> Reply {
    let Some(alliance) = world.alliance(id) else { return Reply::error(404, "Alliance not found") };
    Reply::value(
        200,
        &json!({
            "creator_corporation_id": 1,
            "creator_id": 1,
            "date_founded": "2016-06-26T21:00:00Z",
            "name": alliance.shown_name(),
            "ticker": format!("A{:04}", id.rem_euclid(10_000)),
        }),
    )
}

fn bad_id(hits: &[Hit], text: &str) -> Reply {
    let as_400 = hits.iter().any(|hit| hit.kind == Kind::BadIdsAs400);
    Reply::error(if as_400 { 400 } else { 404 }, text)
}

fn is_missing(id: i64, hits: &[Hit]) -> bool {
    hits.iter().any(|hit| matches!(&hit.kind, Kind::MissingRows { ids } if ids.is_empty() || ids.contains(&id)))
}

fn as_shown(id: i64, found: Whereabouts, hits: &[Hit]) -> Whereabouts {
    let stale = hits.iter().find_map(|hit| match hit.kind {
        Kind::StaleOrganisation { character_id, corporation_id, alliance_id } if character_id == id => {
            Some(Whereabouts { corporation_id, alliance_id, ..found })
        }
        _ => None,
    });
    stale.unwrap_or(found)
}
