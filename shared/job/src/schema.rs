//! Whether this binary and the database's schema belong together.

use runtime::Database;
use store::schema::{Fit, versions};
use time::OffsetDateTime;

use crate::JobError;

/// What a fit means for a process that needs an up-to-date schema: its version, or an error that says what to do.
///
/// # Errors
/// The schema is behind (a retry helps, once `migrate` has run), ahead (configuration), or changed (data).
pub fn judge(fit: Fit) -> Result<i64, JobError> {
    match fit {
        Fit::UpToDate { version } => Ok(version),
        Fit::Behind { pending } => Err(JobError::retry(format_args!(
            "the schema is {pending} migration(s) behind this version; run migrate, this run is tried again later"
        ))),
        Fit::Ahead { version } => Err(JobError::config(format_args!(
            "the schema is ahead of this version (it has migration {version}); deploy the newer version"
        ))),
        Fit::Changed { version } => Err(JobError::data(format_args!(
            "migration {version} differs from the one that was applied; compare the two, and never change an applied \
             migration"
        ))),
    }
}

/// Checks the schema; returns its version and the database's clock.
pub(crate) async fn check(db: &Database) -> Result<(i64, OffsetDateTime), JobError> {
    let (versions, now) = db
        .transaction("read the schema's version", async |tx| {
            Ok::<_, sqlx::Error>((versions(tx).await?, store::ledger::now(tx).await?))
        })
        .await?;
    Ok((judge(Fit::of(&versions))?, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_that_does_not_fit_says_what_to_do() {
        let told = |fit| judge(fit).map_err(|error| (error.exit_code() as u8, error.to_string())).unwrap_err();
        assert!(matches!(told(Fit::Behind { pending: 2 }), (75, text) if text.contains("run migrate")));
        assert!(matches!(told(Fit::Ahead { version: 9 }), (78, text) if text.contains("deploy the newer version")));
        assert!(matches!(told(Fit::Changed { version: 9 }), (65, text) if text.contains("migration 9 differs")));
        assert_eq!(judge(Fit::UpToDate { version: 3 }), Ok(3));
    }
}
