//! The approval rule: may a character of this corporation and alliance have a session?
//!
//! One order, first match wins: denied corporation, denied alliance, membership not required, allowed corporation or
//! allowed alliance, otherwise denied. The rule that matched is returned with the answer, since "why was I logged
//! out" is the question operators are asked.

use std::{collections::HashSet, fmt, str::FromStr};

use crate::ids::{AllianceId, CorporationId};

/// One brand's lists (`auth_config`, one row per brand).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApprovalConfig {
    /// `false`: everybody who is not denied may stay.
    pub require_membership: bool,
    /// Corporations whose members may stay.
    pub allowed_corporations: HashSet<CorporationId>,
    /// Alliances whose members may stay.
    pub allowed_alliances: HashSet<AllianceId>,
    /// Corporations whose members may not, whatever else matches.
    pub denied_corporations: HashSet<CorporationId>,
    /// Alliances whose members may not, whatever else matches.
    pub denied_alliances: HashSet<AllianceId>,
}

impl ApprovalConfig {
    /// Nobody can pass: membership is required and no list allows anybody. More likely a mistake than a wish, so the
    /// circuit breaker stops at the first session.
    pub fn denies_everybody(&self) -> bool {
        self.require_membership && self.allowed_corporations.is_empty() && self.allowed_alliances.is_empty()
    }
}

/// Where a character stands: its corporation, and the alliance if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Organisation {
    /// The corporation; every character has one.
    pub corporation: CorporationId,
    /// The alliance; `None` means none, not unknown.
    pub alliance: Option<AllianceId>,
}

impl fmt::Display for Organisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.alliance {
            Some(alliance) => write!(f, "corporation {}, alliance {alliance}", self.corporation),
            None => write!(f, "corporation {}, no alliance", self.corporation),
        }
    }
}

/// The rule that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The corporation is on the deny list.
    DeniedCorporation,
    /// The alliance is on the deny list.
    DeniedAlliance,
    /// Membership is not required.
    MembershipNotRequired,
    /// The corporation is on the allow list.
    AllowedCorporation,
    /// The alliance is on the allow list.
    AllowedAlliance,
    /// Membership is required and no list names the organisation.
    NotAMember,
    /// The character was deleted (Doomheim, or ESI says so).
    CharacterGone,
    /// The character changed hands: its owner hash is another.
    OwnerChanged,
}

impl Rule {
    /// Every rule, in the order of the decision.
    pub const ALL: [Self; 8] = [
        Self::DeniedCorporation,
        Self::DeniedAlliance,
        Self::MembershipNotRequired,
        Self::AllowedCorporation,
        Self::AllowedAlliance,
        Self::NotAMember,
        Self::CharacterGone,
        Self::OwnerChanged,
    ];

    /// The name in tables, events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeniedCorporation => "denied_corporation",
            Self::DeniedAlliance => "denied_alliance",
            Self::MembershipNotRequired => "membership_not_required",
            Self::AllowedCorporation => "allowed_corporation",
            Self::AllowedAlliance => "allowed_alliance",
            Self::NotAMember => "not_a_member",
            Self::CharacterGone => "character_gone",
            Self::OwnerChanged => "owner_changed",
        }
    }

    /// Whether this rule lets a character stay.
    pub fn allows(self) -> bool {
        matches!(self, Self::MembershipNotRequired | Self::AllowedCorporation | Self::AllowedAlliance)
    }

    /// Whether the organisation was named on a deny list: such a hit waits for no grace.
    pub fn is_explicit_denial(self) -> bool {
        matches!(self, Self::DeniedCorporation | Self::DeniedAlliance)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no rule.
#[derive(Debug, thiserror::Error)]
#[error("unknown approval rule {0:?}")]
pub struct UnknownRule(String);

impl FromStr for Rule {
    type Err = UnknownRule;

    fn from_str(text: &str) -> Result<Self, UnknownRule> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == text).ok_or_else(|| UnknownRule(text.to_owned()))
    }
}

/// The rule that decides about `organisation` under `config`; ask [`Rule::allows`] for the answer.
pub fn decide(config: &ApprovalConfig, organisation: Organisation) -> Rule {
    let Organisation { corporation, alliance } = organisation;
    if config.denied_corporations.contains(&corporation) {
        Rule::DeniedCorporation
    } else if alliance.is_some_and(|id| config.denied_alliances.contains(&id)) {
        Rule::DeniedAlliance
    } else if !config.require_membership {
        Rule::MembershipNotRequired
    } else if config.allowed_corporations.contains(&corporation) {
        Rule::AllowedCorporation
    } else if alliance.is_some_and(|id| config.allowed_alliances.contains(&id)) {
        Rule::AllowedAlliance
    } else {
        Rule::NotAMember
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CORPORATION: CorporationId = CorporationId(98_000_001);
    const ALLIANCE: AllianceId = AllianceId(99_000_001);

    fn member() -> Organisation {
        Organisation { corporation: CORPORATION, alliance: Some(ALLIANCE) }
    }

    fn config(change: impl FnOnce(&mut ApprovalConfig)) -> ApprovalConfig {
        let mut config = ApprovalConfig { require_membership: true, ..ApprovalConfig::default() };
        change(&mut config);
        config
    }

    #[test]
    fn a_denied_corporation_beats_every_allowance() {
        let config = config(|c| {
            c.denied_corporations.insert(CORPORATION);
            c.denied_alliances.insert(ALLIANCE);
            c.allowed_corporations.insert(CORPORATION);
            c.allowed_alliances.insert(ALLIANCE);
            c.require_membership = false;
        });
        assert_eq!(decide(&config, member()), Rule::DeniedCorporation);
    }

    #[test]
    fn a_denied_alliance_beats_membership_not_required() {
        let config = config(|c| {
            c.denied_alliances.insert(ALLIANCE);
            c.allowed_corporations.insert(CORPORATION);
            c.require_membership = false;
        });
        assert_eq!(decide(&config, member()), Rule::DeniedAlliance);
    }

    #[test]
    fn without_required_membership_a_stranger_stays() {
        assert_eq!(decide(&config(|c| c.require_membership = false), member()), Rule::MembershipNotRequired);
    }

    #[test]
    fn either_list_lets_a_member_stay() {
        let by_corporation = config(|c| {
            c.allowed_corporations.insert(CORPORATION);
        });
        let by_alliance = config(|c| {
            c.allowed_alliances.insert(ALLIANCE);
        });
        assert_eq!(decide(&by_corporation, member()), Rule::AllowedCorporation);
        assert_eq!(decide(&by_alliance, member()), Rule::AllowedAlliance);
    }

    #[test]
    fn empty_lists_deny_everybody_and_say_so() {
        let config = config(|_| ());
        assert!(config.denies_everybody());
        assert_eq!(decide(&config, member()), Rule::NotAMember);
    }

    #[test]
    fn an_alliance_list_says_nothing_of_a_corporation_without_alliance() {
        let config = config(|c| {
            c.allowed_alliances.insert(ALLIANCE);
        });
        assert_eq!(decide(&config, Organisation { corporation: CORPORATION, alliance: None }), Rule::NotAMember);
    }

    #[test]
    fn every_rule_survives_its_name() {
        for rule in Rule::ALL {
            assert_eq!(rule.as_str().parse::<Rule>().unwrap(), rule);
        }
        assert!("somehow".parse::<Rule>().is_err());
    }

    proptest! {
        #[test]
        fn naming_an_organisation_on_a_deny_list_never_lets_it_stay(
            corporation in 1_i64..5, alliance in proptest::option::of(1_i64..5), lists in proptest::collection::vec((0_u8..4, 1_i64..5), 0..12), required: bool,
        ) {
            let mut config = ApprovalConfig { require_membership: required, ..ApprovalConfig::default() };
            for (list, id) in lists {
                let _: bool = match list {
                    0 => config.allowed_corporations.insert(CorporationId(id)),
                    1 => config.allowed_alliances.insert(AllianceId(id)),
                    2 => config.denied_corporations.insert(CorporationId(id)),
                    _ => config.denied_alliances.insert(AllianceId(id)),
                };
            }
            let organisation = Organisation { corporation: CorporationId(corporation), alliance: alliance.map(AllianceId) };
            let denied = config.denied_corporations.contains(&organisation.corporation)
                || organisation.alliance.is_some_and(|id| config.denied_alliances.contains(&id));
            let member = config.allowed_corporations.contains(&organisation.corporation)
                || organisation.alliance.is_some_and(|id| config.allowed_alliances.contains(&id));
            prop_assert_eq!(decide(&config, organisation).allows(), !denied && (!required || member));
        }
    }
}
