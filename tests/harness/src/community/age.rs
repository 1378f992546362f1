//! Letting time pass by back-dating what is stored, and changing accounts as their staff would.

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{Community, sessions::ask};

impl Community {
    /// Everything stored is older by so many minutes, as if they had passed: every time stamp of every table, the
    /// approvals of sessions, and the marks. Only expiry in Redis (TTL and `expires_at`) stays, and the epoch, which
    /// means "never".
    pub async fn age(&self, minutes: i64) {
        let columns: Vec<(String, String)> = sqlx::query_as(
            "-- harness::community::age
            SELECT format('%I', table_name),
                string_agg(format('%1$I = CASE WHEN %1$I > ''epoch'' THEN %1$I - $1 * interval ''1 minute'' ELSE %1$I END',
                    column_name), ', ')
            FROM information_schema.columns
            WHERE table_schema = 'public' AND data_type = 'timestamp with time zone' AND is_generated = 'NEVER'
                AND table_name <> '_sqlx_migrations'
            GROUP BY 1",
        )
        .fetch_all(&self.pool)
        .await
        .expect("PostgreSQL answers");
        let mut tx = self.pool.begin().await.expect("PostgreSQL answers");
        for (table, changes) in columns {
            let sql = format!("-- harness::community::age\nUPDATE {table} SET {changes}");
            let update = sqlx::query(AssertSqlSafe(sql)).bind(minutes).execute(&mut *tx).await;
            update.unwrap_or_else(|error| panic!("{table}: {error}"));
        }
        tx.commit().await.expect("PostgreSQL answers");
        self.age_redis(minutes * 60_000).await;
    }

    async fn age_redis(&self, by_ms: i64) {
        let mut redis = self.redis.clone();
        for key in self.redis_keys("sess:{*}:*").await {
            let fields: Vec<String> = if key.ends_with(":denied") {
                ask(&mut redis, redis::cmd("HKEYS").arg(&key)).await
            } else if key.rsplit(':').next().is_some_and(|name| name.len() == 64) {
                ["approved_at", "created_at", "last_seen_at"].map(str::to_owned).to_vec()
            } else {
                continue;
            };
            for field in fields {
                let _: i64 = ask(&mut redis, redis::cmd("HINCRBY").arg(&key).arg(field).arg(-by_ms)).await;
            }
        }
    }

    /// Every character is due again: what was verified or attempted was so two hours earlier.
    pub async fn make_due(&self) {
        self.execute(
            "-- harness::community::make_due
            UPDATE eve_characters SET last_verified_at = last_verified_at - interval '2 hours',
                last_attempted_at = last_attempted_at - interval '2 hours'",
        )
        .await;
    }

    /// Staff blocks an account.
    pub async fn block(&self, account: Uuid) {
        self.change_account(
            "-- harness::community::block\nUPDATE accounts SET is_blocked = true WHERE id = $1",
            account,
        )
        .await;
    }

    /// An account is deleted: its row stays, marked.
    pub async fn delete(&self, account: Uuid) {
        self.change_account(
            "-- harness::community::delete\nUPDATE accounts SET deleted_at = now() WHERE id = $1",
            account,
        )
        .await;
    }

    /// Statistics as autovacuum would gather them.
    pub(super) async fn analyze(&self) {
        self.execute("-- harness::community::analyze\nANALYZE").await;
    }

    async fn change_account(&self, sql: &'static str, account: Uuid) {
        let changed = sqlx::query(sql).bind(account).execute(&self.pool).await.expect("PostgreSQL answers");
        assert_eq!(changed.rows_affected(), 1, "there is no account {account}");
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.pool).await.expect("PostgreSQL answers");
    }
}
