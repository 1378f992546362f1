//! Faults that answer instead of the route.

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, Time};

use crate::fault::{Kind, Scope};
use crate::manners::Manners;
use crate::reply::Reply;
use crate::route::Route;
use crate::script::Hit;
use crate::settings::Settings;
use crate::sso::invalid_grant;

/// Daily downtime begins at this hour, UTC.
const DOWNTIME_HOUR: u8 = 11;

/// The answer of the first hit that has one; `None`: the route answers.
pub(crate) fn replacement(
    hits: &[Hit],
    route: Route,
    settings: &Settings,
    now: OffsetDateTime,
    manners: &mut Manners,
) -> Option<Reply> {
    hits.iter().find_map(|hit| match &hit.kind {
        Kind::CharacterNotFound => Some(Reply::error(404, "Character not found")),
        Kind::BadRequest => Some(Reply::error(400, "Invalid request")),
        Kind::NotFound => Some(Reply::error(404, "Not found")),
        Kind::ErrorLimited { reset_seconds } => {
            manners.exhaust(settings, now, *reset_seconds);
            Some(Reply::error(420, "This software has exceeded the error limit for ESI."))
        }
        Kind::RateLimited { retry_after_seconds, form } => {
            Some(manners.rate_limited(Scope::from(route), now, *retry_after_seconds, *form))
        }
        Kind::DisguisedThrottle => Some(Reply::error(
            500,
            "Undefined 429 response. Original message: {\"error\":\"Too many requests\",\"timeout\":10}",
        )),
        Kind::InternalError => Some(Reply::plain(500, "Internal Server Error")),
        Kind::BadGateway => Some(Reply::bad_gateway()),
        Kind::Unavailable => Some(Reply::unavailable()),
        Kind::GatewayTimeout => Some(Reply::gateway_timeout()),
        Kind::Downtime { minutes, not_found_minutes } => downtime(*minutes, *not_found_minutes, hit.count, now),
        Kind::InvalidGrant => Some(invalid_grant()),
        Kind::InvalidClient => Some(Reply::oauth_error(401, "invalid_client", "Unknown client or wrong secret.")),
        Kind::SsoUnavailable => Some(Reply::oauth_error(503, "temporarily_unavailable", "Try again later.")),
        Kind::BadIdsAs400
        | Kind::Slow { .. }
        | Kind::Hang
        | Kind::CutBeforeHeaders
        | Kind::CutMidBody
        | Kind::TruncatedJson
        | Kind::MissingRows { .. }
        | Kind::ExtraFields
        | Kind::StaleOrganisation { .. }
        | Kind::NoAccessToken
        | Kind::BadToken(_)
        | Kind::OwnerChanged { .. } => None,
    })
}

fn downtime(minutes: i64, not_found_minutes: i64, count: u64, now: OffsetDateTime) -> Option<Reply> {
    let begins = now.replace_time(Time::MIDNIGHT) + Duration::hours(DOWNTIME_HOUR.into());
    let down_until = begins + Duration::minutes(minutes);
    if (begins..down_until).contains(&now) {
        return Some(match count % 3 {
            1 => Reply::unavailable(),
            2 => Reply::bad_gateway(),
            _ => Reply::gateway_timeout(),
        });
    }
    let missing = (down_until..down_until + Duration::minutes(not_found_minutes)).contains(&now);
    missing.then(|| Reply::error(404, "Not found"))
}

/// Changes to a finished body.
pub(crate) fn deface(hits: &[Hit], reply: &mut Reply) {
    for hit in hits {
        match hit.kind {
            Kind::ExtraFields => add_fields(reply),
            Kind::TruncatedJson => {
                reply.body.truncate(reply.body.len() / 2);
                reply.damaged = true;
            }
            Kind::CutBeforeHeaders | Kind::CutMidBody => reply.damaged = true,
            _ => {}
        }
    }
}

fn add_fields(reply: &mut Reply) {
    let Ok(mut body) = serde_json::from_str::<Value>(&reply.body) else { return };
    let extend = |value: &mut Value| {
        if let Some(fields) = value.as_object_mut() {
            fields.insert("added_field".to_owned(), json!({ "nested": [1, null, "new"] }));
            fields.insert("faction_id".to_owned(), json!(500_001));
        }
    };
    match &mut body {
        Value::Array(rows) => rows.iter_mut().for_each(extend),
        value => extend(value),
    }
    reply.body = body.to_string();
}
