//! Token checks: is a stored refresh token still good, and does the character still belong to the same owner? They run
//! before the sweep, since a wrong client or key must stop the run before anything is stamped. A revoked token costs
//! no session; only a changed owner does.

use std::{cell::Cell, time::Duration};

use esi::SsoError;
use futures::{StreamExt, stream};
use job::JobError;
use metrics::verifier as metric;
use runtime::retry::{Attempt, Policy, retry};
use sessions::{EpochMillis, Gate, Probe};
use store::{
    candidates::{self, Candidate},
    characters::Stored,
    eve_tokens::{self, StoredToken},
};
use time::OffsetDateTime;
use tracing::{info, warn};

use crate::run::Run;

/// Tokens that are looked at to see whether the key fits.
const SAMPLE: i64 = 10;
/// Tokens read together.
const PAGE: i64 = 1000;
/// Tokens looked through for characters with live sessions before the rest is taken as it comes.
const LOOKED_THROUGH: usize = 50_000;
/// How long the storing of a rotated token is tried.
const STORING: Policy =
    Policy { first: Duration::from_millis(200), longest: Duration::from_secs(3), total: Duration::from_secs(10) };
/// Failures of the SSO in a row that end the checks of a run.
const FAILURES_THAT_MEAN_DOWN: u32 = 3;

/// Refuses a key that opens none of the first tokens. A single stored token that cannot be opened proves nothing.
///
/// # Errors
/// The key does not fit (configuration), or the database fails.
pub(crate) async fn check_key(run: &Run<'_>) -> Result<(), JobError> {
    let sealed = run.ctx.db.transaction("read sample tokens", async |db| eve_tokens::sample(db, SAMPLE).await).await?;
    if sealed.len() > 1 && sealed.iter().all(|sealed| run.settings.key.open(sealed).is_err()) {
        return Err(JobError::config(format!(
            "ENCRYPTION_KEY: opens none of the first {} stored tokens; set the key they were stored under",
            sealed.len()
        )));
    }
    Ok(())
}

/// Checks up to `TOKEN_CHECKS_PER_RUN` tokens; returns how many.
///
/// # Errors
/// The SSO refuses the application (configuration), or Redis or the database fails.
pub(crate) async fn check(run: &Run<'_>) -> Result<u64, JobError> {
    if run.settings.token_checks == 0 || run.settings.esi.client.is_none() || run.ctx.run.dry_run {
        return Ok(0);
    }
    let tokens = choose(run).await?;
    let (failures, checked, failed) = (Cell::new(0), Cell::new(0), Cell::new(None));
    stream::iter(tokens)
        .for_each_concurrent(run.settings.esi.concurrency, async |token| {
            let error = failed.take();
            let go_on = error.is_none() && failures.get() < FAILURES_THAT_MEAN_DOWN && run.ctx.budget.working();
            failed.set(error);
            if !go_on {
                return;
            }
            checked.set(checked.get() + 1);
            // The others in flight are not dropped: one of them may hold a token that the SSO has just rotated.
            if let Err(error) = check_one(run, &token, &failures).await {
                failed.set(Some(failed.take().unwrap_or(error)));
            }
        })
        .await;
    if let Some(error) = failed.take() {
        return Err(error);
    }
    if failures.get() >= FAILURES_THAT_MEAN_DOWN {
        warn!("the EVE SSO does not answer: the remaining tokens are checked in the next run");
    }
    run.collect_counts();
    Ok(checked.get())
}

/// Characters with live sessions first, then those longest unchecked.
async fn choose(run: &Run<'_>) -> Result<Vec<StoredToken>, JobError> {
    let wanted = run.settings.token_checks;
    let (mut live, mut rest) = (Vec::new(), Vec::new());
    let (mut after, mut seen) = ((OffsetDateTime::UNIX_EPOCH, 0), 0);
    while live.len() < wanted && seen < LOOKED_THROUGH {
        let (cutoff, part) = (run.terms.cutoff, run.terms.part);
        let page = run
            .ctx
            .db
            .transaction("read tokens", async |db| eve_tokens::due(db, part, cutoff, after, PAGE).await)
            .await?;
        let Some(last) = page.last() else { break };
        after = (last.checked_at, last.eve_id.0);
        seen += page.len();
        let probes: Vec<Probe> = page.iter().map(probe).collect();
        let alive = run.sessions.probe(&probes).await.map_err(crate::session_error)?;
        for (token, alive) in page.into_iter().zip(alive) {
            if alive > 0 && live.len() < wanted {
                live.push(token);
            } else if rest.len() < wanted {
                rest.push(token);
            }
        }
    }
    rest.truncate(wanted - live.len());
    live.append(&mut rest);
    Ok(live)
}

fn probe(token: &StoredToken) -> Probe {
    Probe {
        account_id: token.account_id,
        gate: Gate::Acting,
        character_id: token.character_id,
        observed_at: EpochMillis(i64::MAX),
    }
}

async fn check_one(run: &Run<'_>, token: &StoredToken, failures: &Cell<u32>) -> Result<(), JobError> {
    let Ok(plain) = run.settings.key.open(&token.sealed) else {
        warn!(eve_id = %token.eve_id, "stored token cannot be opened with ENCRYPTION_KEY: skipped");
        return note(run, token, "undecryptable").await;
    };
    let deadline = run.ctx.budget.work_ends_at();
    let refreshed = match run.esi.refresh(token.eve_id, &plain, deadline).await {
        Ok(refreshed) => refreshed,
        Err(SsoError::InvalidGrant) => return invalid_grant(run, token, failures).await,
        Err(SsoError::InvalidClient(problem)) => {
            return Err(JobError::config(format!(
                "EVE_CLIENT_ID, EVE_CLIENT_SECRET: the EVE SSO refuses this application: {problem}"
            )));
        }
        Err(error) => return unavailable(run, token, &error, failures).await,
    };
    let mut sealed = token.sealed.clone();
    let rotated = refreshed.new_refresh_token.is_some();
    if let Some(new) = refreshed.new_refresh_token {
        // Before anything else: the old token is worthless already.
        let resealed = run.settings.key.seal(&run.ctx.random, new.expose());
        let stored = store_rotated(run, token, &resealed).await?;
        if !stored {
            // A login was faster; its token is the younger one and says who owns the character.
            return Ok(());
        }
        sealed = resealed;
    }
    let owner = match run.esi.owner(token.eve_id, &refreshed.access_token, deadline).await {
        Ok(owner) => owner,
        Err(error) => {
            let token = StoredToken { sealed, ..token.clone() };
            return unavailable(run, &token, &error, failures).await;
        }
    };
    failures.set(0);
    if token.owner_hash.as_ref().is_some_and(|known| *known != owner.0) {
        return transferred(run, token, &sealed).await;
    }
    run.ctx
        .checkpoint("store a token check", async |db, delta| {
            delta.add(&metric::TOKEN_CHECKS, &[if rotated { "rotated" } else { "valid" }], 1);
            delta.detail("tokens_checked", 1);
            eve_tokens::valid(db, token.eve_id, &sealed, &owner.0).await
        })
        .await
}

/// Tries again through a failover: what is not stored now is lost. A compare-and-swap may be repeated.
async fn store_rotated(run: &Run<'_>, token: &StoredToken, resealed: &str) -> Result<bool, JobError> {
    retry(STORING, || async {
        run.ctx
            .checkpoint("store a rotated token", async |db, _| {
                eve_tokens::rotate(db, token.eve_id, &token.sealed, resealed).await
            })
            .await
            .map_err(|error| {
                if error.exit_code().retry_helps() { Attempt::transient(error) } else { Attempt::permanent(error) }
            })
    })
    .await
}

async fn note(run: &Run<'_>, token: &StoredToken, result: &'static str) -> Result<(), JobError> {
    run.ctx
        .checkpoint("store a token check", async |db, delta| {
            delta.add(&metric::TOKEN_CHECKS, &[result], 1);
            delta.detail("tokens_checked", 1);
            eve_tokens::checked(db, token.eve_id, &token.sealed).await
        })
        .await
}

async fn unavailable(
    run: &Run<'_>,
    token: &StoredToken,
    error: &SsoError,
    failures: &Cell<u32>,
) -> Result<(), JobError> {
    if run.ctx.stop.is_stopped() {
        return Ok(());
    }
    warn!(eve_id = %token.eve_id, %error, "token check said nothing");
    if matches!(error, SsoError::Unavailable(_)) {
        failures.set(failures.get() + 1);
    }
    note(run, token, "unavailable").await
}

async fn invalid_grant(run: &Run<'_>, token: &StoredToken, failures: &Cell<u32>) -> Result<(), JobError> {
    failures.set(0);
    let revoked = run
        .ctx
        .checkpoint("store invalid_grant", async |db, delta| {
            let revoked = eve_tokens::invalid_grant(db, token.eve_id, &token.sealed).await?;
            delta.add(&metric::TOKEN_CHECKS, &[if revoked { "revoked" } else { "invalid_grant" }], 1);
            delta.detail("tokens_checked", 1);
            Ok::<_, sqlx::Error>(revoked)
        })
        .await?;
    if revoked {
        info!(eve_id = %token.eve_id, "refresh token counts as revoked; that alone costs no session");
    }
    Ok(())
}

/// The character changed hands: its verdict says so, and its live session becomes a candidate.
async fn transferred(run: &Run<'_>, token: &StoredToken, sealed: &str) -> Result<(), JobError> {
    let stored = run
        .ctx
        .db
        .transaction("read a transferred character", async |db| store::characters::by_eve_id(db, token.eve_id).await)
        .await?;
    // Detached or removed while its token was checked: nothing is left to decide.
    let Some(Stored { brand_id, organisation: known, is_primary, .. }) = stored else { return Ok(()) };
    let gate = run.settings.gate;
    // In grace it costs nothing yet: the sweep acts on the verdict when that is over.
    let at_stake = (gate != Gate::Primary || is_primary) && run.settings.grace.is_zero();
    let live = at_stake && {
        let probe = Probe { gate, ..probe(token) };
        run.sessions.probe(&[probe]).await.map_err(crate::session_error)?.iter().any(|live| *live > 0)
    };
    info!(eve_id = %token.eve_id, account_id = %token.account_id, live, "character changed hands");
    run.ctx
        .checkpoint("store a transfer", async |db, delta| {
            if !eve_tokens::transferred(db, token.eve_id, sealed).await? {
                return Ok(());
            }
            delta.add(&metric::TOKEN_CHECKS, &["transferred"], 1);
            delta.detail("tokens_checked", 1);
            delta.changed += 1;
            if at_stake {
                let candidate = Candidate {
                    eve_id: token.eve_id,
                    character_id: token.character_id,
                    account_id: token.account_id,
                    brand_id,
                    live,
                    rule: identity::approval::Rule::OwnerChanged,
                    organisation: known,
                    confirmed: true,
                    single_source: false,
                    observed_at: store::sweep::now(db).await?,
                };
                candidates::note(db, &run.ctx.run.run_id, &[candidate]).await?;
            }
            Ok::<_, sqlx::Error>(())
        })
        .await
}
