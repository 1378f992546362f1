//! Token, revocation, key set and metadata.

use esi_simulator::{Audience, BadToken, Fault, Issuer, Kind, Route, Scope, Scopes, Simulator};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{CHARACTER, get, refresh, request, send, sso, world};

/// A simulator and a refresh token of [`CHARACTER`].
fn with_token() -> (Simulator, String) {
    let mut world = world();
    let token = world.issue_refresh_token(CHARACTER);
    (Simulator::start(world), token)
}

/// The claims, checked as a careful client does.
async fn verified(simulator: &Simulator, access_token: &Value) -> Result<Value, String> {
    let keys: JwkSet = serde_json::from_value(get(simulator, "/oauth/jwks").await.json()).expect("the key set is one");
    let token = access_token.as_str().ok_or("no access token")?;
    let kid = decode_header(token).map_err(|error| error.to_string())?.kid.ok_or("no kid")?;
    let key = DecodingKey::from_jwk(keys.find(&kid).ok_or("unknown kid")?).map_err(|error| error.to_string())?;
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_audience(&["sim-client", "EVE Online"]);
    rules.set_issuer(&["login.eveonline.com", "https://login.eveonline.com", "https://login.eveonline.com/"]);
    let claims = decode::<Value>(token, &key, &rules).map_err(|error| error.to_string())?.claims;
    if claims["sub"] == json!("CHARACTER:EVE:90000001") { Ok(claims) } else { Err("wrong sub".to_owned()) }
}

#[tokio::test]
async fn metadata_points_to_this_very_server() {
    let (simulator, _) = with_token();
    let metadata = get(&simulator, "/.well-known/oauth-authorization-server").await.json();
    assert_eq!(metadata["token_endpoint"], json!(simulator.sso_url() + "/v2/oauth/token"));
    assert_eq!(metadata["revocation_endpoint"], json!(simulator.sso_url() + "/v2/oauth/revoke"));
    assert_eq!(metadata["jwks_uri"], json!(simulator.sso_url() + "/oauth/jwks"));
    assert_eq!(metadata["issuer"], json!("https://login.eveonline.com"));
}

#[tokio::test]
async fn a_refresh_token_buys_a_token_that_verifies() {
    let (simulator, token) = with_token();
    let answer = refresh(&simulator, &token).await.json();
    assert_eq!((&answer["expires_in"], &answer["refresh_token"]), (&json!(1199), &json!(token)));
    let claims = verified(&simulator, &answer["access_token"]).await.unwrap();
    assert_eq!((&claims["owner"], &claims["name"]), (&json!("owner-90000001"), &json!("Character 90000001")));
    assert_eq!(claims["aud"], json!(["sim-client", "EVE Online"]));
    assert_eq!(claims["scp"], json!(["publicData"]));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 1199);
    assert_eq!(simulator.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn claims_take_every_form_they_have_in_the_wild() {
    let (simulator, token) = with_token();
    let forms = [
        (Issuer::Host, Audience::Single, Scopes::Absent, json!(["login.eveonline.com", "EVE Online", null])),
        (
            Issuer::UrlWithSlash,
            Audience::List,
            Scopes::One("publicData".into()),
            json!(["https://login.eveonline.com/", ["sim-client", "EVE Online"], "publicData"]),
        ),
    ];
    for (issuer, audience, scopes, expected) in forms {
        simulator.settings(|settings| {
            (settings.issuer, settings.audience, settings.scopes) = (issuer, audience, scopes);
        });
        let answer = refresh(&simulator, &token).await.json();
        let claims = verified(&simulator, &answer["access_token"]).await.unwrap();
        assert_eq!(json!([claims["iss"], claims["aud"], claims.get("scp")]), expected);
    }
}

#[tokio::test]
async fn a_wrong_client_and_a_wrong_request_are_told_apart() {
    let (simulator, token) = with_token();
    for path in ["/v2/oauth/token", "/v2/oauth/revoke"] {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token.as_str()), ("token", token.as_str())];
        let anonymous = request(&simulator.sso_url(), Method::POST, path).form(&form);
        assert_eq!(send(anonymous).await.error(), (401, "invalid_client".into()));
        let wrong = request(&simulator.sso_url(), Method::POST, path).basic_auth("sim-client", Some("no")).form(&form);
        assert_eq!(send(wrong).await.error(), (401, "invalid_client".into()));
        let json = request(&simulator.sso_url(), Method::POST, path).basic_auth("sim-client", Some("sim-secret"));
        assert_eq!(send(json.json(&json!({ "token": token }))).await.error(), (400, "invalid_request".into()));
    }
    let other_grant = sso(&simulator, "/v2/oauth/token", &[("grant_type", "password")]).await;
    assert_eq!(other_grant.error(), (400, "unsupported_grant_type".into()));
    assert_eq!(simulator.violations().len(), 2, "the bodies that were no forms");
    assert_eq!(refresh(&simulator, &token).await.status, 200);
}

#[tokio::test]
async fn a_revoked_an_unknown_and_a_deleted_characters_token_are_invalid() {
    let (simulator, token) = with_token();
    let revoked = sso(&simulator, "/v2/oauth/revoke", &[("token", &token)]).await;
    assert_eq!(revoked.status, 200);
    assert_eq!(refresh(&simulator, &token).await.error(), (400, "invalid_grant".into()));
    assert_eq!(refresh(&simulator, "never-issued").await.error(), (400, "invalid_grant".into()));

    let tokens = [0; 2].map(|_| simulator.world(|world| world.issue_refresh_token(CHARACTER)));
    simulator.world(|world| world.revoke_refresh_tokens_of(CHARACTER));
    for token in tokens {
        assert_eq!(refresh(&simulator, &token).await.status, 400);
    }
    let orphan = simulator.world(|world| world.issue_refresh_token(crate::client::DELETED));
    assert_eq!(refresh(&simulator, &orphan).await.error(), (400, "invalid_grant".into()));
}

#[tokio::test]
async fn rotation_makes_the_old_token_invalid() {
    let (simulator, old) = with_token();
    simulator.settings(|settings| settings.rotate_refresh_tokens = true);
    let new = refresh(&simulator, &old).await.json()["refresh_token"].as_str().unwrap().to_owned();
    assert_ne!(new, old);
    assert_eq!(refresh(&simulator, &old).await.error(), (400, "invalid_grant".into()));
    assert_eq!(simulator.world(|world| world.refresh_token_holder(&new)), Some(CHARACTER));
}

#[tokio::test]
async fn sso_faults_answer_as_scripted() {
    let (simulator, token) = with_token();
    let errors = [
        (Kind::InvalidGrant, 400, "invalid_grant"),
        (Kind::InvalidClient, 401, "invalid_client"),
        (Kind::SsoUnavailable, 503, "temporarily_unavailable"),
    ];
    for (kind, status, code) in errors {
        simulator.faults().clear();
        simulator.faults().add(Fault::on(Scope::Sso, kind).first(2));
        for _ in 0..2 {
            assert_eq!(refresh(&simulator, &token).await.error(), (status, code.into()));
        }
        assert_eq!(refresh(&simulator, &token).await.status, 200);
    }
    simulator.faults().add(Fault::on(Route::Token, Kind::NoAccessToken));
    let empty = refresh(&simulator, &token).await;
    assert_eq!((empty.status, empty.json().get("access_token")), (200, None));
}

#[tokio::test]
async fn a_fault_can_aim_at_one_characters_token() {
    let (simulator, token) = with_token();
    let other = simulator.world(|world| world.issue_refresh_token(crate::client::LONER));
    simulator.faults().add(Fault::on(Route::Token, Kind::InvalidGrant).containing([CHARACTER]));
    assert_eq!(refresh(&simulator, &other).await.status, 200);
    assert_eq!(refresh(&simulator, &token).await.status, 400);
}

#[tokio::test]
async fn a_transfer_changes_the_owner() {
    let (simulator, token) = with_token();
    simulator.faults().add(Fault::on(Route::Token, Kind::OwnerChanged { owner_hash: "someone".into() }));
    let answer = refresh(&simulator, &token).await.json();
    assert_eq!(verified(&simulator, &answer["access_token"]).await.unwrap()["owner"], json!("someone"));
}

#[tokio::test]
async fn bad_access_tokens_do_not_verify() {
    let (simulator, token) = with_token();
    let all = [
        (BadToken::Garbage, "InvalidToken"),
        (BadToken::WrongSignature, "InvalidSignature"),
        (BadToken::WrongSubject, "wrong sub"),
        (BadToken::WrongIssuer, "InvalidIssuer"),
        (BadToken::WrongAudience, "InvalidAudience"),
        (BadToken::Expired, "ExpiredSignature"),
    ];
    for (bad, reason) in all {
        simulator.faults().clear();
        simulator.faults().add(Fault::on(Route::Token, Kind::BadToken(bad)));
        let answer = refresh(&simulator, &token).await;
        assert_eq!(answer.status, 200, "{bad:?}");
        assert_eq!(verified(&simulator, &answer.json()["access_token"]).await, Err(reason.to_owned()), "{bad:?}");
    }
}
