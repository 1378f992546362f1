//! From candidates to decisions: marks first, then the circuit breaker, then confirmation by a second source, then a
//! pending row for each session that goes. All verdicts of the run stand before this begins.

use std::collections::HashSet;

use esi::{EsiError, SecondSource};
use futures::{StreamExt, TryStreamExt, stream};
use identity::{
    approval::decide,
    ids::{AccountId, CorporationId},
};
use job::JobError;
use metrics::verifier as metric;
use sessions::{Gate, Probe};
use store::{
    candidates::{self, Candidate},
    eve_characters,
    invalidations::{self, Pending},
    sweep::{self, Place},
};
use time::OffsetDateTime;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    breaker::{self, Trip},
    run::{Run, millis},
    take,
};

/// Candidates confirmed together. Their pending rows, sessions and audit rows are one batch each.
const PAGE: i64 = 200;
/// Accounts asked together whether they have a live session.
const LIVE_PAGE: i64 = 1000;

/// How the revocation ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ended {
    /// Every candidate was dealt with.
    Complete,
    /// The circuit breaker opened; this many verdicts are held.
    Held(Trip),
    /// Time, budget or a stop ended it; the rest stays for the next run.
    Unfinished,
    /// ESI went down.
    Down(String),
}

/// What a second source made of a candidate.
enum Answer {
    /// It must leave: observed at this moment.
    Confirmed(Candidate, OffsetDateTime),
    /// The sources disagree.
    Disputed(Candidate),
    /// No answer; next run.
    Unavailable,
}

/// Deals with all candidates this run has found.
///
/// # Errors
/// Redis or the database fails, or ESI refuses this client.
pub(crate) async fn revoke(run: &Run<'_>) -> Result<Ended, JobError> {
    mark_newly_denied(run).await?;
    if let Some(trip) = breaker_opens(run).await? {
        let part = run.terms.part;
        run.ctx
            .checkpoint("hold verdicts", async |db, delta| {
                let held = candidates::hold(db, part).await?;
                delta.add(&metric::CAPPED, &[], 1);
                delta.detail("held", held);
                Ok::<_, sqlx::Error>(())
            })
            .await?;
        return Ok(Ended::Held(trip));
    }
    confirm_and_take(run).await
}

/// A character that has just lost its approval and has no session may have a login under way, approved before. The
/// mark refuses it; a session that slipped in before the mark is found here and becomes a candidate like the others.
async fn mark_newly_denied(run: &Run<'_>) -> Result<(), JobError> {
    let mut after = 0;
    loop {
        let page = page(run, false, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.eve_id.0;
        let probes: Vec<Probe> = page.iter().map(|c| probe(run.settings.gate, c)).collect();
        let live = run.sessions.mark_and_probe(&probes).await.map_err(crate::session_error)?;
        let (slipped_in, settled): (Vec<_>, Vec<_>) = page.iter().zip(live).partition(|(_, live)| *live > 0);
        let ids = |list: Vec<(&Candidate, u32)>| list.into_iter().map(|(c, _)| c.eve_id.0).collect::<Vec<i64>>();
        let (slipped_in, settled) = (ids(slipped_in), ids(settled));
        run.ctx
            .checkpoint("settle marks", async |db, _| {
                candidates::set_live(db, &slipped_in).await?;
                candidates::drop(db, &settled).await
            })
            .await?;
    }
}

fn probe(gate: Gate, candidate: &Candidate) -> Probe {
    Probe {
        account_id: candidate.account_id,
        gate,
        character_id: candidate.character_id,
        observed_at: millis(candidate.observed_at),
    }
}

async fn page(run: &Run<'_>, live: bool, after: i64, limit: i64) -> Result<Vec<Candidate>, JobError> {
    let (id, part) = (&run.ctx.run.run_id, run.terms.part);
    Ok(run
        .ctx
        .db
        .transaction("read candidates", async |db| candidates::found(db, id, part, live, after, limit).await)
        .await?)
}

async fn breaker_opens(run: &Run<'_>) -> Result<Option<Trip>, JobError> {
    let losses =
        run.ctx.db.transaction("count candidates", async |db| candidates::losses(db, run.terms.part).await).await?;
    let accounts = losses.iter().map(|loss| loss.accounts).sum();
    let unlisted = losses
        .iter()
        .filter(|loss| run.lists.get(&loss.brand_id).is_some_and(identity::approval::ApprovalConfig::denies_everybody))
        .map(|loss| loss.accounts)
        .sum();
    judge(run, accounts, unlisted).await
}

/// The circuit breaker's answer for a number of accounts; counts live sessions only where the ratio needs it.
///
/// # Errors
/// Redis or the database fails.
pub(crate) async fn judge(run: &Run<'_>, accounts: u64, unlisted: u64) -> Result<Option<Trip>, JobError> {
    let caps = run.settings.caps;
    let live = match breaker::enough_live(caps, accounts) {
        Some(enough) if unlisted == 0 => live_accounts(run, enough).await?,
        _ => 0,
    };
    Ok(breaker::trips(caps, accounts, unlisted, live))
}

/// Checked accounts with live sessions, counted up to `enough`.
async fn live_accounts(run: &Run<'_>, enough: u64) -> Result<u64, JobError> {
    let mut live: HashSet<AccountId> = HashSet::new();
    let mut at = Place::START;
    while (live.len() as u64) < enough {
        let (page, next) = run
            .ctx
            .db
            .transaction("read checked accounts", async |db| {
                if run.ctx.run.dry_run {
                    // A dry run has stamped nothing: what is due is what it has checked.
                    let (due, _) = sweep::due(db, &run.terms, at, LIVE_PAGE).await?;
                    let next = due.last().map(|due| due.place);
                    Ok((due.into_iter().map(|due| due.account_id).collect(), next))
                } else {
                    sweep::checked_accounts(db, &run.terms, at, LIVE_PAGE).await
                }
            })
            .await?;
        let Some(next) = next else { break };
        at = next;
        let unknown: Vec<AccountId> = page.into_iter().filter(|id| !live.contains(id)).collect();
        let alive = run.sessions.has_live_sessions(&unknown).await.map_err(crate::session_error)?;
        live.extend(unknown.into_iter().zip(alive).filter(|(_, alive)| *alive).map(|(id, _)| id));
    }
    Ok(live.len() as u64)
}

async fn confirm_and_take(run: &Run<'_>) -> Result<Ended, JobError> {
    let (mut after, mut unfinished) = (0, false);
    loop {
        if run.ctx.stop.is_stopped() || tokio::time::Instant::now() >= run.ctx.budget.ends_at() {
            return Ok(Ended::Unfinished);
        }
        let page = page(run, true, after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(if unfinished { Ended::Unfinished } else { Ended::Complete });
        };
        after = last.eve_id.0;
        match confirm(run, page).await? {
            Ok(answers) => {
                unfinished |= answers.iter().any(|answer| matches!(answer, Answer::Unavailable));
                decide_about(run, answers).await?;
                take::pending(run).await?;
            }
            Err(Interrupted::Unfinished) => return Ok(Ended::Unfinished),
            Err(Interrupted::Down(reason)) => return Ok(Ended::Down(reason)),
        }
    }
}

/// What ends a confirmation for all.
enum Interrupted {
    Unfinished,
    Down(String),
}

/// Asks the second source about a page of candidates.
async fn confirm(run: &Run<'_>, page: Vec<Candidate>) -> Result<Result<Vec<Answer>, Interrupted>, JobError> {
    // The moment before the question: a session approved after it was approved with younger knowledge.
    let asked_at = run.ctx.db.transaction("read the clock", async |db| sweep::now(db).await).await?;
    let answers: Result<Vec<Answer>, EsiError> = stream::iter(page)
        .map(|candidate| confirm_one(run, candidate, asked_at))
        .buffered(run.settings.esi.concurrency)
        .try_collect()
        .await;
    match answers {
        Ok(answers) => Ok(Ok(answers)),
        Err(EsiError::Misconfigured(problem)) => Err(JobError::config(format!("ESI refuses this client: {problem}"))),
        Err(EsiError::Down { reason }) => Ok(Err(Interrupted::Down(reason))),
        Err(_) => Ok(Err(Interrupted::Unfinished)),
    }
}

async fn confirm_one(run: &Run<'_>, candidate: Candidate, asked_at: OffsetDateTime) -> Result<Answer, EsiError> {
    if candidate.confirmed {
        let observed_at = candidate.observed_at;
        return Ok(Answer::Confirmed(candidate, observed_at));
    }
    let stays = match run.esi.organisation_by_second_source(candidate.eve_id, run.ctx.budget.ends_at()).await {
        Ok(SecondSource::Gone) => false,
        Ok(SecondSource::Member(organisation)) => {
            organisation.corporation != CorporationId::DOOMHEIM
                && run.lists.get(&candidate.brand_id).is_none_or(|lists| decide(lists, organisation).allows())
        }
        Err(EsiError::Unavailable(_) | EsiError::NotFound | EsiError::Deleted) => return Ok(Answer::Unavailable),
        Err(error) => return Err(error),
    };
    Ok(if stays { Answer::Disputed(candidate) } else { Answer::Confirmed(candidate, asked_at) })
}

/// Records what was decided about a page: pending rows for the confirmed, the others wait.
async fn decide_about(run: &Run<'_>, answers: Vec<Answer>) -> Result<(), JobError> {
    run.collect_counts();
    let (mut decided, mut disputed, mut unavailable) = (Vec::new(), Vec::new(), 0);
    for answer in answers {
        match answer {
            Answer::Confirmed(candidate, observed_at) => decided.push(Pending {
                id: Uuid::now_v7(),
                eve_id: candidate.eve_id,
                character_id: candidate.character_id,
                account_id: candidate.account_id,
                brand_id: candidate.brand_id,
                gate: run.settings.gate.to_string(),
                rule: candidate.rule,
                organisation: candidate.organisation,
                observed_at,
            }),
            Answer::Disputed(candidate) => {
                info!(eve_id = %candidate.eve_id, "second source disagrees: the next answer decides");
                disputed.push(candidate.eve_id.0);
            }
            Answer::Unavailable => unavailable += 1,
        }
    }
    if unavailable > 0 {
        warn!(candidates = unavailable, "no second source: these sessions stay until the next run");
    }
    let ids: Vec<i64> = decided.iter().map(|pending| pending.eve_id.0).collect();
    run.ctx
        .checkpoint("decide", async |db, delta| {
            invalidations::record(db, &run.ctx.run.run_id, &decided).await?;
            candidates::drop(db, &ids).await?;
            eve_characters::stamp_verified(db, &ids).await?;
            candidates::dispute(db, &disputed).await?;
            delta.add(&metric::CONFIRMATIONS, &["confirmed"], ids.len() as u64);
            delta.add(&metric::CONFIRMATIONS, &["disputed"], disputed.len() as u64);
            delta.add(&metric::CONFIRMATIONS, &["unavailable"], unavailable);
            delta.add(&metric::UNKNOWN, &["disputed"], disputed.len() as u64);
            delta.add(&metric::UNKNOWN, &["unconfirmed"], unavailable);
            Ok::<_, sqlx::Error>(())
        })
        .await
}
