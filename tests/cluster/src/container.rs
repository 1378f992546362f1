//! Containers, from outside Kubernetes.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use harness::wait_until;
use nix::{
    sys::signal::{Signal, kill as send},
    unistd::Pid,
};

use tempfile::NamedTempFile;

use crate::{Cluster, bash, try_bash};

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

/// Kills the processes `name` of a pod that stand just now, if its node is this machine: again and again, it keeps a
/// container down that is restarted.
pub fn strike(pod_uid: &str, name: &str) {
    for pid in processes(pod_uid, name) {
        // It may have ended meanwhile.
        let _ = send(pid, Signal::SIGKILL);
    }
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

/// What containerd tells of containers, written down while this lives.
#[derive(Debug)]
pub struct Runtime {
    listener: Child,
    said: NamedTempFile,
}

impl Runtime {
    /// Of the node, if its runtime is containerd on this machine and `ctr` is here to ask it.
    pub fn of_node() -> Option<Self> {
        let node = bash("kubectl get nodes -o jsonpath='{.items[0].metadata.name}'");
        let configured = try_bash(&format!("kubectl get --raw /api/v1/nodes/{node}/proxy/configz"));
        let configured: serde_json::Value = serde_json::from_str(&configured.out).ok()?;
        let socket = configured["kubeletconfig"]["containerRuntimeEndpoint"].as_str()?.strip_prefix("unix://")?;
        if !Cluster::get().node_is_here || !Path::new(socket).exists() {
            return None;
        }
        let said = NamedTempFile::new().expect("a temporary file can be made");
        let listener = Command::new("ctr")
            .args(["--address", socket, "--namespace", "k8s.io", "events"])
            .stdin(Stdio::null())
            .stdout(said.reopen().expect("it is there"))
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        Some(Self { listener, said })
    }

    /// When the container with this id was started, as `date -d` reads it.
    pub fn started(&self, container: &str) -> Option<String> {
        let said = fs::read_to_string(self.said.path()).ok()?;
        let line = said.lines().find(|line| line.contains(" /tasks/start ") && line.contains(container))?;
        Some(line.split(' ').take(3).collect::<Vec<_>>().join(" "))
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let _ = self.listener.kill();
        let _ = self.listener.wait();
    }
}

/// Says something although the test's output is captured: what was left out must be seen.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
