//! J2: a dry run writes nothing but its own row.

use harness::{STRANGERS, newcomer};
use suites::{ALLIED, Stage, outcome, with_sso};

use crate::support::{ended, last_run, leases};

#[tokio::test]
async fn nothing_is_written_but_the_ledger_row_and_what_would_change_is_printed() {
    let stage = Stage::with_pushgateway().await;
    let refresh = stage.sim.world(|world| world.issue_refresh_token(2_100_000_000));
    stage.sim.settings(|settings| settings.rotate_refresh_tokens = true);
    stage.add(newcomer("stays").verified_minutes_ago(90).token(refresh).session()).await;
    stage.add_in(ALLIED, newcomer("moves").verified_minutes_ago(90).nameless()).await;
    let leaver = stage.add_in(STRANGERS, newcomer("leaves").verified_minutes_ago(90).session()).await;
    stage.community.add(newcomer("unknown to ESI").verified_minutes_ago(90)).await;
    let before = stage.community.exact_fingerprint().await;

    let finished = with_sso(stage.verifier()).env("DRY_RUN", "true").run().await.expect_code(0);

    assert_eq!(stage.community.exact_fingerprint().await, before);
    let row = last_run(&stage).await.unwrap();
    assert!(row.dry_run && row.ended_at.is_some());
    assert_eq!((row.outcome.as_deref(), row.scanned), (Some("done"), 4));
    assert_eq!((leases(&stage).await, stage.community.runs().await.len()), (0, 1));
    assert!(
        stage
            .pushgateway
            .as_ref()
            .unwrap()
            .metrics()
            .iter()
            .all(|one| !one.name.starts_with("battlescope_") && !one.name.starts_with("rollcall_"))
    );
    assert!(stage.sim.requests().iter().all(|request| !request.route.is_sso()), "no token is refreshed");
    assert!(finished.stdout.contains("nothing is written"), "{finished}");
    assert!(finished.stdout.contains("would write 2 changed organisations"), "{finished}");
    assert!(finished.stdout.contains(&leaver.account_id.to_string()), "{finished}");
    assert_eq!((ended(&finished), &outcome(&finished)["dry_run"]), ("done", &true.into()));
}

#[tokio::test]
async fn a_dry_run_that_fails_writes_nothing_either() {
    let stage = Stage::with_pushgateway().await;
    stage.add(newcomer("ann").verified_minutes_ago(90)).await;
    crate::support::execute(&stage, "DELETE FROM auth_config").await;
    let before = stage.community.exact_fingerprint().await;
    stage.verifier().env("DRY_RUN", "true").run().await.expect_code(78);
    assert_eq!(stage.community.exact_fingerprint().await, before);
    let row = last_run(&stage).await.unwrap();
    assert_eq!((row.dry_run, row.outcome.as_deref()), (true, Some("failed")));
    assert!(stage.pushgateway.as_ref().unwrap().metrics().iter().all(|one| !one.name.starts_with("rollcall_")));
}
