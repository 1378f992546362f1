//! The routes the simulator knows, and how a path becomes one.

use axum::http::Method;
use serde::{Deserialize, Serialize};

/// One route of ESI or SSO; `snake_case` in JSON (`"affiliation"`, `"sso_metadata"`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// `GET /status`
    Status,
    /// `GET /meta/status`
    MetaStatus,
    /// `POST /characters/affiliation`
    Affiliation,
    /// `GET /characters/{character_id}`
    Character,
    /// `GET /corporations/{corporation_id}`
    Corporation,
    /// `GET /alliances/{alliance_id}`
    Alliance,
    /// `POST /universe/names`
    Names,
    /// `GET /.well-known/oauth-authorization-server`
    SsoMetadata,
    /// `GET /oauth/jwks`
    Jwks,
    /// `POST /v2/oauth/token`
    Token,
    /// `POST /v2/oauth/revoke`
    Revoke,
    /// Anything else; counted as ESI, answered 404 and recorded as a violation.
    Unknown,
}

impl Route {
    /// Every ESI route a client may call, in the order `/meta/status` lists them.
    pub const ESI: [Self; 7] = [
        Self::Status,
        Self::MetaStatus,
        Self::Affiliation,
        Self::Character,
        Self::Corporation,
        Self::Alliance,
        Self::Names,
    ];

    /// The route's method, as text.
    pub fn method(self) -> &'static str {
        match self {
            Self::Affiliation | Self::Names | Self::Token | Self::Revoke => "POST",
            _ => "GET",
        }
    }

    /// The route's path with its parameter in braces, as ESI's own specification writes it.
    pub fn template(self) -> &'static str {
        match self {
            Self::Status => "/status",
            Self::MetaStatus => "/meta/status",
            Self::Affiliation => "/characters/affiliation",
            Self::Character => "/characters/{character_id}",
            Self::Corporation => "/corporations/{corporation_id}",
            Self::Alliance => "/alliances/{alliance_id}",
            Self::Names => "/universe/names",
            Self::SsoMetadata => "/.well-known/oauth-authorization-server",
            Self::Jwks => "/oauth/jwks",
            Self::Token => "/v2/oauth/token",
            Self::Revoke => "/v2/oauth/revoke",
            Self::Unknown => "(unknown)",
        }
    }

    /// Whether the route belongs to EVE SSO; all others, [`Route::Unknown`] among them, count as ESI.
    pub fn is_sso(self) -> bool {
        matches!(self, Self::SsoMetadata | Self::Jwks | Self::Token | Self::Revoke)
    }

    /// The route a request asks for, and the id in its path. As ESI does, refuses a trailing slash and a version
    /// prefix by not knowing them.
    pub(crate) fn parse(method: &Method, path: &str) -> (Self, Option<i64>) {
        let fixed = [
            Self::Status,
            Self::MetaStatus,
            Self::Affiliation,
            Self::Names,
            Self::SsoMetadata,
            Self::Jwks,
            Self::Token,
            Self::Revoke,
        ];
        if let Some(route) = fixed.into_iter().find(|route| route.template() == path) {
            return if route.method() == method.as_str() { (route, None) } else { (Self::Unknown, None) };
        }
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let (kind, id) = (parts.next(), parts.next().and_then(|id| id.parse().ok()));
        let route = match (kind, id) {
            (Some("characters"), Some(_)) => Self::Character,
            (Some("corporations"), Some(_)) => Self::Corporation,
            (Some("alliances"), Some(_)) => Self::Alliance,
            _ => return (Self::Unknown, None),
        };
        if route.method() == method.as_str() { (route, id) } else { (Self::Unknown, None) }
    }
}
