//! EVE SSO: metadata, key set, token and revocation endpoints.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::call::Call;
use crate::clock::machine_time;
use crate::entities::CharacterState;
use crate::fault::{BadToken, Kind};
use crate::reply::Reply;
use crate::route::Route;
use crate::script::Hit;
use crate::settings::Settings;
use crate::token::{LIFETIME_SECONDS, Signer, Subject};
use crate::world::World;

/// The rules a call to SSO breaks; the answer tells by itself.
pub(crate) fn broken_rules(call: &Call) -> Vec<String> {
    let mut broken = Vec::new();
    if call.header("user-agent").is_none_or(|agent| agent.trim().is_empty()) {
        broken.push("no User-Agent".to_owned());
    }
    if is_form(call) && !call.has_content_type("application/x-www-form-urlencoded") {
        broken.push("the body must be sent as application/x-www-form-urlencoded".to_owned());
    }
    broken
}

pub(crate) fn answer(world: &mut World, settings: &Settings, signer: &Signer, call: &Call, hits: &[Hit]) -> Reply {
    if is_form(call) {
        if !call.has_content_type("application/x-www-form-urlencoded") {
            return Reply::oauth_error(400, "invalid_request", "the body must be a form");
        }
        if !is_authorized(settings, call) {
            return Reply::oauth_error(401, "invalid_client", "Unknown client or wrong secret.");
        }
    }
    match call.route {
        Route::SsoMetadata => metadata(call),
        Route::Jwks => Reply::json(200, signer.jwks()),
        Route::Token => token(world, settings, signer, call, hits),
        _ => revoke(world, call),
    }
}

fn is_form(call: &Call) -> bool {
    matches!(call.route, Route::Token | Route::Revoke)
}

/// Addresses follow the `Host` header, so that they hold behind any name the simulator is reached by.
fn metadata(call: &Call) -> Reply {
    let base = format!("http://{}", call.header("host").unwrap_or("localhost"));
    Reply::value(
        200,
        &json!({
            "issuer": "https://login.eveonline.com",
            "authorization_endpoint": format!("{base}/v2/oauth/authorize"),
            "token_endpoint": format!("{base}/v2/oauth/token"),
            "jwks_uri": format!("{base}/oauth/jwks"),
            "revocation_endpoint": format!("{base}/v2/oauth/revoke"),
            "response_types_supported": ["code", "token"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "token_endpoint_auth_signing_alg_values_supported": ["HS256"],
            "revocation_endpoint_auth_methods_supported": ["client_secret_basic"],
            "code_challenge_methods_supported": ["S256"],
            "subject_types_supported": ["public"],
        }),
    )
}

fn token(world: &mut World, settings: &Settings, signer: &Signer, call: &Call, hits: &[Hit]) -> Reply {
    if call.form.get("grant_type").map(String::as_str) != Some("refresh_token") {
        return Reply::oauth_error(400, "unsupported_grant_type", "Only refresh_token is supported.");
    }
    let Some(presented) = call.form.get("refresh_token") else {
        return Reply::oauth_error(400, "invalid_request", "refresh_token is missing.");
    };
    let holder = world.refresh_token_holder(presented).and_then(|id| world.character(id));
    let Some(character) = holder.filter(|character| character.state != CharacterState::Deleted) else {
        return invalid_grant();
    };
    let refresh_token = if settings.rotate_refresh_tokens {
        world.revoke_refresh_token(presented);
        world.issue_refresh_token(character.id)
    } else {
        presented.clone()
    };
    let owner = hits.iter().find_map(|hit| match &hit.kind {
        Kind::OwnerChanged { owner_hash } => Some(owner_hash.clone()),
        _ => None,
    });
    let subject = Subject {
        character_id: character.id,
        name: &character.shown_name(),
        owner_hash: &owner.unwrap_or_else(|| character.shown_owner()),
    };
    let access_token = match signer.sign(settings, &subject, machine_time(), bad_token(hits)) {
        Ok(access_token) => access_token,
        Err(error) => return Reply::plain(500, &error.to_string()),
    };
    let mut body = json!({
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": LIFETIME_SECONDS,
        "refresh_token": refresh_token,
    });
    if hits.iter().any(|hit| hit.kind == Kind::NoAccessToken)
        && let Some(fields) = body.as_object_mut()
    {
        fields.remove("access_token");
    }
    Reply::value(200, &body)
}

/// Unknown tokens are no error, as RFC 7009 asks.
fn revoke(world: &mut World, call: &Call) -> Reply {
    let Some(presented) = call.form.get("token") else {
        return Reply::oauth_error(400, "invalid_request", "token is missing.");
    };
    world.revoke_refresh_token(presented);
    Reply::plain(200, "")
}

pub(crate) fn invalid_grant() -> Reply {
    Reply::oauth_error(400, "invalid_grant", "Invalid refresh token. Token missing/expired.")
}

fn bad_token(hits: &[Hit]) -> Option<BadToken> {
    hits.iter().find_map(|hit| match hit.kind {
        Kind::BadToken(bad) => Some(bad),
        _ => None,
    })
}

fn is_authorized(settings: &Settings, call: &Call) -> bool {
    let wanted = format!("{}:{}", settings.client_id, settings.client_secret);
    let sent = call.header("authorization").and_then(|value| value.strip_prefix("Basic "));
    sent.and_then(|text| STANDARD.decode(text).ok()).is_some_and(|sent| sent == wanted.as_bytes())
}
