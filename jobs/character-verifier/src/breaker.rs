//! The circuit breaker: may this run take the sessions its verdicts ask for? No I/O but the count it is handed.

use std::fmt;

use crate::options::Caps;

/// From this many accounts (of all shards together) up the ratio counts; below it a share says nothing.
pub(crate) const RATIO_FROM: u64 = 10;

/// Why the breaker opened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Trip {
    /// More accounts than allowed.
    TooMany {
        /// Accounts that would lose a session.
        accounts: u64,
        /// How many may.
        cap: u64,
    },
    /// Too large a share of the checked accounts with live sessions.
    TooLargeAShare {
        /// Accounts that would lose a session.
        accounts: u64,
        /// Checked accounts with live sessions.
        of: u64,
        /// The share that may.
        ratio: f64,
    },
    /// Membership is required and the allow lists are empty: probably nobody meant that.
    EmptyAllowLists {
        /// Accounts that would lose a session.
        accounts: u64,
    },
}

impl fmt::Display for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { accounts, cap } => {
                write!(f, "{accounts} accounts would lose a session, MAX_INVALIDATIONS_PER_RUN allows {cap}")
            }
            Self::TooLargeAShare { accounts, of, ratio } => write!(
                f,
                "{accounts} of {of} checked accounts with live sessions would lose one, MAX_INVALIDATION_RATIO allows a share of {ratio}"
            ),
            Self::EmptyAllowLists { accounts } => write!(
                f,
                "{accounts} accounts of a brand that requires membership would lose a session, and its allow lists are empty"
            ),
        }
    }
}

/// How many checked accounts with live sessions are enough to let `accounts` pass: counting may end there. `None`: the
/// ratio does not matter.
pub(crate) fn enough_live(caps: Caps, accounts: u64) -> Option<u64> {
    if caps.approved || accounts < caps.ratio_from || accounts > caps.accounts || caps.ratio >= 1.0 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, which means: count all")]
    Some(if caps.ratio > 0.0 { (accounts as f64 / caps.ratio).ceil() as u64 } else { 0 })
}

/// Judges the whole. `of_unlisted` are those of `accounts` whose brand requires membership and allows nobody;
/// `live` is the count of checked accounts with live sessions, up to [`enough_live`].
pub(crate) fn trips(caps: Caps, accounts: u64, of_unlisted: u64, live: u64) -> Option<Trip> {
    if caps.approved || accounts == 0 {
        None
    } else if of_unlisted > 0 {
        Some(Trip::EmptyAllowLists { accounts: of_unlisted })
    } else if accounts > caps.accounts {
        Some(Trip::TooMany { accounts, cap: caps.accounts })
    } else if enough_live(caps, accounts).is_some() && accounts as f64 > live as f64 * caps.ratio {
        Some(Trip::TooLargeAShare { accounts, of: live, ratio: caps.ratio })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps { accounts: 50, ratio: 0.10, ratio_from: RATIO_FROM, approved: false };

    #[test]
    fn the_cap_itself_may_be_reached() {
        assert_eq!(trips(CAPS, 50, 0, 500), None);
        assert_eq!(trips(CAPS, 51, 0, 100_000), Some(Trip::TooMany { accounts: 51, cap: 50 }));
    }

    #[test]
    fn the_share_counts_from_ten_accounts_up() {
        assert_eq!(trips(CAPS, 9, 0, 9), None);
        assert_eq!(trips(CAPS, 10, 0, 100), None);
        assert_eq!(trips(CAPS, 10, 0, 99), Some(Trip::TooLargeAShare { accounts: 10, of: 99, ratio: 0.10 }));
    }

    #[test]
    fn empty_allow_lists_stop_at_the_first_account() {
        assert_eq!(trips(CAPS, 1, 1, 1000), Some(Trip::EmptyAllowLists { accounts: 1 }));
    }

    #[test]
    fn an_approval_lets_everything_pass() {
        let approved = Caps { approved: true, ..CAPS };
        assert_eq!(trips(approved, 5000, 5000, 5000), None);
    }

    #[test]
    fn counting_ends_where_the_answer_is_known() {
        assert_eq!(enough_live(CAPS, 9), None);
        assert_eq!(enough_live(CAPS, 10), Some(100));
        assert_eq!(enough_live(CAPS, 51), None);
        let none_may = Caps { ratio: 0.0, ..CAPS };
        assert_eq!(enough_live(none_may, 10), Some(0));
        assert!(trips(none_may, 10, 0, 1_000_000).is_some());
    }
}
