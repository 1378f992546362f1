//! `explain`: why does this character have, or not have, a session? In words, changing nothing.

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
use store::characters::{self, Stored};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::Instant;

use crate::{options::Settings, run::Run, session_error};

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

    let lists = run.lists.get(&stored.brand_id);
    let deadline = Instant::now() + PATIENCE;
    let first = run.esi.affiliations(&[stored.eve_id], deadline).await;
    let observed = match &first {
        Ok(answer) => answer.found.first().map(|(_, organisation)| *organisation),
        Err(_) => None,
    };
    match (&first, observed) {
        (_, Some(organisation)) => screen::line(&format!("ESI, affiliation:  {organisation}")),
        (Ok(answer), None) if !answer.bad.is_empty() => {
            screen::line("ESI, affiliation:  the bulk call refuses this id");
        }
        (Ok(_), None) => screen::line("ESI, affiliation:  not in the answer (unknown, not left)"),
        (Err(error), None) => screen::line(&format!("ESI, affiliation:  {error} (unknown)")),
    }
    let second = run.esi.organisation_by_second_source(stored.eve_id, Instant::now() + PATIENCE).await;
    let gone = matches!(second, Ok(SecondSource::Gone)) || matches!(second, Err(EsiError::Deleted));
    screen::line(&match &second {
        Ok(SecondSource::Member(organisation)) => format!("ESI, character:    {organisation}"),
        Ok(SecondSource::Gone) => "ESI, character:    deleted".to_owned(),
        Err(error) => format!("ESI, character:    {error}"),
    });

    let rule = lists.and_then(|lists| rule(&stored, observed, gone, |organisation| decide(lists, organisation)));
    match (lists, rule) {
        (None, _) => screen::line("verdict:           unknown: the brand has no row in auth_config"),
        (_, None) => screen::line("verdict:           unknown: a session stays, the next run tries again"),
        (_, Some(rule)) => screen::line(&format!("verdict:           {} by rule {rule}", Verdict::of(rule))),
    }
    tell_sessions(&run, settings, &stored, rule, &second).await?;
    Ok(ExitCode::Done)
}

fn rule(
    stored: &Stored,
    observed: Option<Organisation>,
    gone: bool,
    decide: impl Fn(Organisation) -> Rule,
) -> Option<Rule> {
    match observed {
        Some(organisation) if organisation.corporation == CorporationId::DOOMHEIM => Some(Rule::CharacterGone),
        Some(_) if stored.verdict.as_deref() == Some(Verdict::Transferred.as_str()) => Some(Rule::OwnerChanged),
        Some(organisation) => Some(decide(organisation)),
        None if gone => Some(Rule::CharacterGone),
        None => None,
    }
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
    settings: &Settings,
    stored: &Stored,
    rule: Option<Rule>,
    second: &Result<SecondSource, EsiError>,
) -> Result<(), JobError> {
    let sessions: Vec<Session> = match settings.gate {
        Gate::Acting => run.sessions.find_acting(stored.account_id, stored.character_id).await,
        Gate::Primary | Gate::Any => run.sessions.list(stored.account_id).await,
    }
    .map_err(session_error)?;
    let which = match settings.gate {
        Gate::Acting => "acting as this character",
        Gate::Primary | Gate::Any => "of the account",
    };
    screen::line(&format!("live sessions:     {} {which} (GATE={})", sessions.len(), settings.gate));
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
    let second_denies = match second {
        Ok(SecondSource::Gone) => Some(true),
        Ok(SecondSource::Member(organisation)) => run
            .lists
            .get(&stored.brand_id)
            .map(|lists| organisation.corporation == CorporationId::DOOMHEIM || !decide(lists, *organisation).allows()),
        Err(_) => None,
    };
    screen::line(match (rule, sessions.is_empty(), second_denies) {
        (None, ..) => "so:                nothing would be taken",
        (Some(rule), ..) if rule.allows() => "so:                the sessions stay",
        (_, true, _) => "so:                there is no session to take",
        (Some(_), false, _) if settings.gate == Gate::Primary && !stored.is_primary => {
            "so:                the sessions stay: not the primary character (GATE=primary)"
        }
        (Some(Rule::OwnerChanged), ..) | (_, false, Some(true)) => {
            "so:                these sessions would go, unless the circuit breaker opens"
        }
        (_, false, Some(false)) => {
            "so:                the sources disagree: the sessions stay until the next answer confirms"
        }
        (_, false, None) => "so:                the sessions stay until a second source confirms",
    });
    Ok(())
}
