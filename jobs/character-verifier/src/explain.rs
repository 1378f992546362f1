//! `explain`: why does this character have, or not have, a session? In words, changing nothing. It asks and judges by the
//! very steps of a run.

use std::time::Duration;

use esi::{EsiError, SecondSource};
use identity::{
    approval::{Organisation, Rule, decide},
    codes::ExitCode,
    ids::{CharacterId, CorporationId, EveCharacterId},
    verdict::Verdict,
};
use job::{Context, JobError, screen};
use sessions::{Gate, Session};
use store::{
    characters::{self, Stored},
    sweep::{Due, Place},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::{Instant, timeout};

use crate::{
    decide::{Judgement, Observation, Reason, judge, may_cost_a_session},
    observe::{Cut, Observer},
    options::Settings,
    run::Run,
    session_error,
};

/// Longest wait for each answer of ESI.
const PATIENCE: Duration = Duration::from_secs(20);

/// Prints the story of one character.
///
/// # Errors
/// There is no such character (data), or a dependency fails.
pub(crate) async fn explain(settings: &Settings, ctx: &Context, character: &str) -> Result<ExitCode, JobError> {
    let stored = find(ctx, character).await?;
    let run = Run::start(ctx, settings).await?;
    tell_stored(&stored);

    let due = due(&stored);
    let (observation, single_source) = observe(&run, &due).await?;
    let second = run.esi.organisation_by_second_source(stored.eve_id, Instant::now() + PATIENCE).await;
    let second = second.map(|answer| answer.source);
    screen::line(&match &second {
        Ok(SecondSource::Member(organisation)) => format!("ESI, character:    {organisation}"),
        Ok(SecondSource::Gone) => "ESI, character:    deleted".to_owned(),
        Err(error) => format!("ESI, character:    {error}"),
    });

    let judgement = judge(&due, observation, run.lists.get(&stored.brand_id));
    screen::line(&match judgement {
        Judgement::Verdict { rule, .. } => format!("verdict:           {} by rule {rule}", Verdict::of(rule)),
        Judgement::Bad => "verdict:           none: ESI knows no such character, and a session stays".to_owned(),
        Judgement::Unknown { reason: Reason::NoAuthConfig, .. } => {
            "verdict:           unknown: the brand has no row in auth_config".to_owned()
        }
        Judgement::Unknown { last_known, .. } => {
            let last = last_known.map(|rule| format!("; where it stood last: {} by rule {rule}", Verdict::of(rule)));
            format!("verdict:           unknown: a session stays, the next run tries again{}", last.unwrap_or_default())
        }
    });
    // A source cannot confirm itself, but for being asked again by the next run.
    let second = if single_source { None } else { Some(&second) };
    tell_sessions(&run, &stored, &due, judgement, second).await?;
    Ok(ExitCode::Done)
}

/// The character as a sweep reads it.
fn due(stored: &Stored) -> Due {
    let verdict = stored.verdict.as_deref().and_then(|verdict| verdict.parse().ok());
    Due {
        eve_id: stored.eve_id,
        character_id: stored.character_id,
        account_id: stored.account_id,
        brand_id: stored.brand_id,
        is_primary: stored.is_primary,
        known: stored.organisation,
        stands: verdict.zip(stored.rule.as_deref().and_then(|rule| rule.parse().ok())),
        verdict_since: stored.verdict_since,
        unresolvable: stored.unresolvable.clone(),
        place: Place::START,
    }
}

/// Asks as a sweep does, and tells the answer; with it, whether that is what the second source says.
async fn observe(run: &Run<'_>, due: &Due) -> Result<(Observation, bool), JobError> {
    let observer = Observer::new(run);
    let (observation, cut, refused) = match timeout(PATIENCE, observer.observe(std::slice::from_ref(due))).await {
        Ok(observed) => {
            let observed = observed?;
            (observed.of(due.eve_id), observed.cut, !observed.bad.is_empty() || due.unresolvable.is_some())
        }
        Err(_) => (None, None, false),
    };
    screen::line(&match (observation, cut) {
        (Some(Observation::Member(organisation)), _) if refused => {
            format!("ESI, affiliation:  the bulk call refuses this id; its own sheet says {organisation}")
        }
        (Some(Observation::Member(organisation)), _) => format!("ESI, affiliation:  {organisation}"),
        (Some(Observation::Deleted), _) => {
            "ESI, affiliation:  the bulk call refuses this id; it was deleted".to_owned()
        }
        (Some(Observation::NotFound), _) => "ESI, affiliation:  no such character".to_owned(),
        (Some(Observation::Unknown(Reason::Missing)), _) => {
            "ESI, affiliation:  not in the answer (unknown, not left)".to_owned()
        }
        (_, Some(Cut::Down(reason))) => format!("ESI, affiliation:  {reason} (unknown)"),
        (_, Some(Cut::Budget)) => "ESI, affiliation:  the error budget is spent (unknown)".to_owned(),
        (_, Some(Cut::OutOfTime) | None) => "ESI, affiliation:  no usable answer (unknown)".to_owned(),
    });
    let single_source = refused && matches!(observation, Some(Observation::Member(_)));
    Ok((observation.unwrap_or(Observation::Unknown(Reason::Upstream)), single_source))
}

async fn find(ctx: &Context, character: &str) -> Result<Stored, JobError> {
    let found = if let Ok(id) = character.parse::<i64>() {
        ctx.db.transaction("read a character", async |db| characters::by_eve_id(db, EveCharacterId(id)).await).await?
    } else if let Ok(id) = character.parse::<CharacterId>() {
        ctx.db.transaction("read a character", async |db| characters::by_id(db, id).await).await?
    } else {
        return Err(JobError::data(format!("--character: {character:?} is neither an EVE id nor a UUID")));
    };
    found.ok_or_else(|| JobError::data(format!("--character: no EVE character {character} of an account is stored")))
}

fn tell_stored(stored: &Stored) {
    let time = |at: Option<OffsetDateTime>| {
        at.filter(|at| *at > OffsetDateTime::UNIX_EPOCH)
            .and_then(|at| at.format(&Rfc3339).ok())
            .unwrap_or_else(|| "never".to_owned())
    };
    screen::line(&format!("character:         {} (EVE {}, ours {})", stored.name, stored.eve_id, stored.character_id));
    let state = match (stored.account_deleted, stored.account_blocked) {
        (true, _) => ", deleted: not checked",
        (_, true) => ", blocked: not checked",
        _ => "",
    };
    let primary = if stored.is_primary { ", its primary character" } else { "" };
    screen::line(&format!("account:           {}{primary}{state} (brand {})", stored.account_id, stored.brand_id));
    let name = |name: &Option<String>| name.as_ref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
    screen::line(&match stored.organisation {
        Some(Organisation { corporation, alliance }) => format!(
            "stored:            corporation {corporation}{}, {}",
            name(&stored.corporation_name),
            alliance
                .map_or_else(|| "no alliance".to_owned(), |id| format!("alliance {id}{}", name(&stored.alliance_name))),
        ),
        None => "stored:            no organisation yet".to_owned(),
    });
    if let (Some(verdict), Some(rule)) = (&stored.verdict, &stored.rule) {
        screen::line(&format!("last verdict:      {verdict} by rule {rule}, since {}", time(stored.verdict_since)));
    }
    screen::line(&format!(
        "checked:           verified {}, attempted {}",
        time(stored.last_verified_at),
        time(stored.last_attempted_at)
    ));
    if let Some(reason) = &stored.unresolvable {
        screen::line(&format!("left out:          of the bulk call for now: {reason}"));
    }
    if let Some(checked) = stored.token_checked_at {
        let revoked = if stored.token_revoked { ", counts as revoked" } else { "" };
        screen::line(&format!("token:             stored, checked {}{revoked}", time(Some(checked))));
    }
    match stored.candidate.as_deref() {
        Some("held") => {
            screen::line("waiting:           held by the circuit breaker; APPROVE_MASS_INVALIDATION=true acts on it");
        }
        Some("disputed") => screen::line("waiting:           the second source disagreed; the next answer decides"),
        Some(_) => screen::line("waiting:           found by a run that did not finish; the next one looks again"),
        None => {}
    }
    if stored.pending {
        screen::line("waiting:           decided; the next run ends the session");
    }
}

async fn tell_sessions(
    run: &Run<'_>,
    stored: &Stored,
    due: &Due,
    judgement: Judgement,
    second: Option<&Result<SecondSource, EsiError>>,
) -> Result<(), JobError> {
    let gate = run.settings.gate;
    let (sessions, which): (Vec<Session>, _) = match gate {
        Gate::Acting => {
            let sessions = run.sessions.find_acting(stored.account_id, stored.character_id).await;
            (sessions.map_err(session_error)?, "acting as this character")
        }
        Gate::Primary | Gate::Any => {
            (run.sessions.find_all(stored.account_id).await.map_err(session_error)?, "of the account")
        }
    };
    screen::line(&format!("live sessions:     {} {which} (GATE={gate})", sessions.len()));
    for session in &sessions {
        let approved = OffsetDateTime::from_unix_timestamp_nanos(i128::from(session.approved_at.0) * 1_000_000)
            .ok()
            .and_then(|at| at.format(&Rfc3339).ok())
            .unwrap_or_default();
        screen::line(&format!(
            "  session {}…  client {}, approved {approved}",
            &session.hash.as_str()[..8],
            session.client_type
        ));
    }
    screen::line(&format!(
        "so:                {}",
        conclusion(run, stored, due, judgement, second, sessions.is_empty())
    ));
    Ok(())
}

fn conclusion(
    run: &Run<'_>,
    stored: &Stored,
    due: &Due,
    judgement: Judgement,
    second: Option<&Result<SecondSource, EsiError>>,
    no_session: bool,
) -> &'static str {
    let Judgement::Verdict { rule, organisation } = judgement else { return "nothing would be taken" };
    let (gate, grace) = (run.settings.gate, run.settings.grace);
    let may_cost = |grace| may_cost_a_session(due, rule, gate, grace, run.ctx.run.started_at);
    let second_denies = match second {
        Some(Ok(SecondSource::Gone)) => Some(true),
        Some(Ok(SecondSource::Member(organisation))) => run
            .lists
            .get(&stored.brand_id)
            .map(|lists| organisation.corporation == CorporationId::DOOMHEIM || !decide(lists, *organisation).allows()),
        Some(Err(_)) | None => None,
    };
    // What an earlier run found of the same organisation is confirmed by being found again.
    let found_again = stored.candidate.as_deref() == Some("disputed")
        && stored.organisation == organisation
        && rule != Rule::CharacterGone;
    if stored.account_deleted || stored.account_blocked {
        "nothing would be taken: the account is not checked"
    } else if rule.allows() {
        "the sessions stay"
    } else if no_session {
        "there is no session to take"
    } else if !may_cost(time::Duration::ZERO) {
        "the sessions stay: not the primary character (GATE=primary)"
    } else if !may_cost(grace) {
        "the sessions stay for now: REVOCATION_GRACE_MINUTES are not over"
    } else if rule == Rule::OwnerChanged || found_again || second_denies == Some(true) {
        "these sessions would go, unless the circuit breaker opens"
    } else if second_denies == Some(false) {
        "the sources disagree: the sessions stay until the next answer confirms"
    } else {
        "the sessions stay until the next run or a second source confirms"
    }
}
