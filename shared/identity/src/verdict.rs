//! What a check of one character found.

use std::{fmt, str::FromStr};

use crate::approval::Rule;

/// A verdict that stands until the next one; "unknown" is no verdict and leaves the last one standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The approval rule lets the character stay.
    Allowed,
    /// The approval rule does not.
    Disallowed,
    /// The character is deleted or in Doomheim.
    Gone,
    /// The character's owner hash changed: it belongs to somebody else now.
    Transferred,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 4] = [Self::Allowed, Self::Disallowed, Self::Gone, Self::Transferred];

    /// The verdict that goes with a rule.
    pub fn of(rule: Rule) -> Self {
        match rule {
            Rule::CharacterGone => Self::Gone,
            Rule::OwnerChanged => Self::Transferred,
            rule if rule.allows() => Self::Allowed,
            _ => Self::Disallowed,
        }
    }

    /// The name in tables, events and the `reason` label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Disallowed => "disallowed",
            Self::Gone => "gone",
            Self::Transferred => "transferred",
        }
    }

    /// Whether this verdict, once confirmed, costs a session.
    pub fn costs_a_session(self) -> bool {
        self != Self::Allowed
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no verdict.
#[derive(Debug, thiserror::Error)]
#[error("unknown verdict {0:?}")]
pub struct UnknownVerdict(String);

impl FromStr for Verdict {
    type Err = UnknownVerdict;

    fn from_str(text: &str) -> Result<Self, UnknownVerdict> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == text).ok_or_else(|| UnknownVerdict(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_that_allow_give_the_verdict_allowed() {
        for rule in Rule::ALL {
            assert_eq!(Verdict::of(rule) == Verdict::Allowed, rule.allows(), "{rule}");
        }
    }

    #[test]
    fn every_verdict_survives_its_name() {
        for verdict in Verdict::ALL {
            assert_eq!(verdict.as_str().parse::<Verdict>().unwrap(), verdict);
        }
    }
}
