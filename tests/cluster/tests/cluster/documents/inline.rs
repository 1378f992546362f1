//! Commands that stand in a line of text.

use std::collections::BTreeSet;

use cluster::{DRAIN, Ground, repository};
use documents::markdown::Document;

use super::exceptions::{IMAGES, NOT_RUN_IN_LINE};

/// What a command begins with. A single word names the program and is no command. Subcommands of the jobs are tried by the
/// suite `operations` on every document, and targets of make are what CI runs.
const PROGRAMS: [&str; 15] = [
    "bash",
    "cargo",
    "curl",
    "date",
    "docker",
    "for",
    "helm",
    "k3d",
    "kind",
    "kubectl",
    "minikube",
    "openssl",
    "promtool",
    "psql",
    "redis-cli",
];
/// With this in it, a command is about the workers of the outbox.
const WORKERS: &str = "deployment/outbox-drain";
/// With this in it, a command goes on until it is ended, and has done its work when its last word, a port, is answered at.
const FORWARDS: &str = " port-forward ";
/// By this a document lists the component in an overlay.
const COMPONENT: &str = "components:\n  - ../../components/outbox-worker\n";

/// Runs what the `document` has in its lines and no block in `ran` has; what is wrong, in words.
pub(super) async fn try_all(
    ground: &Ground,
    document: &Document,
    exports: &str,
    ran: &mut BTreeSet<String>,
) -> Vec<String> {
    let mut failed = Vec::new();
    for span in &document.spans {
        if span.starts_with("SELECT ") {
            // It fails the test by itself. No process has this number.
            ground.execute(&span.replace("<pid>", "0")).await;
            continue;
        }
        let is_not_run = NOT_RUN_IN_LINE.iter().any(|(entry, _)| entry == span);
        if is_not_run || !is_command(span) || ran.iter().any(|script| script.lines().any(|line| line == span)) {
            continue;
        }
        ran.insert(format!("{span}\n"));
        let folder = if span.contains(IMAGES) { repository() } else { ground.overlay.folder().to_owned() };
        let run = || ground.try_bash(&format!("cd '{}'\n{exports}{}", folder.display(), until_it_serves(span)));
        let answer = if span.contains(WORKERS) { with_workers(ground, run) } else { run() };
        if !answer.is_ok {
            failed.push(format!("{span}\n--- said\n{}{}", answer.out, answer.error));
        }
    }
    failed
}

/// A command that forwards a port, up to an answer through it; any other as it is.
fn until_it_serves(span: &str) -> String {
    let Some(port) = span.split_whitespace().last().filter(|_| span.contains(FORWARDS)) else { return span.to_owned() };
    // That it still runs tells that the port is its own.
    format!(
        "{span} &
         trap 'kill $!' EXIT
         curl -sf --retry 30 --retry-connrefused --retry-delay 1 http://localhost:{port}/-/ready
         kill -0 $!"
    )
}

fn is_command(span: &str) -> bool {
    span.split_once(' ').is_some_and(|(program, _)| PROGRAMS.contains(&program))
}

/// The arguments of subcommands that a document names beside the block that it shows: `["check"]`.
pub(super) fn arguments(document: &Document) -> Vec<&str> {
    let is_list = |span: &&str| serde_json::from_str::<Vec<String>>(span).is_ok_and(|list| !list.is_empty());
    document.spans.iter().map(String::as_str).filter(is_list).collect()
}

/// With the component in the overlay, as docs/KUBERNETES.md adds it and takes it out.
fn with_workers<T>(ground: &Ground, act: impl FnOnce() -> T) -> T {
    let path = "overlays/production/kustomization.yaml";
    let without = ground.overlay.read(path);
    let apply = format!("cd '{}'\nkubectl apply -k k8s/overlays/production", ground.overlay.folder().display());
    ground.overlay.write(path, &(without.clone() + COMPONENT));
    ground.bash(&apply);
    let out = act();
    ground.bash(&format!("kubectl -n rollcall rollout status deployment/{DRAIN} --timeout=3m"));
    ground.overlay.write(path, &without);
    ground.bash(&apply);
    ground.bash(
        "kubectl -n rollcall delete deployment,poddisruptionbudget outbox-drain --ignore-not-found
         kubectl -n rollcall wait --for=delete pod -l app=outbox-drain,pod-template-hash --timeout=1m",
    );
    out
}

#[test]
fn commands_are_told_from_names() {
    for command in ["kubectl -n rollcall get pods", "for i in 1; do true; done", "promtool test rules a.yaml"] {
        assert!(is_command(command), "{command}");
    }
    for name in ["kubectl", "outbox-drain", "MAX_RUNTIME is over", "psqlx y"] {
        assert!(!is_command(name), "{name}");
    }
}
