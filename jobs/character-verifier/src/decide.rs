//! From what was observed to a verdict. No I/O.

use identity::{
    approval::{ApprovalConfig, Organisation, Rule, decide},
    ids::CorporationId,
    verdict::Verdict,
};
use sessions::Gate;
use store::sweep::Due;
use time::{Duration, OffsetDateTime};

/// What ESI said about a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Observation {
    /// It stands here.
    Member(Organisation),
    /// It was deleted.
    Deleted,
    /// ESI knows no such character.
    NotFound,
    /// Nothing that could be relied on.
    Unknown(Reason),
}

/// Why a character is unknown; the `reason` label of `rollcall_verifier_unknown_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Asked, and absent from the answer.
    Missing,
    /// The call failed.
    Upstream,
    /// Its brand has no row in `auth_config`.
    NoAuthConfig,
}

impl Reason {
    /// The label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Upstream => "upstream",
            Self::NoAuthConfig => "no_auth_config",
        }
    }
}

/// What is made of an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// A verdict, by this rule, for this organisation.
    Verdict {
        /// The rule, and with it the verdict.
        rule: Rule,
        /// Where the character stands; the last known place of a deleted one.
        organisation: Option<Organisation>,
    },
    /// Permanently bad: ESI knows no such character.
    Bad,
    /// Skipped and tried again. Approval of the last known organisation is still looked at, so that a login sees a
    /// changed list; it never costs a session.
    Unknown {
        /// Why.
        reason: Reason,
        /// What the lists say of the last known organisation.
        last_known: Option<Rule>,
    },
}

/// Judges one character. `config` is `None` where its brand has no lists.
pub(crate) fn judge(due: &Due, observation: Observation, config: Option<&ApprovalConfig>) -> Judgement {
    let Some(config) = config else { return Judgement::Unknown { reason: Reason::NoAuthConfig, last_known: None } };
    let transferred = matches!(due.stands, Some((Verdict::Transferred, _)));
    match observation {
        // Only a new login, which stores the new owner, ends this.
        Observation::Deleted if transferred => Judgement::Verdict { rule: Rule::OwnerChanged, organisation: due.known },
        Observation::Deleted => Judgement::Verdict { rule: Rule::CharacterGone, organisation: due.known },
        Observation::Member(organisation) => {
            let rule = if transferred {
                Rule::OwnerChanged
            } else if organisation.corporation == CorporationId::DOOMHEIM {
                Rule::CharacterGone
            } else {
                decide(config, organisation)
            };
            Judgement::Verdict { rule, organisation: Some(organisation) }
        }
        Observation::NotFound => Judgement::Bad,
        Observation::Unknown(reason) => {
            let last_known = match due.stands {
                Some((Verdict::Gone | Verdict::Transferred, _)) | None => None,
                Some(_) => due.known.map(|organisation| decide(config, organisation)),
            };
            Judgement::Unknown { reason, last_known }
        }
    }
}

/// Whether a verdict by `rule` may cost this character's account a session now.
pub(crate) fn may_cost_a_session(due: &Due, rule: Rule, gate: Gate, grace: Duration, now: OffsetDateTime) -> bool {
    if rule.allows() || (gate == Gate::Primary && !due.is_primary) {
        return false;
    }
    if rule.is_explicit_denial() || grace.is_zero() {
        return true;
    }
    let same = due.stands.is_some_and(|(verdict, _)| verdict == Verdict::of(rule));
    same && due.verdict_since.is_some_and(|since| now - since >= grace)
}

/// How an organisation changed; the `type` label of `battlescope_character_org_changes_total`. `None`: it did not, or
/// nothing was known before.
pub(crate) fn change(known: Option<Organisation>, now: Option<Organisation>) -> Option<&'static str> {
    let (known, now) = known.zip(now)?;
    match (known.corporation != now.corporation, known.alliance != now.alliance) {
        (true, true) => Some("both"),
        (true, false) => Some("corp"),
        (false, true) => Some("alliance"),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use identity::ids::{AccountId, AllianceId, BrandId, CharacterId, EveCharacterId};
    use store::sweep::Place;
    use uuid::Uuid;

    use super::*;

    const HOME: Organisation =
        Organisation { corporation: CorporationId(98_000_001), alliance: Some(AllianceId(99_000_001)) };
    const AWAY: Organisation = Organisation { corporation: CorporationId(98_000_002), alliance: None };
    const NOW: OffsetDateTime = time::macros::datetime!(2026-11-22 12:00 UTC);

    fn due(stands: Option<Rule>) -> Due {
        Due {
            eve_id: EveCharacterId(2_100_000_001),
            character_id: CharacterId(Uuid::nil()),
            account_id: AccountId(Uuid::nil()),
            brand_id: BrandId(Uuid::nil()),
            is_primary: false,
            known: Some(HOME),
            stands: stands.map(|rule| (Verdict::of(rule), rule)),
            verdict_since: None,
            unresolvable: None,
            place: Place::START,
        }
    }

    fn members_only() -> ApprovalConfig {
        ApprovalConfig {
            require_membership: true,
            allowed_corporations: [HOME.corporation].into(),
            ..ApprovalConfig::default()
        }
    }

    #[test]
    fn the_lists_decide_about_an_observed_organisation() {
        let judged = |organisation| judge(&due(None), Observation::Member(organisation), Some(&members_only()));
        assert_eq!(judged(HOME), Judgement::Verdict { rule: Rule::AllowedCorporation, organisation: Some(HOME) });
        assert_eq!(judged(AWAY), Judgement::Verdict { rule: Rule::NotAMember, organisation: Some(AWAY) });
    }

    #[test]
    fn doomheim_and_deletion_are_gone_and_keep_no_membership() {
        let doomheim = Organisation { corporation: CorporationId::DOOMHEIM, alliance: None };
        let free = ApprovalConfig::default();
        let judged = judge(&due(None), Observation::Member(doomheim), Some(&free));
        assert_eq!(judged, Judgement::Verdict { rule: Rule::CharacterGone, organisation: Some(doomheim) });
        let judged = judge(&due(None), Observation::Deleted, Some(&free));
        assert_eq!(judged, Judgement::Verdict { rule: Rule::CharacterGone, organisation: Some(HOME) });
    }

    #[test]
    fn a_transferred_character_stays_so_in_a_friendly_corporation() {
        let judged = judge(&due(Some(Rule::OwnerChanged)), Observation::Member(HOME), Some(&members_only()));
        assert_eq!(judged, Judgement::Verdict { rule: Rule::OwnerChanged, organisation: Some(HOME) });
    }

    #[test]
    fn an_unknown_character_has_no_verdict_but_its_last_place_is_looked_at() {
        let mut lists = members_only();
        lists.denied_corporations.insert(HOME.corporation);
        let observation = Observation::Unknown(Reason::Missing);
        let judged = judge(&due(Some(Rule::AllowedCorporation)), observation, Some(&lists));
        let last_known = Some(Rule::DeniedCorporation);
        assert_eq!(judged, Judgement::Unknown { reason: Reason::Missing, last_known });
    }

    #[test]
    fn without_lists_nobody_is_judged() {
        let judged = judge(&due(None), Observation::Member(HOME), None);
        assert_eq!(judged, Judgement::Unknown { reason: Reason::NoAuthConfig, last_known: None });
    }

    #[test]
    fn grace_counts_from_the_first_finding_and_a_deny_list_waits_for_nothing() {
        let grace = Duration::minutes(30);
        let costs = |due: &Due, rule| may_cost_a_session(due, rule, Gate::Acting, grace, NOW);
        let mut fresh = due(Some(Rule::AllowedCorporation));
        assert!(!costs(&fresh, Rule::NotAMember));
        assert!(costs(&fresh, Rule::DeniedAlliance));
        fresh.stands = Some((Verdict::Disallowed, Rule::NotAMember));
        fresh.verdict_since = Some(NOW - Duration::minutes(29));
        assert!(!costs(&fresh, Rule::NotAMember));
        fresh.verdict_since = Some(NOW - Duration::minutes(30));
        assert!(costs(&fresh, Rule::NotAMember));
    }

    #[test]
    fn with_the_primary_gate_other_characters_cost_nothing() {
        let mut due = due(None);
        assert!(!may_cost_a_session(&due, Rule::NotAMember, Gate::Primary, Duration::ZERO, NOW));
        due.is_primary = true;
        assert!(may_cost_a_session(&due, Rule::NotAMember, Gate::Primary, Duration::ZERO, NOW));
    }

    #[test]
    fn changes_are_told_apart() {
        let other = |corporation, alliance| Some(Organisation { corporation: CorporationId(corporation), alliance });
        let home = Some(HOME);
        assert_eq!(change(home, other(1, HOME.alliance)), Some("corp"));
        assert_eq!(change(home, other(HOME.corporation.0, None)), Some("alliance"));
        assert_eq!(change(home, other(1, None)), Some("both"));
        assert_eq!(change(home, home), None);
        assert_eq!(change(None, home), None);
    }
}
