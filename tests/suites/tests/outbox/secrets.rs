//! J11: no payload and nothing secret in anything a drain logs, however much it is asked to log.

use std::collections::BTreeMap;

use harness::{Answer, Binary, Finished, Nats, NatsLimits, Pushgateway, WebhookReceiver};
use serde_json::json;

use crate::support::Ground;

const KEY: &str = "whsec_czNjcmV0LXdlYmhvb2sta2V5LXMzY3JldA==";
const SECRETS: [&str; 8] = [
    "payl0ad-s3cret",
    "pg-s3cret",
    "redis-s3cret",
    "push-s3cret",
    "nats-s3cret",
    "hook-s3cret",
    "czNjcmV0LXdlYmhvb2sta2V5LXMzY3JldA",
    "s3cret-webhook-key-s3cret",
];

struct Case {
    ground: Ground,
    gateway: Pushgateway,
    receiver: WebhookReceiver,
    nats: Nats,
}

impl Case {
    async fn new() -> Self {
        let user = Some(("drain".to_owned(), "nats-s3cret".to_owned()));
        let nats = Nats::start_with(NatsLimits { user, ..NatsLimits::default() });
        let options = async_nats::ConnectOptions::with_user_and_password("drain".to_owned(), "nats-s3cret".to_owned());
        let jetstream = async_nats::jetstream::new(options.connect(nats.address()).await.unwrap());
        let config = async_nats::jetstream::stream::Config {
            name: "EVENTS".to_owned(),
            subjects: vec!["rollcall.events".to_owned()],
            ..Default::default()
        };
        jetstream.create_stream(config).await.unwrap();
        Self { ground: Ground::new().await, gateway: Pushgateway::start(), receiver: WebhookReceiver::start(), nats }
    }

    /// Everybody may come in here, with or without a password; Redis has a user of the test's own.
    async fn environment(&self) -> BTreeMap<&'static str, String> {
        let mut redis = self.ground.db.redis();
        let user = format!("u{}", uuid::Uuid::now_v7().simple());
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(&user).arg("on").arg(">redis-s3cret").arg("~*").arg("&*").arg("+@all");
        let () = command.query_async(&mut redis).await.unwrap();
        let hook = self.receiver.url().replace("http://", "http://hook:hook-s3cret@");
        [
            ("DATABASE_URL", self.ground.db.url().replace("postgres@", "postgres:pg-s3cret@")),
            ("REDIS_URL", self.ground.db.redis_url().replace("redis://", &format!("redis://{user}:redis-s3cret@"))),
            ("PUSHGATEWAY_URL", self.gateway.url().replace("http://", "http://user:push-s3cret@")),
            ("NATS_URL", self.nats.url()),
            ("WEBHOOK_URL", format!("{hook}?token=hook-s3cret")),
            ("WEBHOOK_SECRET", KEY.to_owned()),
            ("WEBHOOK_ALLOW_PRIVATE", "true".to_owned()),
            ("LOG_FORMAT", "json".to_owned()),
            ("RUST_LOG", "trace".to_owned()),
        ]
        .into()
    }

    async fn enqueue(&self) {
        let events: Vec<_> = ["rich", "poor", "rich", "poor"]
            .map(|account| self.ground.event(account, &json!({"mail": "payl0ad-s3cret"})))
            .into();
        let mut tx = self.ground.db.pool().begin().await.unwrap();
        store::outbox::enqueue(&mut tx, &events).await.unwrap();
        tx.commit().await.unwrap();
    }
}

fn binary(environment: &BTreeMap<&'static str, String>, sink: &str, words: &[&str]) -> Binary {
    let binary = words.iter().fold(Binary::new("outbox-drain"), |binary, word| binary.arg(*word));
    environment.iter().fold(binary, |binary, (name, value)| binary.env(*name, value)).env("OUTBOX_SINK", sink)
}

fn assert_silent(what: &str, finished: &Finished) {
    assert!(finished.stderr.lines().count() > 1, "{what}: it did log");
    for secret in SECRETS {
        let line = finished.stderr.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{what}: {secret} in {line:?}");
    }
}

#[tokio::test]
async fn no_sink_logs_a_payload_or_a_secret() {
    let case = Case::new().await;
    let environment = case.environment().await;
    case.receiver.answer_about("poor", [Answer::status(422).body("payl0ad-s3cret")]);
    for sink in ["redis", "nats", "stdout", "webhook"] {
        case.enqueue().await;
        let finished = binary(&environment, sink, &[]).run().await.expect_code(0);
        assert!(finished.last()["changed"].as_u64().unwrap() >= 2, "{sink}: {finished}");
        assert_silent(sink, &finished);
    }
    // One aggregate is held back by now: of its event too only the reason may be told.
    for words in [&["check"][..], &["status"], &["reconcile"], &["dead-letters", "list"], &["partitions", "list"]] {
        let finished = binary(&environment, "redis", words).run().await.expect_code(0);
        for text in [&finished.stdout, &finished.stderr] {
            assert!(SECRETS.iter().all(|secret| !text.contains(secret)), "{words:?}: {finished}");
        }
    }
    let dry = binary(&environment, "redis", &["--dry-run"]).run().await.expect_code(0);
    assert_silent("dry run", &dry);
}

#[tokio::test]
async fn no_failing_sink_does_either() {
    let case = Case::new().await;
    let environment = case.environment().await;
    case.enqueue().await;
    let wrong = |name: &'static str, value: &str| {
        let mut environment = environment.clone();
        environment.insert(name, value.to_owned());
        environment
    };
    let away =
        [("REDIS_URL", "redis://a:redis-s3cret@127.0.0.1:1"), ("DATABASE_URL", "postgres://a:pg-s3cret@127.0.0.1:1/b")];
    for (name, url) in away {
        assert_silent(name, &binary(&wrong(name, url), "redis", &[]).run().await.expect_code(75));
    }
    let refused = wrong("NATS_URL", &case.nats.url().replace("nats-s3cret", "other-nats-s3cret"));
    assert_silent("a login that NATS refuses", &binary(&refused, "nats", &[]).run().await.expect_code(78));
    let mut gone = wrong("NATS_URL", "nats://drain:nats-s3cret@127.0.0.1:1");
    gone.insert("MAX_RUNTIME", "7s".to_owned());
    assert_silent("no NATS", &binary(&gone, "nats", &[]).run().await.expect_code(75));
    gone.insert("WEBHOOK_URL", "http://hook:hook-s3cret@127.0.0.1:1/?token=hook-s3cret".to_owned());
    assert_silent("no receiver", &binary(&gone, "webhook", &[]).run().await.expect_code(75));
    case.receiver
        .answer(Answer::status(302).header("location", "http://127.0.0.1:1/hook-s3cret").body("payl0ad-s3cret"));
    let redirected = binary(&environment, "webhook", &[]).run().await.expect_code(78);
    assert_silent("a redirect", &redirected);
    let misread = wrong("WEBHOOK_SECRET", "hook-s3cret");
    assert_silent("a key that is none", &binary(&misread, "webhook", &[]).run().await.expect_code(78));
    case.receiver.answer_about("poor", [Answer::status(413).body("payl0ad-s3cret")]);
    case.receiver.answer(Answer::status(204));
    let buried = binary(&environment, "webhook", &[]).run().await.expect_code(0);
    assert_eq!(buried.last()["failed"], 1, "{buried}");
    assert_silent("a dead letter", &buried);
}
