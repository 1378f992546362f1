//! PostgreSQL, directly or through a transaction-mode pooler.
//!
//! Everything happens in short explicit transactions with time-outs on both sides: the server's for statements and
//! locks, ours for the whole, since a server that hangs keeps no promise.

use std::{fmt, str::FromStr, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};

use crate::Secret;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest look for the reason why there is none.
const EXPLAIN: Duration = Duration::from_secs(1);

/// What can go wrong with the database, by what it means.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Not reachable, overloaded, restarting, locked: later it may work.
    #[error("PostgreSQL is not available ({what}): {source}")]
    Unavailable {
        /// What was being done.
        what: &'static str,
        /// What PostgreSQL or the connection said.
        source: sqlx::Error,
    },
    /// No answer within the transaction's time.
    #[error("PostgreSQL did not answer within {} s ({what})", .after.as_secs())]
    Hung {
        /// What was being done.
        what: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// User, password, database name or TLS setting is wrong.
    #[error("PostgreSQL refuses DATABASE_URL ({what}): {source}")]
    Refused {
        /// What was being done.
        what: &'static str,
        /// What PostgreSQL said.
        source: sqlx::Error,
    },
    /// A statement that cannot work: a bug, or a schema that is not ours.
    #[error("statement failed ({what}): {source}")]
    Broken {
        /// What was being done.
        what: &'static str,
        /// What PostgreSQL said.
        source: sqlx::Error,
    },
}

impl DbError {
    fn new(what: &'static str, source: sqlx::Error) -> Self {
        let code =
            source.as_database_error().and_then(sqlx::error::DatabaseError::code).map(std::borrow::Cow::into_owned);
        match (&source, code.as_deref()) {
            // invalid authorization, unknown database, invalid startup parameter
            (_, Some(code)) if code.starts_with("28") || code == "3D000" => Self::Refused { what, source },
            // connection, resources, operator intervention (also statement time-out), rollback, lock not available,
            // read-only (a failover), idle for too long in a transaction (we were frozen), PgBouncer's own refusals
            (_, Some(code))
                if ["08", "53", "57", "40", "58"].iter().any(|class| code.starts_with(class))
                    || code == "55P03"
                    || matches!(code, "25006" | "25P03") =>
            {
                Self::Unavailable { what, source }
            }
            (
                sqlx::Error::Io(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
                | sqlx::Error::Protocol(_)
                | sqlx::Error::BeginFailed,
                None,
            ) => Self::Unavailable { what, source },
            (sqlx::Error::Tls(_) | sqlx::Error::Configuration(_), None) => Self::Refused { what, source },
            _ => Self::Broken { what, source },
        }
    }
}

/// Lets `?` carry a statement's error out of a transaction; the transaction adds what was being done.
#[derive(Debug)]
pub struct StatementError(sqlx::Error);

impl From<sqlx::Error> for StatementError {
    fn from(error: sqlx::Error) -> Self {
        Self(error)
    }
}

/// Time-outs of a transaction.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `statement_timeout`.
    pub statement: Duration,
    /// `lock_timeout`.
    pub lock: Duration,
    /// Ours, for the whole transaction.
    pub transaction: Duration,
}

impl Limits {
    /// For batches: 10 s a statement, 5 s a lock, 15 s in all.
    pub const BATCH: Self =
        Self { statement: Duration::from_secs(10), lock: Duration::from_secs(5), transaction: Duration::from_secs(15) };
}

/// A small pool of connections.
#[derive(Clone)]
pub struct Database {
    pool: PgPool,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}

/// Reads an address without connecting.
///
/// # Errors
/// What is wrong with it, without the address, which may hold a password.
pub fn options(url: &Secret, application: &str) -> Result<PgConnectOptions, String> {
    let url = url.expose();
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err("not a postgres:// address".to_owned());
    }
    Ok(PgConnectOptions::from_str(url)
        .map_err(|_| "not a valid postgres:// address".to_owned())?
        .application_name(application)
        // PgBouncer refuses this start-up parameter unless told to ignore it.
        .extra_float_digits(None)
        // A cached statement belongs to one server connection; behind a pooler the next transaction has another.
        .statement_cache_capacity(0))
}

impl Database {
    /// A pool of at most `connections`; nothing is connected yet.
    pub fn new(options: PgConnectOptions, connections: u32) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(CONNECT)
            // The first statement of a transaction notices a dead connection as well as a ping would.
            .test_before_acquire(false)
            .connect_lazy_with(options);
        Self { pool }
    }

    /// Runs `work` in one transaction with [`Limits::BATCH`]; `what` names it in errors. An error rolls back.
    ///
    /// # Errors
    /// By what it means for the caller; errors of `work` itself pass through.
    pub async fn transaction<T, E>(
        &self,
        what: &'static str,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, DbError>
    where
        E: Into<StatementError>,
    {
        self.transaction_within(what, Limits::BATCH, work).await
    }

    /// As [`Database::transaction`], with other limits.
    ///
    /// # Errors
    /// As there.
    pub async fn transaction_within<T, E>(
        &self,
        what: &'static str,
        limits: Limits,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, DbError>
    where
        E: Into<StatementError>,
    {
        let whole = async {
            let mut transaction = self.begin("", "", limits).await.map_err(|error| DbError::new(what, error))?;
            let result = work(&mut transaction).await.map_err(|error| DbError::new(what, error.into().0))?;
            transaction.commit().await.map_err(|error| DbError::new(what, error))?;
            Ok(result)
        };
        match tokio::time::timeout(limits.transaction, whole).await {
            Ok(result) => result,
            Err(_) => Err(DbError::Hung { what, after: limits.transaction }),
        }
    }

    /// Begins to read in one snapshot: what is committed after this is not seen by any read. `hold` is a `LOCK TABLE` that comes
    /// before the snapshot, which would find a table empty that is rewritten in between.
    ///
    /// # Errors
    /// As for a transaction.
    pub async fn snapshot(&self, what: &'static str, hold: &'static str) -> Result<Snapshot, DbError> {
        let limits = Limits { transaction: Snapshot::IDLE, ..Limits::BATCH };
        let begin = self.begin(" ISOLATION LEVEL REPEATABLE READ READ ONLY", hold, limits);
        match tokio::time::timeout(Limits::BATCH.transaction, begin).await {
            Ok(Ok(transaction)) => Ok(Snapshot { transaction }),
            Ok(Err(error)) => Err(DbError::new(what, error)),
            Err(_) => Err(DbError::Hung { what, after: Limits::BATCH.transaction }),
        }
    }

    async fn begin(
        &self,
        mode: &str,
        first: &str,
        limits: Limits,
    ) -> Result<sqlx::Transaction<'static, sqlx::Postgres>, sqlx::Error> {
        // Statements are prepared under names that are unique on our side only; a pooler may hand us a server
        // connection on which another client left the same names. The server must not wait for us either: a machine
        // that is gone says no farewell, and its locks would keep every later run out. No parallel plans: a batch that
        // reads some thousand rows in order is slower by the start of the workers, and they are other people's cores. The
        // last of these takes the snapshot, where it is to hold for all reads.
        let begin = format!(
            "BEGIN{mode}; SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}; \
             SET LOCAL idle_in_transaction_session_timeout = {}; SET LOCAL max_parallel_workers_per_gather = 0; \
             SET LOCAL jit = off; {first}; DEALLOCATE ALL",
            limits.statement.as_millis(),
            limits.lock.as_millis(),
            limits.transaction.as_millis()
        );
        // A pooled connection that died while idle shows it here; nothing was done yet, so another try is safe. They
        // often die together.
        let mut may_wait_again = true;
        for _ in 0..self.pool.options().get_max_connections() {
            match self.pool.begin_with(AssertSqlSafe(begin.clone())).await {
                Err(sqlx::Error::Io(_)) => {}
                // What a restarted server left in the connection as its last words.
                Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code.starts_with("57P")) => {}
                // The server answers others: our packets went astray, as they do where a Service is so new that the
                // node does not know it. The same connection would never come about; another one does.
                Err(sqlx::Error::PoolTimedOut) => match self.why_not().await {
                    None if may_wait_again => may_wait_again = false,
                    None => return Err(sqlx::Error::PoolTimedOut),
                    Some(error) => return Err(error),
                },
                other => return other,
            }
        }
        self.pool.begin_with(AssertSqlSafe(begin)).await
    }

    /// Why there is no connection: the pool itself goes on trying when it is refused, and then only says that it did.
    /// None if the server lets us in.
    async fn why_not(&self) -> Option<sqlx::Error> {
        let options = self.pool.connect_options();
        match tokio::time::timeout(EXPLAIN, PgConnection::connect_with(&options)).await {
            Ok(Ok(connection)) => {
                let _ = tokio::time::timeout(EXPLAIN, connection.close()).await;
                None
            }
            Ok(Err(error)) => Some(error),
            Err(_) => Some(sqlx::Error::PoolTimedOut),
        }
    }

    /// Listens for notifications on a connection of its own, which comes back by itself. Behind a transaction-mode pooler
    /// nothing is ever heard.
    ///
    /// # Errors
    /// By what it means for the caller.
    pub async fn listen(&self, channel: &str) -> Result<PgListener, DbError> {
        let what = "listen for notifications";
        let options = (*self.pool.connect_options()).clone();
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT).connect_lazy_with(options);
        let mut listener = PgListener::connect_with(&pool).await.map_err(|error| DbError::new(what, error))?;
        listener.listen(channel).await.map_err(|error| DbError::new(what, error))?;
        Ok(listener)
    }

    /// Ends all connections, without waiting for a server that does not answer.
    pub async fn close(&self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.pool.close()).await;
    }

    /// One connection outside the pool, for work that must not share it (migrations).
    ///
    /// # Errors
    /// By what it means for the caller.
    pub async fn connect_alone(options: &PgConnectOptions, what: &'static str) -> Result<PgConnection, DbError> {
        match tokio::time::timeout(CONNECT, PgConnection::connect_with(options)).await {
            Ok(connection) => connection.map_err(|error| DbError::new(what, error)),
            Err(_) => Err(DbError::Hung { what, after: CONNECT }),
        }
    }
}

/// Several reads that see one state of the database. While it lasts PostgreSQL cleans no row up that was deleted since.
#[derive(Debug)]
pub struct Snapshot {
    transaction: sqlx::Transaction<'static, sqlx::Postgres>,
}

impl Snapshot {
    /// The server ends one that is not used for so long: a machine that is gone says no farewell.
    pub const IDLE: Duration = Duration::from_mins(1);

    /// One read, within the time of [`Limits::BATCH`].
    ///
    /// # Errors
    /// As for a transaction. After one it is of no use any more.
    pub async fn read<T, E>(
        &mut self,
        what: &'static str,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, DbError>
    where
        E: Into<StatementError>,
    {
        match tokio::time::timeout(Limits::BATCH.transaction, work(&mut self.transaction)).await {
            Ok(result) => result.map_err(|error| DbError::new(what, error.into().0)),
            Err(_) => Err(DbError::Hung { what, after: Limits::BATCH.transaction }),
        }
    }

    /// Lets go of it at once. One that is dropped is let go of when its connection is used again.
    pub async fn end(self) {
        // Whatever comes of it: nothing was written.
        let _ = tokio::time::timeout(Limits::BATCH.lock, self.transaction.rollback()).await;
    }
}

impl From<DbError> for StatementError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Unavailable { source, .. } | DbError::Refused { source, .. } | DbError::Broken { source, .. } => {
                Self(source)
            }
            DbError::Hung { .. } => Self(sqlx::Error::PoolTimedOut),
        }
    }
}
