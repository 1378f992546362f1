//! What was called and how it ended, for metrics, and one bounded line of log per error.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Errors logged one by one before only every hundredth is.
const LOGGED_SINGLY: u64 = 20;

/// Calls of one route that ended one way, since the counts were last taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// `status`, `affiliation`, `character`, `corporation`, `names`, `sso_token` or `sso_jwks`.
    pub route: &'static str,
    /// `ok`, an HTTP status that is counted by itself (`404`, `420`, …), `timeout`, `connection`, `body` (unreadable,
    /// cut or too long) or `other`.
    pub outcome: &'static str,
    /// How many; at least 1. The calls of a route are the sum over its outcomes.
    pub count: u64,
}

/// A route, as metrics and limits name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    Status,
    Affiliation,
    Character,
    Corporation,
    Names,
    SsoToken,
    SsoJwks,
}

impl Route {
    const NAMES: [&'static str; 7] =
        ["status", "affiliation", "character", "corporation", "names", "sso_token", "sso_jwks"];

    pub(crate) fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// How a call ended, one of [`Outcome::NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome(usize);

impl Outcome {
    const NAMES: [&'static str; 16] = [
        "ok",
        "400",
        "401",
        "403",
        "404",
        "420",
        "422",
        "429",
        "500",
        "502",
        "503",
        "504",
        "timeout",
        "connection",
        "body",
        "other",
    ];
    pub(crate) const OK: Self = Self(0);
    pub(crate) const TIMEOUT: Self = Self(12);
    pub(crate) const CONNECTION: Self = Self(13);
    pub(crate) const BODY: Self = Self(14);
    const OTHER: Self = Self(15);

    pub(crate) fn of_status(status: u16) -> Self {
        if (200..300).contains(&status) {
            return Self::OK;
        }
        let codes = [400, 401, 403, 404, 420, 422, 429, 500, 502, 503, 504];
        codes.iter().position(|code| *code == status).map_or(Self::OTHER, |at| Self(at + 1))
    }

    pub(crate) fn as_str(self) -> &'static str {
        Self::NAMES[self.0]
    }
}

/// Counters of one client.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    cells: [[AtomicU64; Outcome::NAMES.len()]; Route::NAMES.len()],
    errors: AtomicU64,
}

impl Counts {
    /// Counts the end of a call; an error is logged, in a long outage only every hundredth.
    pub(crate) fn add(&self, route: Route, outcome: Outcome, took: Duration) {
        self.cells[route as usize][outcome.0].fetch_add(1, Ordering::Relaxed);
        if outcome == Outcome::OK {
            return;
        }
        let errors = self.errors.fetch_add(1, Ordering::Relaxed) + 1;
        if errors <= LOGGED_SINGLY || errors.is_multiple_of(100) {
            let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(
                route = route.as_str(),
                code = outcome.as_str(),
                took_ms,
                errors_so_far = errors,
                "ESI error"
            );
        }
    }

    /// What was counted since the last time.
    pub(crate) fn take(&self) -> Vec<Count> {
        let mut taken = Vec::new();
        for (route, cells) in Route::NAMES.into_iter().zip(&self.cells) {
            for (outcome, cell) in Outcome::NAMES.into_iter().zip(cells) {
                let count = cell.swap(0, Ordering::Relaxed);
                if count > 0 {
                    taken.push(Count { route, outcome, count });
                }
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_taken_once() {
        let counts = Counts::default();
        for status in [200, 404, 404, 599] {
            counts.add(Route::Character, Outcome::of_status(status), Duration::ZERO);
        }
        counts.add(Route::SsoJwks, Outcome::BODY, Duration::ZERO);
        let count = |route, outcome, count| Count { route, outcome, count };
        assert_eq!(
            counts.take(),
            [
                count("character", "ok", 1),
                count("character", "404", 2),
                count("character", "other", 1),
                count("sso_jwks", "body", 1)
            ]
        );
        assert_eq!(counts.take(), []);
    }

    #[test]
    fn every_counted_status_has_its_own_name() {
        for status in [400, 401, 403, 404, 420, 422, 429, 500, 502, 503, 504] {
            assert_eq!(Outcome::of_status(status).as_str(), status.to_string());
        }
        assert_eq!(Outcome::of_status(418).as_str(), "other");
        assert_eq!(
            (Outcome::TIMEOUT.as_str(), Outcome::CONNECTION.as_str(), Outcome::BODY.as_str()),
            ("timeout", "connection", "body")
        );
    }
}
