//! Errors, typed by what they mean for a session.

use time::OffsetDateTime;

/// Longest text taken from an answer into an error.
const MAX_TEXT: usize = 200;

/// Why ESI gave no answer about the character that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EsiError {
    /// ESI as a whole, or the route, is out of order: nothing it says about anybody counts. Skip the run.
    #[error("ESI is down: {reason}")]
    Down {
        /// What showed it.
        reason: String,
    },
    /// This call failed after its retries: the character is unknown for now.
    #[error("ESI gave no usable answer: {0}")]
    Unavailable(String),
    /// The call was not made, or not waited for: the error limit, a bucket, a pause ESI asked for or the caller's
    /// deadline stands against it.
    #[error("no call to ESI before {until}")]
    Budget {
        /// From when on a call may be made, by this machine's clock; already past if only the deadline was short.
        until: OffsetDateTime,
    },
    /// There is no such character or corporation.
    #[error("ESI knows no such id")]
    NotFound,
    /// The character was deleted.
    #[error("the character was deleted")]
    Deleted,
    /// ESI refuses this client (401, 403, the compatibility date): the configuration has to change.
    #[error("ESI refuses this client: {0}")]
    Misconfigured(String),
    /// The process was asked to stop.
    #[error("stopped while waiting for ESI")]
    Stopped,
}

/// Why a stored token could not be checked. No variant carries a token or the client's secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SsoError {
    /// SSO says that the refresh token is not valid (any more).
    #[error("SSO refuses the refresh token: invalid_grant")]
    InvalidGrant,
    /// SSO refuses the application itself: no token can be checked until the configuration changes.
    #[error("SSO refuses the application: {0}")]
    InvalidClient(String),
    /// No usable answer after the retries, no time for one, or the process was asked to stop: nothing is known.
    #[error("SSO gave no usable answer: {0}")]
    Unavailable(String),
    /// SSO accepted the refresh token and sent no access token.
    #[error("SSO sent no access token")]
    NoAccessToken,
    /// The access token is not one that SSO issued to this application for this character.
    #[error("the access token is not to be trusted: {0}")]
    BadAccessToken(String),
}

/// The beginning of a text from outside, on one line.
pub(crate) fn excerpt(text: &str) -> String {
    let cleaned = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    cleaned.take(MAX_TEXT).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_and_on_one_line() {
        assert_eq!(excerpt("a\r\nb"), "a  b");
        assert_eq!(excerpt(&"é".repeat(5000)).chars().count(), MAX_TEXT);
    }
}
