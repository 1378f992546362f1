//! Why a run cannot go on, and whether a retry helps.

use std::fmt;

use identity::codes::ExitCode;
use runtime::DbError;

/// An error at a job's edge. Which constructor made it decides the exit code, so that the decision is visible where the
/// error is made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct JobError {
    code: ExitCode,
    message: String,
}

impl JobError {
    /// Temporary: the next try may succeed without anybody doing anything (exit code 75).
    pub fn retry(message: impl fmt::Display) -> Self {
        Self::new(ExitCode::Temporary, message)
    }

    /// A bug of ours (exit code 70).
    pub fn bug(message: impl fmt::Display) -> Self {
        Self::new(ExitCode::Bug, message)
    }

    /// Fails every time, for a reason that is neither configuration nor data: as a bug (exit code 70).
    pub fn permanent(message: impl fmt::Display) -> Self {
        Self::bug(message)
    }

    /// The configuration is wrong, which only showed when it was used (exit code 78).
    pub fn config(message: impl fmt::Display) -> Self {
        Self::new(ExitCode::Configuration, message)
    }

    /// The command line is wrong (exit code 64).
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(ExitCode::Usage, message)
    }

    /// Bad data that needs a person (exit code 65).
    pub fn data(message: impl fmt::Display) -> Self {
        Self::new(ExitCode::Data, message)
    }

    /// How the process ends because of it.
    pub fn exit_code(&self) -> ExitCode {
        self.code
    }

    /// The same error, told with what was being done.
    #[must_use]
    pub fn context(self, what: impl fmt::Display) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    fn new(code: ExitCode, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }
}

impl From<DbError> for JobError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Unavailable { .. } | DbError::Hung { .. } => Self::retry(error),
            DbError::Refused { .. } => Self::config(error),
            DbError::Broken { .. } => Self::bug(error),
        }
    }
}

impl From<redis::RedisError> for JobError {
    fn from(error: redis::RedisError) -> Self {
        let code = error.code().unwrap_or_default();
        if error.kind() == redis::ErrorKind::AuthenticationFailed || matches!(code, "NOAUTH" | "WRONGPASS" | "NOPERM") {
            return Self::config(format_args!("Redis refuses REDIS_URL: {error}"));
        }
        Self::retry(format_args!("Redis is not available: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_constructor_decides_the_exit_code() {
        let codes =
            [JobError::retry(""), JobError::bug(""), JobError::permanent(""), JobError::config(""), JobError::data("")]
                .map(|error| error.exit_code() as u8);
        assert_eq!(codes, [75, 70, 70, 78, 65]);
    }

    #[test]
    fn a_database_that_hangs_or_is_away_is_worth_a_retry_and_one_that_refuses_is_not() {
        let away = || sqlx::Error::PoolTimedOut;
        let code = |error: DbError| JobError::from(error).exit_code();
        assert_eq!(code(DbError::Unavailable { what: "a", source: away() }), ExitCode::Temporary);
        assert_eq!(code(DbError::Hung { what: "a", after: Duration::from_secs(1) }), ExitCode::Temporary);
        assert_eq!(code(DbError::Refused { what: "a", source: away() }), ExitCode::Configuration);
        assert_eq!(code(DbError::Broken { what: "a", source: away() }), ExitCode::Bug);
    }

    #[test]
    fn a_wrong_redis_password_is_configuration_and_a_lost_connection_is_temporary() {
        let failed = |kind| redis::RedisError::from((kind, "no"));
        assert_eq!(JobError::from(failed(redis::ErrorKind::AuthenticationFailed)).exit_code(), ExitCode::Configuration);
        assert_eq!(JobError::from(failed(redis::ErrorKind::Io)).exit_code(), ExitCode::Temporary);
    }

    #[test]
    fn context_comes_before_the_message() {
        let error = JobError::data("row 7 is unreadable").context("backfill");
        assert_eq!((error.to_string().as_str(), error.exit_code()), ("backfill: row 7 is unreadable", ExitCode::Data));
    }
}
