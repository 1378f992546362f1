//! What can go wrong, by what it means to the caller.

use identity::ids::CharacterId;
use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::EpochMillis;

/// Why an operation on sessions failed. Never contains a token.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The approval is older than an observation that cost the character, or the whole account, its sessions.
    /// Reading the approval again and coming back with it helps, if it is still given.
    #[error("refused: the approval is older than the observation of {observed_at} ms that ended access")]
    Refused {
        /// The character asked for; none for an account-only session.
        character: Option<CharacterId>,
        /// The younger of the marks for that character and for the whole account.
        observed_at: EpochMillis,
    },
    /// Redis did not answer, or not now (loading, failing over, out of memory). Whether the step took effect is
    /// unknown; every operation but an open may simply be repeated, and an open whose token nobody got ends idle.
    #[error("Redis is unavailable: {0}")]
    Unavailable(#[source] RedisError),
    /// Repeating does not help: what is stored cannot be read, or Redis refuses the command or the login.
    #[error("sessions are broken: {0}")]
    Broken(String),
}

/// Codes of errors that pass when the server does: out of memory, busy with a slow script, too few replicas,
/// snapshots failing.
const PASSING: [&str; 4] = ["OOM", "BUSY", "NOREPLICAS", "MISCONF"];

impl From<RedisError> for SessionError {
    fn from(error: RedisError) -> Self {
        let passing = match error.kind() {
            ErrorKind::Io
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::NoValidReplicasFoundBySentinel => true,
            ErrorKind::Server(kind) => matches!(
                kind,
                ServerErrorKind::BusyLoading
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ReadOnly
                    | ServerErrorKind::Moved
                    | ServerErrorKind::Ask
            ),
            // Within a pipeline the code is only found per command.
            ErrorKind::Extension => error
                .clone()
                .into_server_errors()
                .is_some_and(|errors| errors.iter().all(|(_, error)| PASSING.contains(&error.code()))),
            _ => false,
        };
        if passing { Self::Unavailable(error) } else { Self::Broken(error.to_string()) }
    }
}
