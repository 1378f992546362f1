//! What the simulator does to every request, as opposed to faults, which come and go.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::route::Route;

/// Everything that can be set; `POST /_sim/settings` changes the fields it names and leaves the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Client id that SSO knows, also in `aud`.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// Milliseconds every ESI and SSO answer takes at least.
    pub latency_ms: u64,
    /// Non-2xx/3xx answers allowed in a window of the legacy error limit; 100 on the real one.
    pub error_limit: u32,
    /// Seconds of that window, at least 1; 60 on the real one. Windows follow one another from the start (or from
    /// the last change of the clock).
    pub error_window_seconds: i64,
    /// Seconds until `Expires` per route; a route without entry sends no caching headers.
    pub cache_seconds: BTreeMap<Route, i64>,
    /// Token buckets; their routes are outside the error limit, except that an exhausted one stops them too.
    pub token_buckets: Vec<TokenBucket>,
    /// Requests within this many milliseconds after an answer with `Retry-After` are no violation: set it when
    /// the client has several calls in flight.
    pub retry_after_grace_ms: i64,
    /// `players` in `/status`.
    pub players: u32,
    /// `server_version` in `/status`.
    pub server_version: String,
    /// `start_time` in `/status`, RFC 3339.
    pub start_time: String,
    /// Adds `"vip": true` to `/status`.
    pub vip: bool,
    /// Health in `/meta/status`, where it is not `OK`.
    pub route_health: BTreeMap<Route, String>,
    /// Form of the `iss` claim.
    pub issuer: Issuer,
    /// Form of the `aud` claim.
    pub audience: Audience,
    /// Form of the `scp` claim.
    pub scopes: Scopes,
    /// Each use of a refresh token returns a new one and makes the old one invalid.
    pub rotate_refresh_tokens: bool,
    /// Keep the ids of affiliation and names calls in the request log (8 bytes each).
    pub record_ids: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            client_id: "sim-client".into(),
            client_secret: "sim-secret".into(),
            latency_ms: 0,
            error_limit: 100,
            error_window_seconds: 60,
            cache_seconds: [
                (Route::Status, 30),
                (Route::MetaStatus, 60),
                (Route::Affiliation, 3600),
                (Route::Character, 86_400),
                (Route::Corporation, 3600),
                (Route::Alliance, 3600),
            ]
            .into(),
            token_buckets: Vec::new(),
            retry_after_grace_ms: 0,
            players: 23_456,
            server_version: "2851234".into(),
            start_time: "2026-01-01T11:05:00Z".into(),
            vip: false,
            route_health: BTreeMap::new(),
            issuer: Issuer::Url,
            audience: Audience::List,
            scopes: Scopes::List(vec!["publicData".into()]),
            rotate_refresh_tokens: false,
            record_ids: true,
        }
    }
}

/// A token bucket over a floating window: 2xx costs 2, 3xx 1, 4xx 5, 5xx nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenBucket {
    /// `X-Ratelimit-Group`.
    pub group: String,
    /// Routes that draw from it.
    pub routes: Vec<Route>,
    /// Tokens per window.
    pub tokens: i64,
    /// Window in seconds; whole minutes are written `15m` in `X-Ratelimit-Limit`.
    pub window_seconds: i64,
}

/// Form of `iss`: all three occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Issuer {
    /// `login.eveonline.com`
    Host,
    /// `https://login.eveonline.com`
    Url,
    /// `https://login.eveonline.com/`
    UrlWithSlash,
}

impl Issuer {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Host => "login.eveonline.com",
            Self::Url => "https://login.eveonline.com",
            Self::UrlWithSlash => "https://login.eveonline.com/",
        }
    }
}

/// Form of `aud`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// `["<client id>", "EVE Online"]`
    List,
    /// `"EVE Online"`
    Single,
}

/// Form of `scp`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scopes {
    /// No claim.
    Absent,
    /// One scope, as a string.
    One(String),
    /// Several, as an array.
    List(Vec<String>),
}
