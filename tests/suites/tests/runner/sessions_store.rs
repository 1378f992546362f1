//! J9: Redis away, hung, lost in the middle, or refusing.

use std::time::Duration;

use harness::{Fault, FaultProxy, STRANGERS, newcomer};
use suites::{Stage, outcome};

use crate::support::{before_esi, due, end, ended, held, last_run, leases, one_by_one, people};

#[tokio::test]
async fn redis_away_or_hung_at_the_start_is_75_in_bounded_time_and_takes_no_lease() {
    let stage = Stage::new().await;
    people(&stage, 1).await;
    let hung = FaultProxy::start(stage.db.redis_url());
    hung.set(Fault::Hang);
    for url in ["redis://127.0.0.1:1/0".to_owned(), hung.url()] {
        let finished = stage.verifier().env("REDIS_URL", &url).run().await.expect_code(75);
        assert!(finished.duration < Duration::from_secs(25), "{finished}");
        assert!(outcome(&finished)["error"].as_str().unwrap().contains("Redis is not available"), "{finished}");
    }
    assert_eq!((leases(&stage).await, due(&stage).await), (0, 1));
}

#[tokio::test]
async fn redis_lost_or_hung_in_mid_run_is_75_and_closed_and_the_next_run_takes_the_session() {
    for fault in [Fault::Refuse, Fault::Hang] {
        let stage = Stage::new().await;
        let leaver = stage.add_in(STRANGERS, newcomer("leaver").verified_minutes_ago(90).session()).await;
        let esi = before_esi(&stage);
        esi.set(Fault::Hang);
        let redis = FaultProxy::start(stage.db.redis_url());
        let running = one_by_one(&stage, &esi).env("REDIS_URL", redis.url()).start();
        held(&stage, &esi, 1).await;
        redis.set(fault);
        if fault == Fault::Refuse {
            redis.cut();
        }
        esi.set(Fault::Pass);
        let finished = end(running).await.expect_code(75);
        assert!(outcome(&finished)["error"].as_str().unwrap().contains("Redis"), "{fault:?}\n{finished}");
        let row = last_run(&stage).await.unwrap();
        assert_eq!((row.outcome.as_deref(), leases(&stage).await), (Some("failed"), 0), "{fault:?}");
        assert!(stage.community.has_session(leaver.session_token()).await);
        stage.forgive();
        assert_eq!(ended(&stage.verify().await.expect_code(0)), "done", "{fault:?}");
        assert!(!stage.community.has_session(leaver.session_token()).await, "{fault:?}");
        stage.forgive();
    }
}

#[tokio::test]
async fn redis_that_refuses_user_or_password_is_78_without_the_password() {
    let stage = Stage::new().await;
    people(&stage, 1).await;
    for user in ["nobody:wrong-s3cret", ":wrong-s3cret"] {
        let url = stage.db.redis_url().replace("redis://", &format!("redis://{user}@"));
        let finished = stage.verifier().env("REDIS_URL", &url).env("RUST_LOG", "debug").run().await.expect_code(78);
        assert!(outcome(&finished)["error"].as_str().unwrap().contains("REDIS_URL"), "{finished}");
        assert!(!finished.stderr.contains("s3cret"), "{finished}");
    }
}
