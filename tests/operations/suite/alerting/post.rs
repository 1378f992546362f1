//! An outbox and its drain, which pushes to the shared stack.

use harness::{Answer, Binary, Finished, TestDb, WebhookReceiver};
use redis::AsyncCommands;
use sqlx::AssertSqlSafe;
use suites::outcome;

use super::Stack;

/// The job whose runs are told of here.
pub(crate) const DRAIN: &str = "outbox-drain";
/// The stream, by its default name.
const STREAM: &str = "rollcall:events";
/// Of the webhook; 24 bytes.
const KEY: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";

/// A database with an outbox, and the namespace of its drain.
pub(crate) struct Post<'a> {
    pub(crate) stack: &'a Stack,
    pub(crate) db: &'a TestDb,
    pub(crate) namespace: &'a str,
}

impl Post<'_> {
    /// The drain as the CronJob of this namespace starts it.
    pub(crate) fn drain(&self) -> Binary {
        Binary::new(DRAIN)
            .env("DATABASE_URL", self.db.url())
            .env("REDIS_URL", self.db.redis_url())
            .env("PUSHGATEWAY_URL", self.stack.pushgateway.url())
            .env("POD_NAMESPACE", self.namespace)
            .env("LOG_FORMAT", "json")
    }

    /// The same with a webhook for its sink, which gives this answer to all.
    pub(crate) fn by_webhook(&self, webhook: &WebhookReceiver, status: u16) -> Binary {
        webhook.answer(Answer::status(status));
        self.drain()
            .env("OUTBOX_SINK", "webhook")
            .env("WEBHOOK_URL", webhook.url())
            .env("WEBHOOK_SECRET", KEY)
            .env("WEBHOOK_ALLOW_PRIVATE", "true")
    }

    /// Events of so many minutes ago, each of another account, called by this name and a number.
    pub(crate) async fn enqueue(&self, name: &str, count: u32, minutes_ago: u32) {
        let sql = format!(
            "-- alerting::enqueue
            INSERT INTO outbox_events (event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type,
                payload, occurred_at)
            SELECT gen_random_uuid(), 'account', a, hashtext('account:' || a), gen_random_uuid(), 'TESTED', '{{}}',
                now() - make_interval(mins => {minutes_ago})
            FROM (SELECT '{name}' || n AS a FROM generate_series(1, {count}) AS n) AS accounts"
        );
        sqlx::query(AssertSqlSafe(sql)).execute(self.db.pool()).await.expect("the rows fit");
    }

    /// A run that ends so, and that Prometheus knows of.
    pub(crate) async fn run(&self, binary: &Binary, code: i32, name: &str) -> Finished {
        let finished = binary.run().await.expect_code(code);
        assert_eq!(outcome(&finished)["outcome"], name, "{finished}");
        let labels = [("job", DRAIN), ("namespace", self.namespace)];
        let pushed = self.stack.pushgateway.value("push_time_seconds", &labels).expect("something was pushed");
        let read = format!("push_time_seconds{{job=\"{DRAIN}\",namespace=\"{}\"}} >= {pushed}", self.namespace);
        self.stack.holds(&read, "the last push is read").await;
        finished
    }

    /// Redis forgets the stream and all that goes with it.
    pub(crate) async fn lose_the_stream(&self) {
        let mut redis = self.db.redis();
        let mut keys: Vec<String> = redis.keys(format!("{{{STREAM}}}:*")).await.expect("Redis answers");
        keys.push(STREAM.to_owned());
        let gone: usize = redis.del(keys).await.expect("Redis answers");
        assert!(gone > 1, "there was a stream");
    }
}
