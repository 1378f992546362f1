//! J11: nothing secret in anything a run writes, however much it is asked to log.

use harness::{ENCRYPTION_KEY, Finished, STRANGERS, newcomer, session_key};
use suites::{Stage, with_sso};

use crate::support::{execute, people};

struct Case {
    stage: Stage,
    database: String,
    redis: String,
    gateway: String,
    secrets: Vec<String>,
}

async fn case() -> Case {
    let stage = Stage::with_pushgateway().await;
    let mut secrets: Vec<String> =
        ["pg-s3cret", "redis-s3cret", "push-s3cret", "sim-secret", ENCRYPTION_KEY, "ops@example.org"]
            .map(str::to_owned)
            .to_vec();
    for name in ["stays", "leaves", "revoked"] {
        let refresh =
            stage.sim.world(|world| world.issue_refresh_token(0)).replace("sim-refresh-0", &format!("s3cret-{name}"));
        let corporation = if name == "leaves" { STRANGERS } else { harness::CORPORATION };
        let member = stage.add_in(corporation, newcomer(name).verified_minutes_ago(90).token(&refresh).session()).await;
        if name != "revoked" {
            stage.sim.world(|world| {
                world.apply(esi_simulator::WorldUpdate {
                    refresh_tokens: vec![esi_simulator::RefreshToken {
                        token: refresh.clone(),
                        character_id: member.eve_id,
                    }],
                    ..Default::default()
                });
            });
        }
        secrets.push(refresh);
        let sealed = stage.community.token(member.eve_id).await.unwrap().refresh_token;
        secrets.push(sealed);
        for token in &member.session_tokens {
            secrets.push(token.split_once('.').unwrap().1.to_owned());
            secrets.push(session_key(token).rsplit_once(':').unwrap().1.to_owned());
        }
    }
    // Everybody may come in here, with or without a password; Redis has a user of the test's own.
    let mut redis = stage.db.redis();
    let user = format!("u{}", uuid::Uuid::from_u128(7 + u128::from(std::process::id())).simple());
    let mut command = redis::cmd("ACL");
    command.arg("SETUSER").arg(&user).arg("on").arg(">redis-s3cret").arg("~*").arg("&*").arg("+@all");
    let () = command.query_async(&mut redis).await.unwrap();
    Case {
        database: stage.db.url().replace("postgres@", "postgres:pg-s3cret@"),
        redis: stage.db.redis_url().replace("redis://", &format!("redis://{user}:redis-s3cret@")),
        gateway: stage.pushgateway.as_ref().unwrap().url().replace("http://", "http://user:push-s3cret@"),
        secrets,
        stage,
    }
}

impl Case {
    fn verifier(&self) -> harness::Binary {
        with_sso(self.stage.verifier())
            .env("DATABASE_URL", &self.database)
            .env("REDIS_URL", &self.redis)
            .env("PUSHGATEWAY_URL", &self.gateway)
            .env("RUST_LOG", "trace")
            .env("OUTPUT", "json")
    }

    fn holds(&self, what: &str, finished: &Finished) {
        for text in [&finished.stdout, &finished.stderr] {
            for secret in &self.secrets {
                let line = text.lines().find(|line| line.contains(secret.as_str()));
                assert!(line.is_none(), "{what}: {secret} in {line:?}");
            }
        }
    }
}

#[tokio::test]
async fn no_run_writes_a_token_key_password_or_contact() {
    let case = case().await;
    case.stage.sim.settings(|settings| settings.rotate_refresh_tokens = true);
    let run = case.verifier().run().await.expect_code(0);
    let details = &suites::outcome(&run)["details"];
    assert!(details.to_string().contains("sessions_invalidated"), "it did take a session: {run}");
    case.holds("run", &run);
    for argument in ["check", "status"] {
        case.holds(argument, &case.verifier().arg(argument).run().await.expect_code(0));
    }
    let explained = case.verifier().arg("explain").arg("--character=2100000001").run().await.expect_code(0);
    case.holds("explain", &explained);
    case.stage.later(120).await;
    case.holds("dry run", &case.verifier().env("DRY_RUN", "true").run().await.expect_code(0));
}

#[tokio::test]
async fn no_failing_run_writes_them_either() {
    let case = case().await;
    people(&case.stage, 1).await;
    let sso = case.verifier().env("EVE_CLIENT_SECRET", "sim-secret-wrong").run().await.expect_code(78);
    case.holds("a client that SSO refuses", &sso);
    let key = "ab".repeat(32);
    let wrong_key = case.verifier().env("ENCRYPTION_KEY", &key).run().await.expect_code(78);
    case.holds("a key that opens nothing", &wrong_key);
    assert!(!wrong_key.stderr.contains(&key));
    let away = case.verifier().env("DATABASE_URL", "postgres://a:pg-s3cret@127.0.0.1:1/b").run().await.expect_code(75);
    case.holds("no database", &away);
    let away = case.verifier().env("REDIS_URL", "redis://a:redis-s3cret@127.0.0.1:1").run().await.expect_code(75);
    case.holds("no Redis", &away);
    let away = case.verifier().env("PUSHGATEWAY_URL", "http://a:push-s3cret@127.0.0.1:1").run().await.expect_code(0);
    case.holds("no Pushgateway", &away);
    execute(
        &case.stage,
        "UPDATE eve_tokens SET refresh_token = 'aesgcm:v1:AAAA' WHERE eve_id = (SELECT min(eve_id) FROM eve_tokens)",
    )
    .await;
    case.stage.later(120).await;
    case.holds("a broken token", &case.verifier().run().await.expect_code(0));
    case.stage.forgive();
}
