//! The schedule: it fires by itself, and it can be suspended.

use cluster::{Ground, VERIFIER};
use harness::{CORPORATION, STRANGERS};

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_schedule_fires_by_itself_and_the_run_does_its_work() {
    let ground = Ground::new("schedule").await;
    let members = ground.people(5, CORPORATION).await;
    let leavers = ground.people(2, STRANGERS).await;
    ground.suspend(false);
    fires(&ground, VERIFIER);
    // One firing is enough.
    ground.suspend(true);
    let job = job_of(&ground, VERIFIER);
    ground.complete(&job);

    assert_eq!(ground.ledger().await, [("schedule".to_owned(), "done".to_owned())]);
    assert_eq!(ground.due().await, 0);
    assert_eq!((ground.alive(&members).await, ground.alive(&leavers).await), (5, 0));
    let audit = ground.stage.community.audit().await;
    assert_eq!(audit.iter().filter(|row| row.action == "session.invalidated").count(), 2, "{audit:#?}");
    assert_eq!(ground.stage.community.events().await.len(), 2);
    let verified = ground.pushed("battlescope_characters_verified_total", &[("status", "success")]);
    assert_eq!(verified, Some(7.0));
    assert_eq!(ground.pushed("rollcall_job_in_progress", &[]), Some(0.0));
    assert_eq!(ground.pushed("rollcall_job_last_exit_code", &[]), Some(0.0));
    assert!(ground.pushed("rollcall_job_last_success_timestamp_seconds", &[]).is_some_and(|time| time > 0.0));
}

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_suspended_cronjob_does_not_fire_takes_manual_runs_and_fires_once_it_is_resumed() {
    let ground = Ground::new("suspend").await;
    ground.people(1, CORPORATION).await;
    // A twin that is not suspended shows that the minute has come.
    ground.bash(&format!(
        "kubectl -n rollcall get cronjob {VERIFIER} -o yaml \
         | sed -e 's/^  name: {VERIFIER}$/  name: twin/' -e 's/^  suspend: true$/  suspend: false/' \
               -e '/^  uid:/d' -e '/^  resourceVersion:/d' \
         | kubectl create -f -"
    ));
    fires(&ground, "twin");
    ground.bash("kubectl -n rollcall patch cronjob twin -p '{\"spec\": {\"suspend\": true}}'");
    ground.complete(&job_of(&ground, "twin"));
    let suspended = ground.object(&format!("cronjob/{VERIFIER}"));
    assert_eq!(suspended["status"]["lastScheduleTime"], serde_json::Value::Null);

    ground.start("manual-1");
    ground.complete("manual-1");
    assert_eq!(ground.ledger().await[1].0, "manual");

    // The minute that was missed is made up for.
    ground.suspend(false);
    fires(&ground, VERIFIER);
    ground.suspend(true);
    ground.complete(&job_of(&ground, VERIFIER));
    assert_eq!(ground.ledger().await[2].0, "schedule");
}

fn fires(ground: &Ground, cronjob: &str) {
    let time = "{.status.lastScheduleTime}";
    ground.bash(&format!("kubectl -n rollcall wait cronjob/{cronjob} --for=jsonpath='{time}' --timeout=90s"));
}

/// The Job that the schedule has made, whose name ends in minutes since the epoch.
fn job_of(ground: &Ground, cronjob: &str) -> String {
    let jobs = ground.object("jobs");
    let names = jobs["items"].as_array().unwrap().iter().filter_map(|job| job["metadata"]["name"].as_str());
    let minutes = |name: &&str| {
        let end = name.strip_prefix(cronjob).and_then(|end| end.strip_prefix('-'));
        end.is_some_and(|end| end.len() == 8 && end.bytes().all(|byte| byte.is_ascii_digit()))
    };
    names.filter(minutes).map(str::to_owned).next().expect("the schedule has made a Job")
}
