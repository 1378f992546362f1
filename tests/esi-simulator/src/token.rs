//! Access tokens: RS256 JWTs as EVE SSO signs them, and the key set that verifies them.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::fault::BadToken;
use crate::settings::{Audience, Scopes, Settings};

/// Seconds an access token lives, as on the real one.
pub(crate) const LIFETIME_SECONDS: u64 = 1199;
const KEY_ID: &str = "JWT-Signature-Key";
/// Made for this simulator and used nowhere else; making one at each start would take seconds in a debug build.
const SIGNING_KEY: &[u8] = include_bytes!("keys/signing.pem");
/// Signs the tokens whose signature must be refused.
const FOREIGN_KEY: &[u8] = include_bytes!("keys/foreign.pem");

pub(crate) struct Signer {
    signing: EncodingKey,
    foreign: EncodingKey,
    jwks: String,
}

/// What a token says.
pub(crate) struct Subject<'a> {
    pub(crate) character_id: i64,
    pub(crate) name: &'a str,
    pub(crate) owner_hash: &'a str,
}

impl Signer {
    pub(crate) fn new() -> jsonwebtoken::errors::Result<Self> {
        let signing = EncodingKey::from_rsa_pem(SIGNING_KEY)?;
        let foreign = EncodingKey::from_rsa_pem(FOREIGN_KEY)?;
        let mut key = Jwk::from_encoding_key(&signing, Algorithm::RS256)?;
        key.common.key_id = Some(KEY_ID.to_owned());
        let jwks = json!({ "keys": [key], "SkipUnresolvedJsonWebKeys": true }).to_string();
        Ok(Self { signing, foreign, jwks })
    }

    pub(crate) fn jwks(&self) -> String {
        self.jwks.clone()
    }

    pub(crate) fn sign(
        &self,
        settings: &Settings,
        subject: &Subject<'_>,
        now: SystemTime,
        bad: Option<BadToken>,
    ) -> jsonwebtoken::errors::Result<String> {
        if bad == Some(BadToken::Garbage) {
            return Ok("this-is-not-a-jwt".to_owned());
        }
        let key = if bad == Some(BadToken::WrongSignature) { &self.foreign } else { &self.signing };
        let header = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(Algorithm::RS256) };
        encode(&header, &claims(settings, subject, now, bad), key)
    }
}

fn claims(settings: &Settings, subject: &Subject<'_>, now: SystemTime, bad: Option<BadToken>) -> Value {
    let mut issued = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if bad == Some(BadToken::Expired) {
        issued -= 3600 + LIFETIME_SECONDS;
    }
    let shift = i64::from(bad == Some(BadToken::WrongSubject));
    let client = if bad == Some(BadToken::WrongAudience) { "someone-else" } else { &settings.client_id };
    let mut claims = json!({
        "sub": format!("CHARACTER:EVE:{}", subject.character_id + shift),
        "name": subject.name,
        "owner": subject.owner_hash,
        "iss": if bad == Some(BadToken::WrongIssuer) { "https://login.example.org" } else { settings.issuer.text() },
        "iat": issued,
        "exp": issued + LIFETIME_SECONDS,
        "jti": format!("sim-{issued}-{}", subject.character_id),
        "kid": KEY_ID,
        "azp": client,
        "tenant": "tranquility",
        "tier": "live",
        "region": "world",
    });
    claims["aud"] = match (settings.audience, bad) {
        (_, Some(BadToken::WrongAudience)) => json!([client, "Another Game"]),
        (Audience::List, _) => json!([client, "EVE Online"]),
        (Audience::Single, _) => json!("EVE Online"),
    };
    match &settings.scopes {
        Scopes::Absent => {}
        Scopes::One(scope) => claims["scp"] = json!(scope),
        Scopes::List(scopes) => claims["scp"] = json!(scopes),
    }
    claims
}
