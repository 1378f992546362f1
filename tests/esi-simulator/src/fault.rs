//! What can go wrong, where and when.

use serde::{Deserialize, Serialize};

use crate::route::Route;

/// One fault: which requests it hits and what happens to them.
///
/// In JSON: `{"on": "all_esi", "what": "bad_gateway"}` or
/// `{"on": {"routes": ["affiliation"]}, "ids": [90000001], "when": {"first": 3}, "what": {"slow": {"ms": 250}}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Routes it looks at.
    pub on: Scope,
    /// Only requests that name one of these ids (in the body, in the path, or as holder of the refresh token);
    /// empty: all.
    #[serde(default)]
    pub ids: Vec<i64>,
    /// Which of those requests it hits.
    #[serde(default)]
    pub when: When,
    /// What happens.
    pub what: Kind,
}

impl Fault {
    /// A fault that hits every request in its scope until it is cleared.
    pub fn on(scope: impl Into<Scope>, what: Kind) -> Self {
        Self { on: scope.into(), ids: Vec::new(), when: When::Always, what }
    }

    /// Ids that fail every affiliation call they are in, with 404 `Character not found`.
    pub fn bad_ids(ids: impl IntoIterator<Item = i64>) -> Self {
        Self::on(Route::Affiliation, Kind::CharacterNotFound).containing(ids)
    }

    /// Only requests that name one of these ids.
    #[must_use]
    pub fn containing(mut self, ids: impl IntoIterator<Item = i64>) -> Self {
        self.ids.extend(ids);
        self
    }

    /// Only the first `n` of them.
    #[must_use]
    pub fn first(self, n: u64) -> Self {
        Self { when: When::First(n), ..self }
    }

    /// Only the `n`th of them, counted from 1.
    #[must_use]
    pub fn nth(self, n: u64) -> Self {
        Self { when: When::Nth(n), ..self }
    }

    /// Only every `k`th of them, `k` at least 1.
    #[must_use]
    pub fn every(self, k: u64) -> Self {
        Self { when: When::Every(k), ..self }
    }

    /// All but the first `n` of them.
    #[must_use]
    pub fn after(self, n: u64) -> Self {
        Self { when: When::After(n), ..self }
    }
}

/// The routes a fault looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every ESI route.
    AllEsi,
    /// Every SSO route.
    Sso,
    /// These.
    Routes(Vec<Route>),
}

impl Scope {
    pub(crate) fn covers(&self, route: Route) -> bool {
        match self {
            Self::AllEsi => !route.is_sso(),
            Self::Sso => route.is_sso(),
            Self::Routes(routes) => routes.contains(&route),
        }
    }
}

impl From<Route> for Scope {
    fn from(route: Route) -> Self {
        Self::Routes(vec![route])
    }
}

/// Which of the matching requests are hit; each fault counts its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// All, until cleared.
    #[default]
    Always,
    /// The first so many.
    First(u64),
    /// This one, counted from 1.
    Nth(u64),
    /// Every so many-th.
    Every(u64),
    /// All but the first so many.
    After(u64),
}

impl When {
    /// Whether the `seen`th matching request, counted from 1, is hit.
    pub(crate) fn hits(self, seen: u64) -> bool {
        match self {
            Self::Always => true,
            Self::First(n) => seen <= n,
            Self::Nth(n) => seen == n,
            Self::Every(k) => seen.is_multiple_of(k),
            Self::After(n) => seen > n,
        }
    }
}

/// Form of a `Retry-After` header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfterForm {
    /// `Retry-After: 7`
    #[default]
    Seconds,
    /// `Retry-After: Sun, 22 Nov 2026 11:00:07 GMT`
    HttpDate,
}

/// What is wrong with an access token that looks right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadToken {
    /// Not a JWT at all.
    Garbage,
    /// Signed by a key that is not in the JWKS, under the id of one that is.
    WrongSignature,
    /// `sub` names another character.
    WrongSubject,
    /// `iss` is a stranger.
    WrongIssuer,
    /// `aud` is another application.
    WrongAudience,
    /// `exp` lies an hour back.
    Expired,
}

/// What happens. Several faults may hit one request: delays add up, changes to the answer all apply, and of those
/// that replace the answer the earliest added wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// 404 `Character not found`.
    CharacterNotFound,
    /// 400, as for a request that does not fit the schema.
    BadRequest,
    /// An unknown or deleted id among the ids is answered 400 instead of 404; other requests are not touched.
    BadIdsAs400,
    /// 404 `Not found`, as in trouble to everybody.
    NotFound,
    /// 420, and every ESI route answers 420 until the window ends: in so many seconds, else when it would anyway.
    ErrorLimited {
        /// Seconds until the window ends.
        reset_seconds: Option<i64>,
    },
    /// 429 with `Retry-After`.
    RateLimited {
        /// Seconds to wait.
        retry_after_seconds: i64,
        /// How it is written.
        #[serde(default)]
        form: RetryAfterForm,
    },
    /// 500 `Undefined 429 response. Original message: …`, a throttle in disguise.
    DisguisedThrottle,
    /// 500, plain text.
    InternalError,
    /// 502 with HTML, from the load balancer: no ESI headers.
    BadGateway,
    /// 503 JSON.
    Unavailable,
    /// 504 JSON.
    GatewayTimeout,
    /// The daily downtime by the simulated clock: from 11:00 UTC 503, 502 and 504 in turn, then 404s; nothing at
    /// other times.
    Downtime {
        /// Minutes of 503, 502 and 504.
        minutes: i64,
        /// Minutes of 404 after them.
        not_found_minutes: i64,
    },
    /// The answer comes this much later.
    Slow {
        /// Milliseconds.
        ms: u64,
    },
    /// No answer, until the client leaves.
    Hang,
    /// The connection ends before the first byte of the answer.
    CutBeforeHeaders,
    /// The connection ends after half of the body.
    CutMidBody,
    /// Half of the body with the status and length of a whole one.
    TruncatedJson,
    /// These characters are left out of an affiliation or names answer; none named: all of them.
    MissingRows {
        /// Whose rows.
        #[serde(default)]
        ids: Vec<i64>,
    },
    /// Unknown fields in every object of the answer.
    ExtraFields,
    /// The character's row shows this organisation.
    StaleOrganisation {
        /// Whose row.
        character_id: i64,
        /// Corporation shown.
        corporation_id: i64,
        /// Alliance shown.
        alliance_id: Option<i64>,
    },
    /// Token: 400 `invalid_grant`.
    InvalidGrant,
    /// Token and revoke: 401 `invalid_client`.
    InvalidClient,
    /// 503 `temporarily_unavailable`.
    SsoUnavailable,
    /// Token: 200 without `access_token`.
    NoAccessToken,
    /// Token: 200 with an access token that must be refused.
    BadToken(BadToken),
    /// Token: the `owner` claim is this one, as after a transfer.
    OwnerChanged {
        /// Owner hash shown.
        owner_hash: String,
    },
}
