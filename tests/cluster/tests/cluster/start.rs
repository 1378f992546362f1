//! How long a container takes to its first words.

use cluster::{Cluster, Ground, Runtime, VERIFIER, bash, processes, say};
use harness::{CORPORATION, Fault, wait_until};
use serde_json::Value;

const PODS: usize = 12;
/// What is promised from a container's start to its first log line, by the runtime's clock.
const LONGEST: f64 = 0.1;

/// Seconds since 1970 at which the process was made, to a hundredth.
fn made_at(pid: nix::unistd::Pid) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let ticks: f64 = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let up: f64 = uptime.split_whitespace().next().unwrap().parse().unwrap();
    let now: f64 = bash("date +%s.%N").trim().parse().unwrap();
    now - up + ticks / 100.0
}

/// Seconds since 1970 of a time in words.
fn seconds(time: &str) -> f64 {
    bash(&format!("date -d '{time}' +%s.%N")).trim().parse().unwrap()
}

/// Prints the times, and returns the median in seconds.
fn tell(since: &str, mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    say(&format!(
        "from {since} to its first log line, {} pods: median {:.0} ms, longest {:.0} ms",
        times.len(),
        median * 1000.0,
        longest * 1000.0
    ));
    median
}

/// Two clocks: containerd's, which says a container is started when its program has been let go, and which is held to the
/// promise; and the kernel's, from which the process was made, so that the runtime's own part (namespaces, the change of
/// root) is in it. That one is printed alone, since it depends on who else is at work on the node.
#[tokio::test]
#[ignore = "needs a cluster: make test-cluster"]
async fn a_containers_first_log_line_comes_within_a_tenth_of_a_second_of_its_start() {
    if !Cluster::get().node_is_here {
        say("SKIPPED: the time from a container's start to its first log line: its node is not this machine");
        return;
    }
    let runtime = Runtime::of_node();
    let ground = Ground::new("start").await;
    ground.people(1, CORPORATION).await;
    ground.bash("kubectl -n rollcall wait --for=condition=Complete job -l app=migrate --timeout=3m");
    // The process must live while it is looked at. A dry run may run beside others.
    ground.esi.set(Fault::Hang);
    let (mut since_made, mut since_started) = (Vec::new(), Vec::new());
    for number in 0..PODS {
        let job = format!("start-{number}");
        ground.start_with(&job, "DRY_RUN=true");
        let (mut pids, mut first, mut container) = (Vec::new(), None, None);
        wait_until(super::LIMIT, "the process is there and has said something", async || {
            let pods = ground.pods(&job);
            let uid = pods.first().and_then(|pod| pod["metadata"]["uid"].as_str()).unwrap_or("none");
            let id = pods.first().and_then(|pod| pod["status"]["containerStatuses"][0]["containerID"].as_str());
            container = id.and_then(|id| id.split("://").nth(1)).map(str::to_owned);
            pids = processes(uid, VERIFIER);
            first = ground.log(&job).lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
            pids.len() == 1 && first.is_some() && container.is_some()
        })
        .await;
        let first = first.unwrap();
        assert_eq!(first["message"], "started");
        let said_at = seconds(first["timestamp"].as_str().unwrap());
        since_made.push(said_at - made_at(pids[0]));
        if let Some(runtime) = &runtime {
            since_started
                .push(said_at - seconds(&runtime.started(&container.unwrap()).expect("containerd tells of it")));
        }
        ground.bash(&format!("kubectl -n rollcall delete job {job} --wait=false"));
    }
    tell("the making of a container's process", since_made);
    if since_started.is_empty() {
        say("SKIPPED: the same by the runtime's clock: it is not containerd, or there is no ctr to ask it with");
    } else {
        let median = tell("a container's start by containerd's clock", since_started);
        assert!(median < LONGEST, "{median} s, and {LONGEST} s are promised");
    }
    ground.stage.forgive();
}
