//! Workers: Deployments that do the work of a CronJob without an end.

use std::time::Duration;

use serde_json::Value;

use crate::{
    findings::Findings,
    read::manifests::{self, WORKERS, Workload, is, list, name, texts},
};

/// From this time on Kubernetes forgets earlier restarts of a container, and the pause before the next one is short again.
const FORGETS_RESTARTS: Duration = Duration::from_mins(10);

fn workers() -> Vec<Workload> {
    let all: Vec<Workload> =
        manifests::workloads().into_iter().filter(|workload| is(workload.object, "Deployment")).collect();
    assert!(!all.is_empty(), "no workers were found: {WORKERS}");
    all
}

/// The variable of a worker; panics where it is missing.
fn variable<'a>(worker: &'a Workload, name: &str) -> &'a str {
    worker.variables.get(name).unwrap_or_else(|| panic!("{} is not given {name}", worker.place()))
}

#[test]
fn a_worker_is_called_as_the_job_whose_schedule_it_suspends_and_takes_none_of_its_pods() {
    let mut findings = Findings::default();
    for worker in workers() {
        let (place, own) = (worker.place(), name(worker.object));
        // The rules of alerts know it by that.
        findings.hold(own == worker.program, &place, "is not called as its binary");
        let schedule = manifests::objects(worker.build).iter().find(|one| is(one, "CronJob") && name(one) == own);
        let Some(schedule) = schedule else {
            findings.add(&place, "there is no CronJob to start runs by hand from");
            continue;
        };
        findings.hold(schedule["spec"]["suspend"] == true, &place, "does its work beside a schedule");
        let selected = texts(&worker.object["spec"]["selector"]["matchLabels"]);
        let labels = texts(&schedule["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]);
        let takes = selected.iter().all(|(label, value)| labels.get(label) == Some(value));
        findings.hold(!takes, &place, format_args!("selects pods of the CronJob too: {selected:?}"));
        let policy = &worker.job["template"]["metadata"]["labels"]["app"];
        findings.hold(*policy == own, &place, format_args!("its pods have the label app={policy}"));
    }
    findings.end();
}

#[test]
fn every_worker_is_a_run_of_its_own() {
    let mut findings = Findings::default();
    for worker in workers() {
        let ids: Vec<&Value> =
            list(&worker.container["env"]).iter().filter(|entry| entry["name"] == "RUN_ID").collect();
        let by = ids.first().map(|entry| entry["valueFrom"]["fieldRef"]["fieldPath"].clone()).unwrap_or_default();
        findings.hold(by == "metadata.uid", worker.place(), format_args!("RUN_ID is {by}, which pods may share"));
    }
    findings.end();
}

#[test]
fn a_worker_is_probed_by_the_file_it_writes_and_may_end_its_work() {
    let mut findings = Findings::default();
    for worker in workers() {
        let place = worker.place();
        let pod = &worker.job["template"]["spec"];
        let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap_or(0));
        findings.hold(job::SHUTDOWN < grace, &place, format_args!("the grace period is {grace:?}"));
        let command = serde_json::json!([format!("/{}", worker.program), "health"]);
        let limit = humantime::parse_duration(variable(&worker, "HEALTH_MAX_AGE")).expect("a time");
        findings.hold(limit >= FORGETS_RESTARTS, &place, format_args!("restarts after {limit:?} come ever later"));
        for probe in ["startupProbe", "livenessProbe"] {
            let probe_is = &worker.container[probe];
            findings.hold(probe_is["exec"]["command"] == command, &place, format_args!("{probe} is {probe_is}"));
        }
        let startup = &worker.container["startupProbe"];
        let seconds = |field: &str| startup[field].as_u64().unwrap_or(0);
        let patience = Duration::from_secs(seconds("periodSeconds") * seconds("failureThreshold"));
        findings.hold(patience >= limit, &place, format_args!("has {patience:?} to start, and later {limit:?}"));
        let file = variable(&worker, "WORKER_HEARTBEAT_FILE");
        let mount = list(&worker.container["volumeMounts"])
            .iter()
            .find(|mount| mount["mountPath"].as_str().is_some_and(|path| file.starts_with(&format!("{path}/"))));
        let volume = mount.and_then(|mount| list(&pod["volumes"]).iter().find(|one| one["name"] == mount["name"]));
        let is_limited = volume.is_some_and(|volume| volume["emptyDir"]["sizeLimit"].is_string());
        findings.hold(is_limited, &place, format_args!("{file} is in no emptyDir with a sizeLimit"));
    }
    findings.end();
}
