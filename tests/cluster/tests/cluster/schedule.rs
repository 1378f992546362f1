//! The schedule: it fires by itself, and it can be suspended.

use std::time::Duration;

use cluster::{Ground, VERIFIER, bash};
use harness::{CORPORATION, STRANGERS, wait_until};

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

#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_cronjob_suspended_for_two_days_of_missed_minutes_fires_once_when_resumed() {
    let ground = Ground::new("missed").await;
    ground.people(1, CORPORATION).await;
    ground.bash("kubectl -n rollcall wait --for=condition=Complete job -l app=migrate --timeout=3m");
    // What the controller counts from: as if the last run had been two days and 2880 slots ago.
    let before = bash("date -u -d '2 days ago' +%Y-%m-%dT%H:%M:00Z");
    let status = format!("{{\"status\": {{\"lastScheduleTime\": \"{}\"}}}}", before.trim());
    ground
        .bash(&format!("kubectl -n rollcall patch cronjob {VERIFIER} --subresource=status --type=merge -p '{status}'"));
    let minute = || bash("date +%s").trim().parse::<i64>().unwrap() / 60;
    let resumed = minute();
    ground.suspend(false);
    let latest = format!("{VERIFIER}-{resumed}");
    wait_until(Duration::from_secs(90), "a run of the schedule has ended", async || {
        ground.ledger().await.iter().any(|(trigger, outcome)| trigger == "schedule" && outcome != "-")
    })
    .await;
    ground.suspend(true);
    // At the turn of a minute the next slot may have come meanwhile; none of those that were missed has.
    let jobs = ground.object("jobs");
    let names = jobs["items"].as_array().unwrap().iter().filter_map(|job| job["metadata"]["name"].as_str());
    let fired: Vec<&str> = names.filter(|name| name.starts_with(VERIFIER)).collect();
    assert!(fired.contains(&&*latest) || fired.contains(&&*format!("{VERIFIER}-{}", resumed + 1)), "{fired:?}");
    assert!(i64::try_from(fired.len()).unwrap() <= minute() - resumed + 1, "{fired:?}");
    assert!(fired.iter().all(|name| **name >= *latest), "no slot of before the resume but the last: {fired:?}");
    let events = ground.object("events --field-selector involvedObject.kind=CronJob");
    let refused =
        |event: &&serde_json::Value| event["reason"] == "FailedNeedsStart" || event["reason"] == "TooManyMissedTimes";
    let refused: Vec<_> = events["items"].as_array().unwrap().iter().filter(refused).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    assert_eq!(ground.due().await, 0);
}

/// Waits until the schedule has made a Job.
pub(super) fn fires(ground: &Ground, cronjob: &str) {
    let time = "{.status.lastScheduleTime}";
    ground.bash(&format!("kubectl -n rollcall wait cronjob/{cronjob} --for=jsonpath='{time}' --timeout=90s"));
}

/// The Job that the schedule has made, whose name ends in minutes since the epoch.
pub(super) fn job_of(ground: &Ground, cronjob: &str) -> String {
    let jobs = ground.object("jobs");
    let names = jobs["items"].as_array().unwrap().iter().filter_map(|job| job["metadata"]["name"].as_str());
    let minutes = |name: &&str| {
        let end = name.strip_prefix(cronjob).and_then(|end| end.strip_prefix('-'));
        end.is_some_and(|end| end.len() == 8 && end.bytes().all(|byte| byte.is_ascii_digit()))
    };
    names.filter(minutes).map(str::to_owned).next().expect("the schedule has made a Job")
}
