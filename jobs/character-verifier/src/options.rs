//! Settings of the verifier: what operators write, and what the run works with.

use std::time::Duration;

use clap::{Args, value_parser};
use esi::SsoClient;
use job::Setup;
use pii::envelope::Key;
use runtime::{
    Secret,
    config::{Problems, SecretSpec},
};
use sessions::Gate;
use time::{Date, macros::format_description};
use url::Url;

/// Calls a second towards ESI for the whole job; shards share it. ESI names no such limit and asks for restraint.
const REQUESTS_PER_SECOND: u32 = 100;

/// Secrets beyond the runner's.
pub(crate) const SECRETS: &[SecretSpec] = &[
    SecretSpec {
        name: "ENCRYPTION_KEY",
        help: "AES-256 key of stored refresh tokens, 64 hexadecimal characters",
        required: true,
    },
    SecretSpec { name: "EVE_CLIENT_SECRET", help: "Secret of the EVE SSO application", required: false },
];

/// Checks where EVE characters belong and ends the sessions of those that may no longer stay.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Characters per call to ESI, 1 to 1000 (the most ESI takes)
    #[arg(long, env, default_value_t = 50, value_parser = value_parser!(u32).range(1..=1000))]
    pub batch_size: u32,
    /// Pause between batches, in milliseconds
    #[arg(long, env, default_value_t = 1000)]
    pub delay_between_batches: u64,
    /// Most characters checked in a run; 0: no cap
    #[arg(long, env, default_value_t = 1000)]
    pub max_characters_per_run: u64,
    /// Minutes after which a character is due again, counted from the run's start
    #[arg(long, env, default_value_t = 55, value_parser = value_parser!(u32).range(0..=525_600))]
    pub verification_threshold_minutes: u32,
    /// Address of ESI
    #[arg(long, env, default_value = "https://esi.evetech.net", value_parser = address)]
    pub esi_base_url: String,
    /// Mail address or character name by which CCP reaches the operator; sent in the User-Agent
    #[arg(long, env, value_parser = contact)]
    pub esi_contact: Option<Secret>,
    /// Behaviour of ESI as of this day (YYYY-MM-DD)
    #[arg(long, env, default_value = "2025-12-16", value_parser = date)]
    pub esi_compatibility_date: Date,
    /// Most calls to ESI in flight
    #[arg(long, env, default_value_t = 4, value_parser = value_parser!(u16).range(1..=64))]
    pub esi_concurrency: u16,
    /// Address of the EVE SSO
    #[arg(long, env, default_value = "https://login.eveonline.com", value_parser = address)]
    pub eve_sso_url: String,
    /// Client id of the EVE SSO application; without it tokens are not checked
    #[arg(long, env)]
    pub eve_client_id: Option<String>,
    /// Which sessions a character that must leave takes along: those that act as it, those of the account whose
    /// primary character it is, or all of its account
    #[arg(long, env, default_value = "acting", value_parser = ["acting", "primary", "any"])]
    pub gate: String,
    /// Minutes a character may stay after it was first found disallowed; a deny list waits for nothing
    #[arg(long, env, default_value_t = 0, value_parser = value_parser!(u32).range(0..=525_600))]
    pub revocation_grace_minutes: u32,
    /// Accounts that may lose a session in a run (of all shards together); more stop the run with exit code 77
    #[arg(long, env, default_value_t = 50)]
    pub max_invalidations_per_run: u64,
    /// Share of the checked accounts with live sessions that may lose one, from 10 accounts up; 0 to 1
    #[arg(long, env, default_value_t = 0.10, value_parser = ratio)]
    pub max_invalidation_ratio: f64,
    /// Share of characters that may be unknown before no session is taken at all; 0 to 1
    #[arg(long, env, default_value_t = 0.5, value_parser = ratio)]
    pub max_unknown_ratio: f64,
    /// Stored tokens checked in a run; 0: none
    #[arg(long, env, default_value_t = 500)]
    pub token_checks_per_run: u32,
    /// Act on verdicts that the safety cap has held back, after confirming them again
    #[arg(long, env, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = clap::builder::BoolishValueParser::new())]
    pub approve_mass_invalidation: bool,
}

// No secret to CCP, but a person's address all the same: it stays out of the start line.
#[expect(clippy::unnecessary_wraps, reason = "the shape of a value parser")]
fn contact(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("give a number from 0 to 1".to_owned()),
    }
}

fn address(text: &str) -> Result<String, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(text.to_owned()),
        _ => Err("give an http:// or https:// address".to_owned()),
    }
}

fn date(text: &str) -> Result<Date, String> {
    Date::parse(text, format_description!("[year]-[month]-[day]")).map_err(|_| "give a day as YYYY-MM-DD".to_owned())
}

/// What the run works with.
#[derive(Debug)]
pub struct Settings {
    /// Most characters per batch.
    pub batch_size: usize,
    /// Pause between batches.
    pub delay: Duration,
    /// Most characters in the run of this shard.
    pub max_characters: Option<u64>,
    /// Age at which a character is due.
    pub threshold: time::Duration,
    /// Towards ESI and the SSO.
    pub esi: esi::Settings,
    /// Which sessions go.
    pub gate: Gate,
    /// How long a character may stay after the first finding.
    pub grace: time::Duration,
    /// Safety caps of this shard.
    pub caps: Caps,
    /// Share of unknown characters above which no session is taken.
    pub max_unknown_ratio: f64,
    /// Tokens to check in this shard.
    pub token_checks: usize,
    /// For stored refresh tokens.
    pub key: Key,
}

/// When the circuit breaker opens.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// Accounts that may lose a session.
    pub accounts: u64,
    /// Share of the checked accounts with live sessions.
    pub ratio: f64,
    /// Accounts from which on the share counts.
    pub ratio_from: u64,
    /// An operator has approved.
    pub approved: bool,
}

/// Checks everything at once.
pub(crate) fn validate(options: &Options, setup: &Setup, problems: &mut Problems) -> Option<Settings> {
    let before = problems.lines().len();
    let key = setup.secrets.get("ENCRYPTION_KEY").and_then(|text| match Key::from_hex(text) {
        Ok(key) => Some(key),
        Err(problem) => {
            problems.add("ENCRYPTION_KEY", problem);
            None
        }
    });
    let secret = setup.secrets.get("EVE_CLIENT_SECRET");
    let client = match (&options.eve_client_id, secret) {
        (Some(id), Some(secret)) => Some(SsoClient { id: id.clone(), secret: secret.clone() }),
        (Some(_), None) => {
            problems.add("EVE_CLIENT_SECRET", "missing, but EVE_CLIENT_ID is set; set both or neither");
            None
        }
        (None, Some(_)) => {
            problems.add("EVE_CLIENT_ID", "missing, but EVE_CLIENT_SECRET is set; set both or neither");
            None
        }
        (None, None) => None,
    };
    if options.esi_compatibility_date > setup.clock.now().date() {
        problems.add(
            "ESI_COMPATIBILITY_DATE",
            format_args!("{} is in the future, which ESI refuses", options.esi_compatibility_date),
        );
    }
    if problems.lines().len() > before {
        return None;
    }
    let shards = u64::from(setup.shard.count);
    Some(Settings {
        batch_size: options.batch_size as usize,
        delay: Duration::from_millis(options.delay_between_batches),
        max_characters: (options.max_characters_per_run > 0).then(|| options.max_characters_per_run.div_ceil(shards)),
        threshold: time::Duration::minutes(options.verification_threshold_minutes.into()),
        esi: esi::Settings {
            base_url: Url::parse(&options.esi_base_url).ok()?,
            sso_url: Url::parse(&options.eve_sso_url).ok()?,
            user_agent_contact: options.esi_contact.as_ref().map(|contact| contact.expose().to_owned()),
            compatibility_date: options.esi_compatibility_date.to_string(),
            concurrency: usize::from(options.esi_concurrency),
            requests_per_second: (REQUESTS_PER_SECOND / setup.shard.count).max(1),
            client,
        },
        gate: options.gate.parse().ok()?,
        grace: time::Duration::minutes(options.revocation_grace_minutes.into()),
        caps: Caps {
            accounts: options.max_invalidations_per_run / shards,
            ratio: options.max_invalidation_ratio,
            ratio_from: crate::breaker::RATIO_FROM.div_ceil(shards),
            approved: options.approve_mass_invalidation,
        },
        max_unknown_ratio: options.max_unknown_ratio,
        token_checks: usize::try_from(u64::from(options.token_checks_per_run).div_ceil(shards)).ok()?,
        key: key?,
    })
}
