//! What is printed: progress as it comes, and a table that can be pasted into a note.

use std::{
    io::{Write, stdout},
    time::Duration,
};

use crate::{load::Load, simulator::Calls, sweep::Usage};

/// Least ratio of floor to job.
const RATIO: f64 = 0.8;
/// Longest sweep of a million, on two cores.
const MILLION: Duration = Duration::from_mins(1);
const MEMORY: f64 = 64.0;
/// How far the peak at ten times as many characters may differ before memory depends on their number: allocators do
/// not give everything back.
const SLACK: f64 = 4.0;
/// Runs over fewer do not fill the pipeline, and say nothing about what memory depends on.
const TELLING: usize = 100_000;
/// Calls of affiliation take so many ids.
const IDS: usize = 1000;
/// Calls beyond those that grow with the work: `/status`, one corporation's sheet, and names, for which each batch in
/// flight may ask once.
const FEW: u64 = 8;

/// Rows in the order of measuring.
pub(crate) struct Table {
    rows: Vec<[String; 4]>,
}

impl Table {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new() }
    }

    /// A line of progress.
    #[expect(clippy::unused_self, reason = "what is printed goes through the table")]
    pub(crate) fn say(&self, line: &str) {
        print(line);
    }

    /// Adds a row; `passed` is `None` where nothing is asked.
    pub(crate) fn row(&mut self, what: &str, asked: &str, measured: &str, passed: Option<bool>) {
        let verdict = passed.map_or("", |passed| if passed { "PASS" } else { "MISS" });
        self.say(&format!("{what}: {measured} {verdict}"));
        self.rows.push([what, asked, measured, verdict].map(str::to_owned));
    }

    /// A ratio that must not be lower.
    pub(crate) fn at_least(&mut self, what: &str, asked: f64, ratio: f64) {
        self.row(what, &format!("≥ {asked:.2}"), &format!("{ratio:.2}"), Some(ratio >= asked));
    }

    /// Floor and job, the best of each.
    pub(crate) fn ratio(&mut self, title: &str, characters: usize, floors: &[Duration], jobs: &[Duration]) {
        let (floor, job) = (best(floors), best(jobs));
        let rate = |took: Duration| format!("{:.0}/s", characters as f64 / took.as_secs_f64());
        self.row(
            &format!("{title}: floor, best of {}", all(floors)),
            "",
            &format!("{}, {}", seconds(floor), rate(floor)),
            None,
        );
        let limit = MILLION.mul_f64(characters as f64 / 1_000_000.0);
        let measured = format!("{}, {}", seconds(job), rate(job));
        self.row(
            &format!("{title}: job, best of {}", all(jobs)),
            &format!("< {}", seconds(limit)),
            &measured,
            Some(job < limit),
        );
        let ratio = floor.as_secs_f64() / job.as_secs_f64();
        self.row(&format!("{title}: floor / job"), &format!("≥ {RATIO}"), &format!("{ratio:.2}"), Some(ratio >= RATIO));
    }

    /// Calls to ESI beside the formula.
    pub(crate) fn calls(&mut self, title: &str, characters: usize, load: Load, calls: &Calls) {
        let (batches, leavers) = (characters.div_ceil(IDS) as u64, load.leavers(characters) as u64);
        let others = calls.total() - calls.on("affiliation") - calls.on("character");
        let right = calls.on("affiliation") == batches && calls.on("character") == leavers && others <= FEW;
        let asked = format!("{batches} + {leavers} confirmations + names, status, corporations");
        let measured = format!("{}: {}", calls.total(), calls.describe());
        self.row(&format!("{title}: calls to ESI"), &asked, &measured, Some(right));
        let rules = calls.violations.len();
        let measured = calls.violations.first().map_or_else(|| "0".to_owned(), |first| format!("{rules}: {first}"));
        self.row(&format!("{title}: rules of ESI broken"), "0", &measured, Some(rules == 0));
    }

    /// What runs over so many characters used, from few to many.
    pub(crate) fn usage(&mut self, used: &[(usize, Usage)]) {
        let mebibytes = |usage: Usage| usage.memory as f64 / 1_048_576.0;
        for (characters, usage) in used {
            self.row(
                &format!("processor time at {characters}"),
                "",
                &format!("{:.2} s", usage.cpu.as_secs_f64()),
                None,
            );
        }
        let most = mebibytes(used.last().expect("there was a run").1);
        for (characters, usage) in used {
            let peak = mebibytes(*usage);
            let right = peak < MEMORY && peak > most - SLACK;
            let asked = format!("< {MEMORY} MiB, the same");
            // Few characters leave some buffers unused.
            let verdict = Some(right).filter(|_| *characters >= TELLING);
            self.row(&format!("peak memory at {characters}"), &asked, &format!("{peak:.1} MiB"), verdict);
        }
    }

    /// The whole, as Markdown.
    pub(crate) fn print(&self) {
        print("\n| what | asked | measured | |\n|---|---|---|---|");
        for [what, asked, measured, verdict] in &self.rows {
            print(&format!("| {what} | {asked} | {measured} | {verdict} |"));
        }
    }
}

fn print(line: &str) {
    let mut out = stdout().lock();
    // Nobody reads on: nothing is lost.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn best(times: &[Duration]) -> Duration {
    times.iter().copied().min().expect("there was a round")
}

fn all(times: &[Duration]) -> String {
    times.iter().map(|took| seconds(*took)).collect::<Vec<_>>().join(" and ")
}

/// `12.3 s`
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// `12.3 ms`
pub(crate) fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}
