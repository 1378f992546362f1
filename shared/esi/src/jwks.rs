//! Checking an access token: signed by a key of SSO, issued by SSO to this application, for this character, and still
//! valid. Only then is its owner hash worth comparing.

use std::collections::HashMap;

use identity::ids::EveCharacterId;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, errors::ErrorKind, jwk::JwkSet};
use runtime::Secret;
use serde::Deserialize;
use time::OffsetDateTime;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant, timeout_at},
};

use crate::{client::Esi, error::SsoError, settings::Deadline, sso::OwnerHash};

/// Forms of `iss`; all three occur.
const ISSUERS: [&str; 3] = ["login.eveonline.com", "https://login.eveonline.com", "https://login.eveonline.com/"];
/// The audience every token of SSO has; by itself it says nothing about the application.
const EVERYBODY: &str = "EVE Online";
/// By so much clocks may differ, seconds.
const LEEWAY: i64 = 60;
/// An unknown key id fetches the set anew, but not more often: anybody can write a key id into a token. So long a failed
/// fetch is not repeated either.
const FETCH_PAUSE: Duration = Duration::from_mins(5);

/// SSO's keys, fetched before the first token is exchanged or checked.
#[derive(Debug, Default)]
pub(crate) struct KeySet(Mutex<Keys>);

#[derive(Default)]
struct Keys {
    by_id: HashMap<String, DecodingKey>,
    /// When an unknown key id last fetched the set anew.
    fetched_again: Option<Instant>,
    /// When the last fetch began, if it has failed.
    failed: Option<Instant>,
}

/// Whether what happened then stands against another fetch.
fn is_recent(when: Option<Instant>, now: Instant) -> bool {
    when.is_some_and(|when| now.saturating_duration_since(when) < FETCH_PAUSE)
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("ids", &self.by_id.keys()).finish_non_exhaustive()
    }
}

/// What is read of an access token.
#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    iss: String,
    aud: Audience,
    /// The application that asked for the token.
    #[serde(default)]
    azp: Option<String>,
    exp: i64,
    owner: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Esi {
    /// The owner hash in an access token of this character, once everything else in it is as it must be.
    ///
    /// # Errors
    /// [`SsoError::BadAccessToken`] says what is wrong, [`SsoError::NoAccessToken`] that it is empty,
    /// [`SsoError::Unavailable`] that the keys cannot be had before the deadline; a failed fetch stands for five minutes.
    pub async fn owner(
        &self,
        id: EveCharacterId,
        access_token: &Secret,
        deadline: Deadline,
    ) -> Result<OwnerHash, SsoError> {
        let token = access_token.expose();
        if token.is_empty() {
            return Err(SsoError::NoAccessToken);
        }
        let Some(client) = &self.settings.client else {
            return Err(SsoError::InvalidClient("no client id and secret are configured".to_owned()));
        };
        let header = decode_header(token).map_err(|_| bad("not a signed token"))?;
        if header.alg != Algorithm::RS256 {
            return Err(bad("not signed with RS256"));
        }
        let key_id = header.kid.ok_or_else(|| bad("no key id"))?;
        let key = self.key(&key_id, deadline).await?;
        let claims = decode::<Claims>(token, &key, &signature_alone()).map_err(|error| {
            bad(if *error.kind() == ErrorKind::InvalidSignature { "wrong signature" } else { "unreadable claims" })
        })?;
        check(&claims.claims, id, &client.id, self.clock.now())?;
        Ok(OwnerHash(claims.claims.owner))
    }

    /// Sees to it that there are keys.
    ///
    /// # Errors
    /// [`SsoError::Unavailable`]: they cannot be had, or could not a short while ago.
    pub(crate) async fn have_keys(&self, deadline: Deadline) -> Result<(), SsoError> {
        let mut keys = self.lock_keys(deadline).await?;
        if keys.by_id.is_empty() { self.fill(&mut keys, deadline).await } else { Ok(()) }
    }

    async fn key(&self, key_id: &str, deadline: Deadline) -> Result<DecodingKey, SsoError> {
        let mut keys = self.lock_keys(deadline).await?;
        if let Some(key) = keys.by_id.get(key_id) {
            return Ok(key.clone());
        }
        if !keys.by_id.is_empty() && !is_recent(keys.failed, Instant::now()) {
            if is_recent(keys.fetched_again, Instant::now()) {
                return Err(bad("unknown key id"));
            }
            keys.fetched_again = Some(Instant::now());
        }
        self.fill(&mut keys, deadline).await?;
        keys.by_id.get(key_id).cloned().ok_or_else(|| bad("unknown key id"))
    }

    /// Held while fetching, so that a hundred tokens fetch the set once.
    async fn lock_keys(&self, deadline: Deadline) -> Result<MutexGuard<'_, Keys>, SsoError> {
        let keys = timeout_at(deadline, self.keys.0.lock()).await;
        keys.map_err(|_| SsoError::Unavailable("no time left for the key set".to_owned()))
    }

    /// Fetches the set, unless that has just failed: an endpoint that hangs must not hold up every token in turn.
    async fn fill(&self, keys: &mut Keys, deadline: Deadline) -> Result<(), SsoError> {
        let began = Instant::now();
        if is_recent(keys.failed, began) {
            return Err(SsoError::Unavailable("the key set could not be had a short while ago".to_owned()));
        }
        let fetched = async { read_keys(&self.fetch_keys(deadline).await?) }.await;
        keys.failed = fetched.is_err().then_some(began);
        keys.by_id = fetched?;
        Ok(())
    }
}

fn bad(what: &str) -> SsoError {
    SsoError::BadAccessToken(what.to_owned())
}

/// The usable keys of a set: RSA, with an id.
fn read_keys(body: &[u8]) -> Result<HashMap<String, DecodingKey>, SsoError> {
    let unreadable = || SsoError::Unavailable("the key set is unreadable".to_owned());
    // Other kinds of keys may be in it, some of which the library does not know: read one by one.
    let set: serde_json::Value = serde_json::from_slice(body).map_err(|_| unreadable())?;
    let all = set.get("keys").and_then(|keys| keys.as_array()).cloned().unwrap_or_default();
    let known = all.into_iter().filter(|key| key.get("kty").and_then(|kind| kind.as_str()) == Some("RSA"));
    let set = JwkSet { keys: known.filter_map(|key| serde_json::from_value(key).ok()).collect() };
    let usable = set.keys.iter().filter_map(|jwk| {
        let id = jwk.common.key_id.clone()?;
        Some((id, DecodingKey::from_jwk(jwk).ok()?))
    });
    let keys: HashMap<_, _> = usable.collect();
    if keys.is_empty() { Err(unreadable()) } else { Ok(keys) }
}

/// The claims are checked below, against our clock.
fn signature_alone() -> Validation {
    let mut validation = Validation::new(Algorithm::RS256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

fn check(claims: &Claims, id: EveCharacterId, client_id: &str, now: OffsetDateTime) -> Result<(), SsoError> {
    if !ISSUERS.contains(&claims.iss.as_str()) {
        return Err(bad("another issuer"));
    }
    if !is_for(claims, client_id) {
        return Err(bad("issued to another application"));
    }
    if claims.exp.saturating_add(LEEWAY) < now.unix_timestamp() {
        return Err(bad("expired"));
    }
    if claims.sub.strip_prefix("CHARACTER:EVE:").and_then(|sub| sub.parse().ok()) != Some(id.0) {
        return Err(bad("for another character"));
    }
    if claims.owner.is_empty() {
        return Err(bad("no owner"));
    }
    Ok(())
}

/// The application is in `aud`; where `aud` is the bare `EVE Online`, `azp` names it.
fn is_for(claims: &Claims, client_id: &str) -> bool {
    match &claims.aud {
        Audience::Many(all) => all.iter().any(|one| one == client_id),
        Audience::One(one) => one == client_id || (one == EVERYBODY && claims.azp.as_deref() == Some(client_id)),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-22 12:00:00 UTC);

    fn claims(change: impl FnOnce(&mut serde_json::Value)) -> Result<(), SsoError> {
        let mut claims = serde_json::json!({
            "sub": "CHARACTER:EVE:7", "iss": "login.eveonline.com", "aud": ["mine", "EVE Online"], "azp": "mine",
            "exp": NOW.unix_timestamp() + 1, "owner": "hash", "scp": [],
        });
        change(&mut claims);
        check(&serde_json::from_value(claims).unwrap(), EveCharacterId(7), "mine", NOW)
    }

    #[test]
    fn claims_as_they_must_be_are_accepted() {
        assert_eq!(claims(|_| ()), Ok(()));
        assert_eq!(claims(|claims| claims["aud"] = "mine".into()), Ok(()));
        assert_eq!(claims(|claims| claims["aud"] = "EVE Online".into()), Ok(()));
    }

    #[test]
    fn another_application_is_refused_in_every_form() {
        for aud in [serde_json::json!(["EVE Online"]), "other".into(), serde_json::json!([])] {
            assert_eq!(claims(|claims| claims["aud"] = aud), Err(bad("issued to another application")));
        }
        let foreign = claims(|claims| (claims["aud"], claims["azp"]) = ("EVE Online".into(), "other".into()));
        assert_eq!(foreign, Err(bad("issued to another application")));
    }

    #[test]
    fn an_expired_token_is_refused_by_the_clock_that_is_passed_in() {
        let exp = |seconds: i64| claims(|claims| claims["exp"] = (NOW.unix_timestamp() + seconds).into());
        assert_eq!(exp(-LEEWAY), Ok(()));
        assert_eq!(exp(-LEEWAY - 1), Err(bad("expired")));
    }

    #[test]
    fn a_subject_that_only_resembles_the_character_is_refused() {
        for sub in ["CHARACTER:EVE:77", "CHARACTER:EVE:", "7", "CORPORATION:EVE:7"] {
            assert_eq!(claims(|claims| claims["sub"] = sub.into()), Err(bad("for another character")), "{sub}");
        }
        assert_eq!(claims(|claims| claims["owner"] = "".into()), Err(bad("no owner")));
    }

    #[test]
    fn a_fetch_stands_for_five_minutes() {
        let now = Instant::now();
        assert!(!is_recent(None, now));
        assert!(is_recent(Some(now), now + FETCH_PAUSE / 2));
        assert!(!is_recent(Some(now), now + FETCH_PAUSE));
    }

    #[test]
    fn a_key_set_without_a_usable_key_is_no_key_set() {
        for body in ["", "[]", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"EC","kid":"x"},{"kty":"RSA","kid":"x"}]}"#] {
            assert!(read_keys(body.as_bytes()).is_err(), "{body}");
        }
    }
}
