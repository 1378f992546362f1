//! "Nothing changed", and "the same came of it".

use std::{collections::BTreeMap, fmt::Write};

use sha2::{Digest, Sha256};
use sqlx::AssertSqlSafe;

use super::{Community, sessions::ask};

/// What every run writes for itself, a dry one too.
const LEDGER: &str = "job_runs";
/// What every real run writes for itself.
const RUNNER: [&str; 5] = [LEDGER, "job_leases", "job_counters", "job_cursors", "_sqlx_migrations"];

/// What matters of all data: a digest for each table, and each Redis key. Two of them compare, and show where they
/// differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Number of rows and a digest of them, by table.
    pub tables: BTreeMap<String, String>,
    /// A digest of the value, or nothing, by key.
    pub redis: BTreeMap<String, String>,
}

impl Community {
    /// Of what a run leaves whenever it ran: all tables but the runner's own, without time stamps, and the names of the
    /// session keys.
    pub async fn fingerprint(&self) -> Fingerprint {
        let keys = self.redis_keys("sess:*").await;
        Fingerprint {
            tables: self.tables(&RUNNER, false).await,
            redis: keys.into_iter().map(|key| (key, String::new())).collect(),
        }
    }

    /// Of everything, to show that nothing at all was written: all tables but the ledger, time stamps included, and
    /// every Redis key with its value.
    pub async fn exact_fingerprint(&self) -> Fingerprint {
        let mut redis = self.redis.clone();
        let mut values = BTreeMap::new();
        for key in self.redis_keys("*").await {
            let dump: Vec<u8> = ask(&mut redis, redis::cmd("DUMP").arg(&key)).await;
            values.insert(key, hex::encode(Sha256::digest(&dump)));
        }
        Fingerprint { tables: self.tables(&[LEDGER], true).await, redis: values }
    }

    async fn tables(&self, without: &[&str], with_times: bool) -> BTreeMap<String, String> {
        let columns: Vec<(String, String)> = sqlx::query_as(
            "-- harness::community::tables
            SELECT c.table_name::text, string_agg(format('%I', c.column_name), ', ' ORDER BY c.ordinal_position)
            FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
            WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' AND c.table_name <> ALL ($1)
                AND ($2 OR c.data_type NOT LIKE 'timestamp%')
            GROUP BY 1",
        )
        .bind(without)
        .bind(with_times)
        .fetch_all(&self.pool)
        .await
        .expect("PostgreSQL answers");
        // One statement, so that all tables are seen at one moment.
        let mut sql = String::from("-- harness::community::tables\n");
        for (place, (table, columns)) in columns.iter().enumerate() {
            let union = if place > 0 { "\nUNION ALL " } else { "" };
            write!(
                sql,
                "{union}SELECT '{table}', count(*) || ' rows ' || COALESCE(md5(string_agg(r, chr(10) ORDER BY r)), '') \
                 FROM (SELECT ROW ({columns})::text AS r FROM \"{table}\") AS rows"
            )
            .expect("text can be written to");
        }
        let digests: Vec<(String, String)> =
            sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&self.pool).await.expect("PostgreSQL answers");
        digests.into_iter().collect()
    }
}
