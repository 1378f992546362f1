//! From candidates to decisions: marks first, then the circuit breaker, then confirmation by a second source, then a
//! pending row for each session that goes. All verdicts of the run stand before this begins.

use std::{collections::HashSet, time::Duration};

use esi::{EsiError, SecondSource};
use futures::{StreamExt, stream};
use identity::{
    approval::{Rule, decide},
    ids::{AccountId, CorporationId},
};
use job::JobError;
use metrics::verifier as metric;
use sessions::Probe;
use store::{
    candidates::{self, Candidate},
    eve_characters,
    invalidations::{self, Pending},
    sweep::{self, Place},
    unresolvable,
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
/// Newly denied characters marked together.
const MARK_PAGE: i64 = 1000;
/// A kept answer as old as affiliation's own may be (ESI keeps that for an hour) still confirms.
const FRESH: Duration = Duration::from_hours(1);
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
    // All verdicts are committed by now: whoever is approved after this moment was approved with knowledge of them.
    let stands_at = run.ctx.db.transaction("read the clock", async |db| sweep::now(db).await).await?;
    if !mark_newly_denied(run, stands_at).await? {
        return Ok(Ended::Unfinished);
    }
    if let Some(trip) = breaker_opens(run).await? {
        // A count that was cut short proves nothing.
        if time_is_up(run) {
            return Ok(Ended::Unfinished);
        }
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
    confirm_and_take(run, stands_at).await
}

/// Whether the run has to come to its end.
fn time_is_up(run: &Run<'_>) -> bool {
    run.ctx.stop.is_stopped() || tokio::time::Instant::now() >= run.ctx.budget.answers_end_at()
}

/// A character that has just lost its approval and has no session may have a login under way, approved before. The
/// mark refuses it; a session that slipped in before the mark is found here and becomes a candidate like the others.
/// `false`: the time was up first.
async fn mark_newly_denied(run: &Run<'_>, stands_at: OffsetDateTime) -> Result<bool, JobError> {
    let mut after = 0;
    loop {
        if time_is_up(run) {
            return Ok(false);
        }
        let page = page(run, false, after, MARK_PAGE).await?;
        let Some(last) = page.last() else { return Ok(true) };
        after = last.eve_id.0;
        let probes: Vec<Probe> = page
            .iter()
            .map(|candidate| Probe {
                account_id: candidate.account_id,
                gate: run.settings.gate,
                character_id: candidate.character_id,
                observed_at: millis(stands_at),
            })
            .collect();
        let live = run.sessions.mark_and_probe(&probes).await.map_err(crate::session_error)?;
        // Without its mark a candidate stays, and the next run looks again.
        let marked = page.iter().zip(live).filter_map(|(candidate, live)| Some((candidate, live?)));
        let (slipped_in, settled): (Vec<_>, Vec<_>) = marked.partition(|(_, live)| *live > 0);
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

async fn page(run: &Run<'_>, live: bool, after: i64, limit: i64) -> Result<Vec<Candidate>, JobError> {
    let (since, part) = (run.terms.started_at, run.terms.part);
    Ok(run
        .ctx
        .db
        .transaction("read candidates", async |db| candidates::found(db, since, part, live, after, limit).await)
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

/// Checked accounts with live sessions, counted up to `enough`. Checked are those of this run and of an earlier one within
/// the threshold: what a killed run left to this one must not look like a large share of little.
async fn live_accounts(run: &Run<'_>, enough: u64) -> Result<u64, JobError> {
    let mut live: HashSet<AccountId> = HashSet::new();
    // A dry run has stamped nothing: what is due is what it has checked.
    let mut due_too = run.ctx.run.dry_run;
    let mut at = Place::START;
    while (live.len() as u64) < enough && !time_is_up(run) {
        let (page, next) = run
            .ctx
            .db
            .transaction("read checked accounts", async |db| {
                if due_too {
                    let (due, _) = sweep::due(db, &run.terms, at, LIVE_PAGE).await?;
                    let next = due.last().map(|due| due.place);
                    Ok((due.into_iter().map(|due| due.account_id).collect(), next))
                } else {
                    sweep::checked_accounts(db, &run.terms, at, LIVE_PAGE).await
                }
            })
            .await?;
        let Some(next) = next else {
            if std::mem::take(&mut due_too) {
                at = Place::START;
                continue;
            }
            break;
        };
        at = next;
        let unknown: Vec<AccountId> = page.into_iter().filter(|id| !live.contains(id)).collect();
        let alive = run.sessions.has_live_sessions(&unknown).await.map_err(crate::session_error)?;
        live.extend(unknown.into_iter().zip(alive).filter(|(_, alive)| *alive).map(|(id, _)| id));
    }
    Ok(live.len() as u64)
}

async fn confirm_and_take(run: &Run<'_>, stands_at: OffsetDateTime) -> Result<Ended, JobError> {
    let (mut after, mut unfinished) = (0, false);
    loop {
        let page = page(run, true, after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(if unfinished { Ended::Unfinished } else { Ended::Complete });
        };
        if time_is_up(run) {
            return Ok(Ended::Unfinished);
        }
        // The sweep may have begun long ago: what ESI says in trouble confirms nothing.
        if let Some(reason) = crate::esi_is_down(run).await? {
            return Ok(Ended::Down(reason));
        }
        after = last.eve_id.0;
        let (answers, end) = confirm(run, page, stands_at).await?;
        unfinished |= answers.iter().any(|answer| matches!(answer, Answer::Unavailable));
        decide_about(run, answers).await?;
        take::pending(run).await?;
        match end {
            None => {}
            Some(EsiError::Misconfigured(problem)) => {
                return Err(JobError::config(format!("ESI refuses this client: {problem}")));
            }
            Some(EsiError::Down { reason }) => return Ok(Ended::Down(reason)),
            Some(_) => return Ok(Ended::Unfinished),
        }
    }
}

/// Asks the second source about a page of candidates; with the answers, what keeps the run from asking on.
async fn confirm(
    run: &Run<'_>,
    page: Vec<Candidate>,
    stands_at: OffsetDateTime,
) -> Result<(Vec<Answer>, Option<EsiError>), JobError> {
    // The moment before the question: a session approved after it was approved with younger knowledge.
    let asked_at = run.ctx.db.transaction("read the clock", async |db| sweep::now(db).await).await?;
    let mut asked = stream::iter(page)
        .map(|candidate| confirm_one(run, candidate, stands_at, asked_at))
        .buffered(run.settings.esi.concurrency);
    let (mut answers, mut down) = (Vec::new(), None);
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(answer) => answers.push(answer),
            // One odd sheet is no outage; two of them are.
            Err(EsiError::Down { .. }) if down.is_none() => {
                down = Some(());
                answers.push(Answer::Unavailable);
            }
            Err(error) => return Ok((answers, Some(error))),
        }
    }
    Ok((answers, None))
}

async fn confirm_one(
    run: &Run<'_>,
    candidate: Candidate,
    stands_at: OffsetDateTime,
    asked_at: OffsetDateTime,
) -> Result<Answer, EsiError> {
    if candidate.confirmed {
        return Ok(Answer::Confirmed(candidate, stands_at));
    }
    if candidate.single_source {
        return Ok(Answer::Disputed(candidate));
    }
    let answer = match run.esi.organisation_by_second_source(candidate.eve_id, run.ctx.budget.answers_end_at()).await {
        Ok(answer) => answer,
        Err(EsiError::Unavailable(_) | EsiError::NotFound | EsiError::Deleted) => return Ok(Answer::Unavailable),
        Err(error) => return Err(error),
    };
    let denies = match answer.source {
        SecondSource::Gone => true,
        SecondSource::Member(organisation) if organisation.corporation == CorporationId::DOOMHEIM => true,
        SecondSource::Member(organisation) => run.lists.get(&candidate.brand_id).is_some_and(|lists| {
            let rule = decide(lists, organisation);
            // Grace is skipped only for a deny list on which both sources find the character.
            let skips_grace = candidate.rule.is_explicit_denial() && !run.settings.grace.is_zero();
            !rule.allows() && (!skips_grace || rule.is_explicit_denial())
        }),
    };
    Ok(if denies && answer.age <= FRESH {
        Answer::Confirmed(candidate, asked_at - answer.age)
    } else {
        Answer::Disputed(candidate)
    })
}

/// Records what was decided about a page: pending rows for the confirmed, the others wait.
async fn decide_about(run: &Run<'_>, answers: Vec<Answer>) -> Result<(), JobError> {
    run.collect_counts();
    let (mut decided, mut disputed, mut alive, mut unavailable) = (Vec::new(), Vec::new(), Vec::new(), 0);
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
                if candidate.rule == Rule::CharacterGone {
                    alive.push(candidate.eve_id.0);
                }
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
            let recorded = invalidations::record(db, &run.ctx.run.run_id, &decided).await?;
            candidates::drop(db, &ids).await?;
            eve_characters::stamp_verified(db, &recorded).await?;
            candidates::dispute(db, &disputed).await?;
            // Whoever was taken for deleted and is not is asked for with the others again.
            unresolvable::forget(db, &alive).await?;
            delta.add(&metric::CONFIRMATIONS, &["confirmed"], ids.len() as u64);
            delta.add(&metric::CONFIRMATIONS, &["disputed"], disputed.len() as u64);
            delta.add(&metric::CONFIRMATIONS, &["unavailable"], unavailable);
            delta.add(&metric::UNKNOWN, &["disputed"], disputed.len() as u64);
            delta.add(&metric::UNKNOWN, &["unconfirmed"], unavailable);
            Ok::<_, sqlx::Error>(())
        })
        .await
}
