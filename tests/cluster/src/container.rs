//! Containers, from outside Kubernetes.

use std::{fs, io::Write, time::Duration};

use harness::wait_until;
use nix::{
    sys::signal::{Signal, kill as send},
    unistd::Pid,
};

use crate::Cluster;

/// For a process to be seen.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kills the process `name` of a pod where it stands. Says no if the pod's node is another machine.
///
/// # Panics
/// The node is this machine, and there is no such process, or this user may not kill it.
pub async fn kill(pod_uid: &str, name: &str) -> bool {
    if !Cluster::get().node_is_here {
        return false;
    }
    // A listing of /proc may lack an entry while others come and go.
    let mut done = Vec::new();
    wait_until(PATIENCE, "the pod's process is found", async || {
        done = processes(pod_uid, name).into_iter().map(|pid| send(pid, Signal::SIGKILL)).collect();
        !done.is_empty()
    })
    .await;
    assert!(done.iter().all(Result::is_ok), "this user may not kill it (run as root): {done:?}");
    true
}

/// The processes `name` of a pod, if its node is this machine.
pub fn processes(pod_uid: &str, name: &str) -> Vec<Pid> {
    // Control groups write the uid with dashes or, under systemd, with underscores.
    let uids = [pod_uid.to_owned(), pod_uid.replace('-', "_")];
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let group = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let program = fs::read_link(entry.path().join("exe")).unwrap_or_default();
        if uids.iter().any(|uid| group.contains(uid)) && program.file_name().is_some_and(|found| found == name) {
            found.push(Pid::from_raw(pid));
        }
    }
    found
}

/// Says something although the test's output is captured: what was left out must be seen.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
