//! What the character verifier tells. The names that begin with `battlescope_` are older than Rollcall and are kept,
//! since dashboards outside depend on them.

use crate::{Counter, Gauge};

/// The job whose counters these are.
pub(crate) const JOB: &str = "character-verifier";

/// How long the last verification took.
pub static DURATION: Gauge = Gauge {
    name: "battlescope_character_verification_duration_seconds",
    help: "How long the last verification of characters took, in seconds.",
    labels: &[],
};

/// End of the last verification.
pub static LAST_RUN: Gauge = Gauge {
    name: "battlescope_character_verification_last_run_timestamp",
    help: "When the last verification of characters ended without an error, in seconds since 1970.",
    labels: &[],
};

/// Characters by what came of them: a verdict was stored (`success`), the character is permanently bad, such as an
/// id that does not resolve (`failed`), or nothing is known for now (`skipped`).
pub static VERIFIED: Counter = Counter {
    name: "battlescope_characters_verified_total",
    help: "Characters by result: verdict stored (success), permanently bad (failed), unknown for now (skipped).",
    labels: &["status"],
    series: &[&["success"], &["failed"], &["skipped"]],
};

/// Characters found in another corporation, alliance, or both.
pub static ORG_CHANGES: Counter = Counter {
    name: "battlescope_character_org_changes_total",
    help: "Characters found in another corporation (corp), alliance, or both.",
    labels: &["type"],
    series: &[&["corp"], &["alliance"], &["both"]],
};

/// Sessions ended, by why their character lost access.
pub static SESSIONS_INVALIDATED: Counter = Counter {
    name: "battlescope_sessions_invalidated_total",
    help: "Sessions ended, by reason: organisation no longer allowed, character gone, or transferred to another owner.",
    labels: &["reason"],
    series: &[&["disallowed"], &["gone"], &["transferred"]],
};

/// Failed calls to ESI and the SSO: statuses that are counted by themselves, and the other ways to fail.
pub static ESI_ERRORS: Counter = Counter {
    name: "battlescope_character_verification_esi_errors_total",
    help: "Failed calls to ESI or the SSO, by HTTP status, or timeout, connection, body (unreadable), other.",
    labels: &["error_code"],
    series: &[
        &["400"],
        &["401"],
        &["403"],
        &["404"],
        &["420"],
        &["422"],
        &["429"],
        &["500"],
        &["502"],
        &["503"],
        &["504"],
        &["other"],
        &["timeout"],
        &["connection"],
        &["body"],
    ],
};

/// Calls to ESI and the SSO, the denominator of the error ratio.
pub static ESI_CALLS: Counter = Counter {
    name: "rollcall_esi_calls_total",
    help: "Calls to ESI and the SSO, failed ones included, by route.",
    labels: &["route"],
    series: &[
        &["status"],
        &["affiliation"],
        &["character"],
        &["corporation"],
        &["names"],
        &["sso_token"],
        &["sso_jwks"],
    ],
};

/// Second looks at characters about to lose access.
pub static CONFIRMATIONS: Counter = Counter {
    name: "rollcall_verifier_confirmations_total",
    help: "Second looks at characters about to lose access, by whether they agreed with the first.",
    labels: &["result"],
    series: &[&["confirmed"], &["disputed"], &["unavailable"]],
};

/// Characters about whom nothing could be said, by why.
pub static UNKNOWN: Counter = Counter {
    name: "rollcall_verifier_unknown_total",
    help: "Characters about whom nothing could be said, by reason.",
    labels: &["reason"],
    series: &[&["missing"], &["upstream"], &["no_auth_config"], &["disputed"], &["unconfirmed"]],
};

/// Looks at refresh tokens, by result.
pub static TOKEN_CHECKS: Counter = Counter {
    name: "rollcall_verifier_token_checks_total",
    help: "Looks at refresh tokens of characters, by result.",
    labels: &["result"],
    series: &[
        &["valid"],
        &["rotated"],
        &["revoked"],
        &["invalid_grant"],
        &["transferred"],
        &["undecryptable"],
        &["unavailable"],
    ],
};

/// Runs that stopped at the safety cap.
pub static CAPPED: Counter = Counter {
    name: "rollcall_verifier_capped_total",
    help: "Runs that would have ended more sessions than the safety cap allows and stopped there.",
    labels: &[],
    series: &[&[]],
};

/// Sessions kept only because of the safety cap.
pub static HELD: Gauge = Gauge {
    name: "rollcall_verifier_held_sessions",
    help: "Sessions that the last run would have ended had the safety cap not held them.",
    labels: &[],
};

/// The exposure window: how long access may have been out of date.
pub static OLDEST_UNVERIFIED: Gauge = Gauge {
    name: "rollcall_verifier_oldest_unverified_seconds",
    help: "Age of the oldest verification among active characters, in seconds: how long access may be out of date.",
    labels: &[],
};

/// Who is checked.
pub static ACTIVE: Gauge = Gauge {
    name: "rollcall_verifier_active_characters",
    help: "EVE characters of active accounts; from 100,000 up PostgreSQL's estimate of all EVE characters.",
    labels: &[],
};

/// What waits to be carried out: nothing, unless Redis or a broken key stood in the way.
pub static PENDING: Gauge = Gauge {
    name: "rollcall_verifier_pending_invalidations",
    help: "Decided invalidations that are not carried out yet.",
    labels: &[],
};

pub(crate) static COUNTERS: &[&Counter] = &[
    &VERIFIED,
    &ORG_CHANGES,
    &SESSIONS_INVALIDATED,
    &ESI_ERRORS,
    &ESI_CALLS,
    &CONFIRMATIONS,
    &UNKNOWN,
    &TOKEN_CHECKS,
    &CAPPED,
];
pub(crate) static GAUGES: &[&Gauge] = &[&DURATION, &LAST_RUN, &HELD, &OLDEST_UNVERIFIED, &ACTIVE, &PENDING];
