//! Exit codes, as Kubernetes takes them.

use cluster::{Alerts, DRAIN, Ground, VERIFIER};
use harness::{CORPORATION, STRANGERS, wait_until};

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_missing_secret_fails_the_job_at_once_with_78_and_names_the_variables() {
    let ground = Ground::new("no-secret").await;
    ground.people(1, CORPORATION).await;
    ground.bash("kubectl -n rollcall delete secret character-verifier-secrets");
    ground.start("manual-1");
    ground.fails_at_once("manual-1", 78);
    let log = ground.log("manual-1");
    for name in ["DATABASE_URL", "REDIS_URL", "ENCRYPTION_KEY"] {
        assert!(log.contains(name), "{name} is named:\n{log}");
    }
    assert_eq!(ground.due().await, 1);
    // RollcallJobFailedPermanently reads it: where to push to is no part of that Secret.
    assert_eq!(ground.pushed("rollcall_job_last_exit_code", &[]), Some(78.0));
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_missing_secret_of_the_outbox_fails_its_job_at_once_with_78_and_names_the_variables() {
    let ground = Ground::new("no-outbox-secret").await;
    ground.bash(&format!("kubectl -n rollcall delete secret {DRAIN}-secrets"));
    ground.bash(&format!("kubectl -n rollcall create job manual-1 --from=cronjob/{DRAIN}"));
    ground.fails_at_once("manual-1", 78);
    let log = ground.log("manual-1");
    for name in ["DATABASE_URL", "REDIS_URL"] {
        assert!(log.contains(name), "{name} is named:\n{log}");
    }
    assert_eq!(ground.pushed_by(DRAIN, "rollcall_job_last_exit_code", &[]), Some(78.0));
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_wrong_key_in_a_secret_fails_the_job_at_once_with_78_and_names_the_variable() {
    let ground = Ground::new("wrong-key").await;
    ground.people(1, CORPORATION).await;
    // As if somebody had misspelt it; every other key is right.
    ground.bash(
        "kubectl -n rollcall get secret character-verifier-secrets -o json \
         | sed 's/\"REDIS_URL\"/\"REDIS_URI\"/' | kubectl -n rollcall replace -f -",
    );
    ground.start("manual-1");
    ground.fails_at_once("manual-1", 78);
    let log = ground.log("manual-1");
    assert!(log.contains("REDIS_URL"), "{log}");
    let told = ground.finished("manual-1")["error"].as_str().unwrap_or_default().to_owned();
    assert!(told.contains("REDIS_URL") && !told.contains("DATABASE_URL"), "only what is wrong is named: {told}");
    let password = ground.stage.db.url();
    assert!(!log.contains(password) && !log.contains(harness::ENCRYPTION_KEY), "no secret is told:\n{log}");
    assert_eq!(ground.due().await, 1);
    // RollcallJobFailedPermanently reads it.
    assert_eq!(ground.pushed("rollcall_job_last_exit_code", &[]), Some(78.0));
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_safety_cap_fails_the_job_at_once_with_77_alerts_and_a_manual_run_approves() {
    let ground = Ground::new("capped").await;
    let alerts = Alerts::of(&ground);
    let leavers = ground.people(3, STRANGERS).await;
    let cap = "{\"data\": {\"MAX_INVALIDATIONS_PER_RUN\": \"2\"}}";
    ground.bash(&format!("kubectl -n rollcall patch configmap {VERIFIER}-config -p '{cap}'"));
    ground.start("manual-1");
    ground.fails_at_once("manual-1", 77);
    assert_eq!(ground.finished("manual-1")["outcome"], "capped");
    assert_eq!((ground.alive(&leavers).await, ground.stage.community.audit().await.len()), (3, 0));
    assert_eq!(ground.pushed("rollcall_job_last_exit_code", &[]), Some(77.0));
    assert_eq!(ground.pushed("rollcall_job_capped", &[]), Some(1.0));
    alerts.wait("CharacterVerifierCapped", true).await;

    ground.start_with("approve-1", "APPROVE_MASS_INVALIDATION=true");
    ground.complete("approve-1");
    assert_eq!((ground.alive(&leavers).await, ground.stage.community.audit().await.len()), (0, 3));
    assert_eq!(ground.pushed("rollcall_job_capped", &[]), Some(0.0));
    alerts.wait("CharacterVerifierCapped", false).await;
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_schema_that_is_behind_ends_with_75_and_the_next_try_succeeds() {
    let ground = Ground::new("retried").await;
    ground.people(1, CORPORATION).await;
    ground.execute("CREATE TABLE kept AS SELECT * FROM _sqlx_migrations").await;
    let newest = "version = (SELECT max(version) FROM kept)";
    ground.bash("kubectl -n rollcall wait --for=condition=Complete job -l app=migrate --timeout=3m");
    ground.execute(&format!("DELETE FROM _sqlx_migrations WHERE {newest}")).await;
    ground.start("manual-1");
    wait_until(super::LIMIT, "the first try has ended", async || ground.exit_codes("manual-1") == [75]).await;
    ground.execute(&format!("INSERT INTO _sqlx_migrations SELECT * FROM kept WHERE {newest}")).await;
    ground.complete("manual-1");
    assert_eq!(ground.exit_codes("manual-1"), [75, 0]);
    assert_eq!(ground.due().await, 0);
}
