//! The schema's version: what this binary carries against what the database has.

use std::{borrow::Cow, collections::BTreeMap};

use sqlx::{
    PgConnection,
    migrate::{MigrateError, Migrator},
};
use time::OffsetDateTime;

/// The migrations that are built in.
static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// One version, built in or applied or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Number of the migration.
    pub version: i64,
    /// What it does.
    pub description: String,
    /// When it was applied; none while it is pending.
    pub applied_at: Option<OffsetDateTime>,
    /// How it stands.
    pub state: State,
}

/// How a version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Applied as it is built in.
    Applied,
    /// Built in and not applied yet.
    Pending,
    /// Applied, and unknown to this binary: the database is of a newer version.
    Unknown,
    /// Applied with another content than the one built in.
    Changed,
}

impl State {
    /// For people and tools.
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Pending => "pending",
            Self::Unknown => "unknown",
            Self::Changed => "changed",
        }
    }
}

/// Whether this binary and the database belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// They do.
    UpToDate {
        /// Newest version.
        version: i64,
    },
    /// The database lacks versions.
    Behind {
        /// How many.
        pending: usize,
    },
    /// The database has versions that this binary does not know.
    Ahead {
        /// Newest of them.
        version: i64,
    },
    /// A version was changed after it was applied.
    Changed {
        /// The oldest of them.
        version: i64,
    },
}

impl Fit {
    /// Judges `versions`, ascending. A changed version outweighs an unknown one, and that a pending one.
    pub fn of(versions: &[Version]) -> Self {
        let find = |state| versions.iter().find(|version| version.state == state).map(|version| version.version);
        if let Some(version) = find(State::Changed) {
            return Self::Changed { version };
        }
        if find(State::Unknown).is_some() {
            return Self::Ahead { version: versions.last().map_or(0, |version| version.version) };
        }
        match versions.iter().filter(|version| version.state == State::Pending).count() {
            0 => Self::UpToDate { version: versions.last().map_or(0, |version| version.version) },
            pending => Self::Behind { pending },
        }
    }
}

struct Installed {
    description: String,
    checksum: Vec<u8>,
    at: OffsetDateTime,
}

/// All versions, built in or applied, ascending. A database without the table of versions has none applied.
///
/// # Errors
/// Those of the statements.
pub async fn versions(tx: &mut PgConnection) -> Result<Vec<Version>, sqlx::Error> {
    let mut applied = applied(tx).await?;
    let mut versions: BTreeMap<i64, Version> = BTreeMap::new();
    for migration in MIGRATIONS.iter() {
        let found = applied.remove(&migration.version);
        let state = match &found {
            None => State::Pending,
            Some(found) if *found.checksum == *migration.checksum => State::Applied,
            Some(_) => State::Changed,
        };
        let version = Version {
            version: migration.version,
            description: migration.description.to_string(),
            applied_at: found.map(|found| found.at),
            state,
        };
        versions.insert(version.version, version);
    }
    for (version, found) in applied {
        let applied_at = Some(found.at);
        versions
            .insert(version, Version { version, description: found.description, applied_at, state: State::Unknown });
    }
    Ok(versions.into_values().collect())
}

// Not checked at compile time: the table belongs to sqlx, which makes it with the first migration.
async fn applied(tx: &mut PgConnection) -> Result<BTreeMap<i64, Installed>, sqlx::Error> {
    let exists: bool = sqlx::query_scalar(
        "-- schema::applied: is there a table of versions
        SELECT to_regclass('_sqlx_migrations') IS NOT NULL",
    )
    .fetch_one(&mut *tx)
    .await?;
    if !exists {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<(i64, String, Vec<u8>, OffsetDateTime)> = sqlx::query_as(
        "-- schema::applied
        SELECT version, description, checksum, installed_on FROM _sqlx_migrations WHERE success",
    )
    .fetch_all(tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(version, description, checksum, at)| (version, Installed { description, checksum, at }))
        .collect())
}

/// What [`apply`] found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// How binary and database fitted when the lock was ours.
    pub found: Fit,
    /// What was applied, ascending; something only if the database was behind.
    pub versions: Vec<Version>,
}

/// Applies what is pending, in the transaction that `tx` is in: all of it or nothing. Another process that is at it is
/// waited for as long as the transaction's lock time-out allows; the migrations themselves wait at most 10 s for a lock,
/// since everybody else queues up behind them.
///
/// # Errors
/// Those of the statements.
pub async fn apply(tx: &mut PgConnection) -> Result<Applied, sqlx::Error> {
    sqlx::query("-- schema::apply: one at a time\nSELECT pg_advisory_xact_lock(hashtext('_sqlx_migrations'))")
        .execute(&mut *tx)
        .await?;
    let versions = versions(tx).await?;
    let found = Fit::of(&versions);
    let Fit::Behind { .. } = found else { return Ok(Applied { found, versions: Vec::new() }) };
    // A server that does not look would work on for a client that was stopped, and hold its locks.
    for setting in ["SET LOCAL lock_timeout = '10s'", "SET LOCAL client_connection_check_interval = '2s'"] {
        sqlx::query(setting).execute(&mut *tx).await?;
    }
    // sqlx's own lock belongs to a session, which a transaction-mode pooler does not keep.
    let migrator = Migrator { migrations: Cow::Borrowed(&MIGRATIONS.migrations), locking: false, ..Migrator::DEFAULT };
    migrator.run_direct(None, tx, false).await.map_err(statement)?;
    Ok(Applied { found, versions: versions.into_iter().filter(|version| version.state == State::Pending).collect() })
}

/// The statement's own error, so that its meaning (a lock that was not had, a server that went away) is not lost.
fn statement(error: MigrateError) -> sqlx::Error {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error,
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(states: &[State]) -> Vec<Version> {
        (1..)
            .zip(states)
            .map(|(version, &state)| Version { version, description: String::new(), applied_at: None, state })
            .collect()
    }

    #[test]
    fn the_weightiest_state_decides() {
        use State::{Applied, Changed, Pending, Unknown};
        assert_eq!(Fit::of(&versions(&[Applied, Applied])), Fit::UpToDate { version: 2 });
        assert_eq!(Fit::of(&versions(&[Applied, Pending, Pending])), Fit::Behind { pending: 2 });
        assert_eq!(Fit::of(&versions(&[Applied, Pending, Unknown])), Fit::Ahead { version: 3 });
        assert_eq!(Fit::of(&versions(&[Applied, Changed, Unknown])), Fit::Changed { version: 2 });
    }

    #[test]
    fn migrations_are_built_in() {
        assert!(MIGRATIONS.iter().count() > 0);
    }
}
