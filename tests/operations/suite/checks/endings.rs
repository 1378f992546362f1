//! How runs end: exit codes that Kubernetes tries again, and time-outs that fit into each other.

use std::{collections::BTreeSet, time::Duration};

use identity::codes::ExitCode;
use serde_json::Value;

use crate::{
    findings::Findings,
    read::{
        files,
        manifests::{self, Workload, list, name},
        markdown, programs,
    },
};

/// Kubernetes waits this long before the first further try, twice as long before each one after, and not longer than
/// the second.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_mins(6);

/// The shortest time between two runs. One that takes longer does the work of the slots it covers, and `Forbid` leaves these
/// out.
const EVERY_MINUTE: Duration = Duration::from_mins(1);

#[test]
fn codes_that_no_retry_helps_and_only_these_end_a_job_at_once() {
    let code = |code: &ExitCode| u64::from(*code as u8);
    let helpless: BTreeSet<u64> =
        ExitCode::ALL.iter().filter(|code| !code.retry_helps() && **code != ExitCode::Done).map(code).collect();
    let mut findings = Findings::default();
    for workload in manifests::jobs() {
        let (place, policy) = (workload.place(), &workload.job["podFailurePolicy"]["rules"]);
        // With tries counted for each index, an index fails and its peers go on.
        let is_indexed = workload.job.get("backoffLimitPerIndex").is_some();
        let action = if is_indexed { "FailIndex" } else { "FailJob" };
        let rules = list(policy);
        let ignores = rules.first().is_some_and(|rule| {
            rule["action"] == "Ignore"
                && rule["onPodConditions"] == serde_json::json!([{ "type": "DisruptionTarget", "status": "True" }])
        });
        findings.hold(ignores, &place, "its first rule does not ignore disruptions");
        findings.hold(rules.len() == 2, &place, format_args!("has {} rules of failure, not two", rules.len()));
        let Some(rule) = rules.get(1) else { continue };
        findings.hold(
            rule["action"] == action,
            &place,
            format_args!("its second rule is {}, not {action}", rule["action"]),
        );
        let on = &rule["onExitCodes"];
        findings.hold(on["operator"] == "In", &place, "its second rule does not list codes");
        findings.hold(
            on["containerName"] == workload.container["name"],
            &place,
            "its second rule names another container",
        );
        let codes: BTreeSet<u64> = list(&on["values"]).iter().filter_map(Value::as_u64).collect();
        findings.hold(
            codes == helpless,
            &place,
            format_args!("ends at once on {codes:?}; no retry helps {helpless:?}"),
        );
        findings.hold(workload.job["template"]["spec"]["restartPolicy"] == "Never", &place, "restarts inside its pod");
    }
    findings.end();
}

/// Times of a workload.
struct Times {
    run: Duration,
    grace: Duration,
    tries: u32,
    waits: Duration,
    deadline: Duration,
}

impl Times {
    fn of(workload: &Workload) -> Self {
        let seconds = |value: &Value| {
            Duration::from_secs(value.as_u64().unwrap_or_else(|| panic!("{}: {value}", workload.place())))
        };
        let job = workload.job;
        let program = programs::program(&workload.program).expect("the binary is known");
        let default = || program.settings().remove("MAX_RUNTIME")?.default;
        let run = workload.variables.get("MAX_RUNTIME").cloned().or_else(default).expect("MAX_RUNTIME has a default");
        let limit = job.get("backoffLimitPerIndex").or(job.get("backoffLimit")).and_then(Value::as_u64);
        let retries = u32::try_from(limit.unwrap_or(6)).expect("few tries");
        let waits = (0..retries).map(|retry| (FIRST_WAIT * 2_u32.saturating_pow(retry)).min(LONGEST_WAIT)).sum();
        Self {
            run: humantime::parse_duration(&run).unwrap_or_else(|error| panic!("{}: {run}: {error}", workload.place())),
            grace: seconds(&job["template"]["spec"]["terminationGracePeriodSeconds"]),
            tries: retries + 1,
            waits,
            deadline: seconds(&job["activeDeadlineSeconds"]),
        }
    }

    fn all_tries(&self) -> Duration {
        (self.run + self.grace) * self.tries + self.waits
    }
}

/// Time between two runs, for the schedules that are in use here: `41 * * * *`, and every minute.
fn period(workload: &Workload) -> Option<Duration> {
    // There every job fires each minute, or never.
    let schedule = workload.object["spec"]["schedule"].as_str().filter(|_| workload.build != "test")?;
    if schedule == "* * * * *" {
        return Some(EVERY_MINUTE);
    }
    let [minute, "*", "*", "*", "*"] = schedule.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{}: what is the time between two runs of {schedule:?}? Teach this test", workload.place())
    };
    match minute.parse::<u8>() {
        Ok(0) => panic!("{}: runs at the full hour, which ESI asks not to do", workload.place()),
        Ok(1..=34) => panic!("{}: runs in ESI's daily downtime, from 11:00 UTC and half an hour", workload.place()),
        Ok(_) => Some(Duration::from_hours(1)),
        Err(error) => panic!("{}: {schedule:?}: {error}", workload.place()),
    }
}

#[test]
fn every_time_out_leaves_room_for_those_inside_it() {
    let mut findings = Findings::default();
    for workload in manifests::jobs() {
        let (place, times) = (workload.place(), Times::of(&workload));
        let Times { run, grace, deadline, .. } = times;
        findings.hold(
            run < deadline,
            &place,
            format_args!("MAX_RUNTIME {run:?} is not below activeDeadlineSeconds {deadline:?}"),
        );
        findings.hold(
            job::SHUTDOWN < grace,
            &place,
            format_args!("a stop may take {:?}, the grace period is {grace:?}", job::SHUTDOWN),
        );
        let all = times.all_tries();
        findings.hold(
            all < deadline,
            &place,
            format_args!("{} tries may take {all:?}, activeDeadlineSeconds are {deadline:?}", times.tries),
        );
        if let Some(period) = period(&workload) {
            findings.hold(
                deadline < period || period == EVERY_MINUTE,
                &place,
                format_args!("activeDeadlineSeconds {deadline:?} reach the next run, {period:?} later"),
            );
            let late = workload.object["spec"]["startingDeadlineSeconds"].as_u64().map(Duration::from_secs);
            let fits = late.is_some_and(|late| late < period && late >= Duration::from_secs(10));
            findings.hold(fits, &place, format_args!("startingDeadlineSeconds: {late:?}"));
        }
    }
    findings.end();
}

#[test]
fn the_document_has_the_time_outs_of_the_manifests() {
    const DOCUMENT: &str = "docs/KUBERNETES.md";
    let rows: Vec<Vec<String>> = markdown::document(&files::text(DOCUMENT))
        .rows
        .into_iter()
        .filter(|(heading, _)| heading == "Time-outs fit together")
        .map(|(_, cells)| cells)
        .collect();
    let head = rows.first().expect("docs/KUBERNETES.md has the table of time-outs");
    let mut findings = Findings::default();
    for workload in manifests::jobs().into_iter().filter(|workload| workload.build == "production") {
        let Some(column) = head.iter().position(|cell| *cell == workload.program) else {
            findings.add(DOCUMENT, format_args!("the table of time-outs lacks {}", workload.program));
            continue;
        };
        let times = Times::of(&workload);
        let seconds = |time: Duration| format!("{} s", time.as_secs());
        let waits: Vec<String> =
            (1..times.tries).map(|retry| (FIRST_WAIT * 2_u32.pow(retry - 1)).as_secs().to_string()).collect();
        let mut expected = vec![
            ("`MAX_RUNTIME`", format!("{} min", times.run.as_secs() / 60)),
            ("`terminationGracePeriodSeconds`", seconds(times.grace)),
            ("tries (`backoffLimit` + 1)", times.tries.to_string()),
            (
                "waits between tries",
                if waits.is_empty() { "none".to_owned() } else { format!("{} s", waits.join(" + ")) },
            ),
            ("all tries at full length", seconds(times.all_tries())),
            ("`activeDeadlineSeconds`", seconds(times.deadline)),
        ];
        expected.extend(period(&workload).map(|period| ("schedule", seconds(period))));
        let late = workload.object["spec"]["startingDeadlineSeconds"].as_u64();
        expected.extend(late.map(|late| ("`startingDeadlineSeconds`", seconds(Duration::from_secs(late)))));
        if workload.program != migrate::NAME {
            let row =
                rows.iter().find(|cells| cells[0].starts_with("after SIGTERM")).expect("the table tells of a stop");
            let sum: u64 = row[column].split(' ').filter_map(|word| word.parse::<u64>().ok()).sum();
            let most = job::SHUTDOWN.as_secs();
            findings.hold(
                sum == most,
                DOCUMENT,
                format_args!("a stop may take {most} s, and the table says {}", row[column]),
            );
        }
        for (row, value) in expected {
            let told = rows.iter().find(|cells| cells[0] == row).map_or("", |cells| cells[column].as_str());
            findings.hold(
                told == value,
                DOCUMENT,
                format_args!("{row} of {} is {value}, and the table says {told:?}", workload.program),
            );
        }
    }
    findings.end();
}

#[test]
fn a_scheduled_run_excludes_the_next_one_and_leaves_traces() {
    let mut findings = Findings::default();
    for workload in manifests::jobs().into_iter().filter(|workload| manifests::is(workload.object, "CronJob")) {
        let (place, spec) = (workload.place(), &workload.object["spec"]);
        findings.hold(spec["concurrencyPolicy"] == "Forbid", &place, "concurrencyPolicy is not Forbid");
        findings.hold(spec["timeZone"].is_string(), &place, "has no timeZone");
        for limit in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
            findings.hold(spec[limit] == 3, &place, format_args!("{limit} is not 3"));
        }
        let label = &workload.job["template"]["metadata"]["labels"]["app"];
        findings.hold(*label == name(workload.object), &place, format_args!("its pods have the label app={label}"));
        findings.hold(name(workload.object).len() <= 52, &place, "its name is too long for a CronJob");
    }
    findings.end();
}
