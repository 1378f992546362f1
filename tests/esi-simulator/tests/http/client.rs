//! A small client that keeps the rules, and the world most tests start from.

use std::time::Duration;

use esi_simulator::{Alliance, Character, CharacterState, Corporation, Simulator, World};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

pub(crate) const ALLIANCE: i64 = 99_000_001;
pub(crate) const CORPORATION: i64 = 98_000_001;
pub(crate) const LONER_CORPORATION: i64 = 98_000_002;
pub(crate) const CHARACTER: i64 = 90_000_001;
pub(crate) const LONER: i64 = 90_000_002;
pub(crate) const DELETED: i64 = 90_000_003;
pub(crate) const OLD: i64 = 90_000_004;
/// Every wait of these tests ends by then, whatever went wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A character in an alliance, one without, a deleted one and one too old for affiliation.
pub(crate) fn world() -> World {
    let mut world = World::default();
    world.put_alliance(Alliance::new(ALLIANCE));
    world.put_corporation(Corporation::new(CORPORATION, Some(ALLIANCE)));
    world.put_corporation(Corporation::new(LONER_CORPORATION, None));
    world.put_character(Character::new(CHARACTER, CORPORATION));
    world.put_character(Character::new(LONER, LONER_CORPORATION));
    world.put_character(Character { state: CharacterState::Deleted, ..Character::new(DELETED, CORPORATION) });
    world.put_character(Character { state: CharacterState::Old, ..Character::new(OLD, CORPORATION) });
    world
}

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("the body is JSON")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("the header is text"))
    }

    pub(crate) fn error(&self) -> (u16, String) {
        (self.status, self.json()["error"].as_str().expect("the body names an error").to_owned())
    }
}

#[expect(clippy::disallowed_methods, reason = "the simulator is tested with a client that adds nothing of its own")]
pub(crate) fn bare_client() -> Client {
    Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client can be built")
}

/// A request as the rules want it.
pub(crate) fn request(base: &str, method: Method, path: &str) -> RequestBuilder {
    bare_client()
        .request(method, format!("{base}{path}"))
        .header("user-agent", "esi-simulator-tests/1.0 (tests@example.org)")
        .header("x-compatibility-date", "2025-11-01")
}

pub(crate) async fn send(request: RequestBuilder) -> Answer {
    try_send(request).await.expect("an answer arrives")
}

pub(crate) async fn try_send(request: RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Answer { status, headers, text: response.text().await? })
}

pub(crate) async fn get(simulator: &Simulator, path: &str) -> Answer {
    send(request(&simulator.url(), Method::GET, path)).await
}

pub(crate) fn affiliation_request(simulator: &Simulator, ids: &[i64]) -> RequestBuilder {
    request(&simulator.url(), Method::POST, "/characters/affiliation").json(ids)
}

pub(crate) async fn affiliation(simulator: &Simulator, ids: &[i64]) -> Answer {
    send(affiliation_request(simulator, ids)).await
}

/// A call to the token or revocation endpoint with the right client.
pub(crate) async fn sso(simulator: &Simulator, path: &str, form: &[(&str, &str)]) -> Answer {
    let request = request(&simulator.sso_url(), Method::POST, path);
    send(request.basic_auth("sim-client", Some("sim-secret")).form(form)).await
}

pub(crate) async fn refresh(simulator: &Simulator, token: &str) -> Answer {
    sso(simulator, "/v2/oauth/token", &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
}

/// The row of `id` in an affiliation or names answer.
pub(crate) fn row(answer: &Answer, id: i64) -> Value {
    let rows = answer.json();
    let found = rows
        .as_array()
        .and_then(|rows| rows.iter().find(|row| row["character_id"] == json!(id) || row["id"] == json!(id)).cloned());
    found.unwrap_or_default()
}
