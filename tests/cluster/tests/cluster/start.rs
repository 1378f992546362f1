//! How long a container takes to its first words.

use std::time::Duration;

use cluster::{Cluster, Ground, VERIFIER, bash, processes, say};
use harness::{CORPORATION, Fault, wait_until};
use serde_json::Value;

const PODS: usize = 12;

/// Seconds since 1970 at which the process was made, to a hundredth.
fn made_at(pid: nix::unistd::Pid) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let ticks: f64 = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let up: f64 = uptime.split_whitespace().next().unwrap().parse().unwrap();
    let now: f64 = bash("date +%s.%N").trim().parse().unwrap();
    now - up + ticks / 100.0
}

/// Seconds since 1970 that a log line gives as its time.
fn said_at(line: &Value) -> f64 {
    let time = line["timestamp"].as_str().unwrap();
    bash(&format!("date -d '{time}' +%s.%N")).trim().parse().unwrap()
}

/// Printed and not held: it depends on who else is at work on the node. The clock starts when the runtime makes the
/// container's process, so that the runtime's own part (namespaces, the change of root) is in it.
#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn the_time_from_a_containers_start_to_its_first_log_line_is_told() {
    if !Cluster::get().node_is_here {
        say("SKIPPED: the time from a container's start to its first log line: its node is not this machine");
        return;
    }
    let ground = Ground::new("start").await;
    ground.people(1, CORPORATION).await;
    ground.bash("kubectl -n rollcall wait --for=condition=Complete job -l app=migrate --timeout=3m");
    // The process must live while it is looked at. A dry run may run beside others.
    ground.esi.set(Fault::Hang);
    let mut times = Vec::new();
    for number in 0..PODS {
        let job = format!("start-{number}");
        ground.start_with(&job, "DRY_RUN=true");
        let (mut pids, mut first) = (Vec::new(), None);
        wait_until(super::LIMIT, "the process is there and has said something", async || {
            let pods = ground.pods(&job);
            let uid = pods.first().and_then(|pod| pod["metadata"]["uid"].as_str()).unwrap_or("none");
            pids = processes(uid, VERIFIER);
            first = ground.log(&job).lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
            pids.len() == 1 && first.is_some()
        })
        .await;
        let first = first.unwrap();
        assert_eq!(first["message"], "started");
        times.push(Duration::from_secs_f64((said_at(&first) - made_at(pids[0])).max(0.0)));
        ground.bash(&format!("kubectl -n rollcall delete job {job} --wait=false"));
    }
    times.sort();
    say(&format!(
        "from a container's start to its first log line, {PODS} pods: median {:?}, longest {:?}",
        times[PODS / 2],
        times[PODS - 1]
    ));
    ground.stage.forgive();
}
