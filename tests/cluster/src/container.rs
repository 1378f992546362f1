//! Containers, from outside Kubernetes.

use std::{fs, io::Write};

use nix::{
    sys::signal::{Signal, kill as send},
    unistd::Pid,
};

/// Kills the process `name` of a pod where it stands, if the pod's node is this machine and we may; else says no.
pub fn kill(pod_uid: &str, name: &str) -> bool {
    // Control groups write the uid with dashes or, under systemd, with underscores.
    let uids = [pod_uid.to_owned(), pod_uid.replace('-', "_")];
    let mut killed = false;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let group = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let program = fs::read_link(entry.path().join("exe")).unwrap_or_default();
        if uids.iter().any(|uid| group.contains(uid)) && program.file_name().is_some_and(|found| found == name) {
            killed |= send(Pid::from_raw(pid), Signal::SIGKILL).is_ok();
        }
    }
    killed
}

/// Says something although the test's output is captured: what was left out must be seen.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
