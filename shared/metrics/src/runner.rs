//! What every job tells about its runs.

use crate::{Counter, Gauge};

/// End of the last run, whatever its outcome.
pub static LAST_RUN: Gauge = Gauge {
    name: "rollcall_job_last_run_timestamp_seconds",
    help: "When the last run ended, whatever its outcome, in seconds since 1970.",
    labels: &[],
};

/// End of the last run that did its work; dry runs do not count.
pub static LAST_SUCCESS: Gauge = Gauge {
    name: "rollcall_job_last_success_timestamp_seconds",
    help: "When the last run that did its work ended, dry runs left out, in seconds since 1970.",
    labels: &[],
};

/// How long the last run took, or the current one so far.
pub static DURATION: Gauge = Gauge {
    name: "rollcall_job_duration_seconds",
    help: "How long the last run took, or the current one so far, in seconds.",
    labels: &[],
};

/// Records of the last run by what became of them: `scanned`, `changed`, `skipped`, `failed`, `remaining`.
pub static RECORDS: Gauge = Gauge {
    name: "rollcall_job_records",
    help: "Records of the last run, by what became of them; remaining ones are left to the next run.",
    labels: &["outcome"],
};

/// Whether a run is under way: 1, or 0.
pub static IN_PROGRESS: Gauge = Gauge {
    name: "rollcall_job_in_progress",
    help: "Whether a run is under way (1) or not (0); a killed run leaves 1 behind.",
    labels: &[],
};

/// Exit code of the last run.
pub static EXIT_CODE: Gauge =
    Gauge { name: "rollcall_job_last_exit_code", help: "Exit code of the last run.", labels: &[] };

/// Whether the last run stopped at its safety cap: 1, or 0.
pub static CAPPED: Gauge = Gauge {
    name: "rollcall_job_capped",
    help: "Whether the last run stopped at its safety cap (1) or not (0).",
    labels: &[],
};

/// Runs by outcome.
pub static RUNS: Counter = Counter {
    name: "rollcall_job_runs_total",
    help: "Runs by outcome; a lost run ended without a word and was found by a later one.",
    labels: &["outcome"],
    series: &[
        &["done"],
        &["nothing_to_do"],
        &["already_running"],
        &["upstream_down"],
        &["capped"],
        &["stopped"],
        &["failed"],
        &["lost"],
    ],
};

/// Pushes of metrics that failed.
pub static PUSH_FAILURES: Counter = Counter {
    name: "rollcall_push_failures_total",
    help: "Pushes of metrics to the Pushgateway that failed.",
    labels: &[],
    series: &[&[]],
};

pub(crate) static COUNTERS: &[&Counter] = &[&RUNS, &PUSH_FAILURES];
pub(crate) static GAUGES: &[&Gauge] =
    &[&LAST_RUN, &LAST_SUCCESS, &DURATION, &RECORDS, &IN_PROGRESS, &EXIT_CODE, &CAPPED];
