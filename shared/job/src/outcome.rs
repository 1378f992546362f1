//! What came of a run. The last log line, the ledger row, the metrics and the terminal's summary are all rendered from
//! one [`Outcome`].

use std::{collections::BTreeMap, time::Duration};

use identity::codes::ExitCode;
use serde::Serialize;
use store::ledger::Tally;

use crate::{JobError, Output, screen};

/// How a job's `run` ended, as the job sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It did its work; some may remain ([`Report::remaining`]).
    Done,
    /// Nothing was due.
    NothingToDo,
    /// The upstream is down or untrustworthy; nothing was decided, and the next run tries again.
    UpstreamDown,
    /// A safety cap refused to act and a person must look.
    Capped,
    /// A stop was asked for.
    Stopped,
}

/// What a job's `run` returns. What was counted is in the checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub ending: Ending,
    /// Items that were due and not reached.
    pub remaining: u64,
    /// What an operator should know or do next.
    pub note: Option<String>,
}

impl Report {
    /// An ending with nothing more to say.
    pub fn new(ending: Ending) -> Self {
        Self { ending, remaining: 0, note: None }
    }
}

/// Name of an outcome, fixed for tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeName {
    /// See [`Ending::Done`].
    Done,
    /// See [`Ending::NothingToDo`].
    NothingToDo,
    /// Another run is at it.
    AlreadyRunning,
    /// See [`Ending::UpstreamDown`].
    UpstreamDown,
    /// See [`Ending::Capped`].
    Capped,
    /// See [`Ending::Stopped`].
    Stopped,
    /// An error ended it.
    Failed,
    /// It died without a word; only a later run can say so.
    Lost,
}

impl OutcomeName {
    /// As in the ledger, the logs and the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NothingToDo => "nothing_to_do",
            Self::AlreadyRunning => "already_running",
            Self::UpstreamDown => "upstream_down",
            Self::Capped => "capped",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }

    /// Whether the run did its work.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Done | Self::NothingToDo)
    }
}

impl From<Ending> for OutcomeName {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Done => Self::Done,
            Ending::NothingToDo => Self::NothingToDo,
            Ending::UpstreamDown => Self::UpstreamDown,
            Ending::Capped => Self::Capped,
            Ending::Stopped => Self::Stopped,
        }
    }
}

/// The one typed outcome of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Name of the job.
    pub job: &'static str,
    /// The run's id.
    pub run_id: String,
    /// How it ended.
    pub name: OutcomeName,
    /// How the process ends.
    pub exit: ExitCode,
    /// Whether it wrote nothing.
    pub dry_run: bool,
    /// What was counted.
    pub tally: Tally,
    /// Items that were due and not reached.
    pub remaining: u64,
    /// From start to end.
    pub duration: Duration,
    /// Further counters of the job.
    pub details: BTreeMap<&'static str, u64>,
    /// What an operator should know or do next.
    pub note: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Outcome {
    /// Of a run in which nothing happened yet: done.
    pub fn blank(job: &'static str, run_id: &str, dry_run: bool) -> Self {
        Self {
            job,
            run_id: run_id.to_owned(),
            name: OutcomeName::Done,
            exit: ExitCode::Done,
            dry_run,
            tally: Tally::default(),
            remaining: 0,
            duration: Duration::ZERO,
            details: BTreeMap::new(),
            note: None,
            error: None,
        }
    }

    /// Takes over what the job says; the one table from endings to exit codes.
    #[must_use]
    pub fn reported(self, report: Result<Report, JobError>) -> Self {
        match report {
            Ok(Report { ending, remaining, note }) => {
                let exit = match ending {
                    Ending::Done | Ending::NothingToDo | Ending::UpstreamDown => ExitCode::Done,
                    Ending::Capped => ExitCode::Capped,
                    Ending::Stopped => ExitCode::Stopped,
                };
                Self { name: ending.into(), exit, remaining, note, ..self }
            }
            Err(error) => {
                Self { name: OutcomeName::Failed, exit: error.exit_code(), error: Some(error.to_string()), ..self }
            }
        }
    }

    /// Another run is at it.
    #[must_use]
    pub(crate) fn already_running(self, note: String) -> Self {
        Self { name: OutcomeName::AlreadyRunning, exit: ExitCode::Done, note: Some(note), ..self }
    }

    /// From start to end, in milliseconds.
    pub fn duration_ms(&self) -> u64 {
        u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX)
    }

    /// The outcome as one JSON object, with the fixed names.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "job": self.job, "run_id": self.run_id, "outcome": self.name, "dry_run": self.dry_run,
            "scanned": self.tally.scanned, "changed": self.tally.changed, "skipped": self.tally.skipped,
            "failed": self.tally.failed, "remaining": self.remaining, "duration_ms": self.duration_ms(),
            "details": self.details, "note": self.note, "error": self.error,
        })
    }

    /// A few lines for people.
    pub fn to_text(&self) -> String {
        let dry = if self.dry_run { " (dry run)" } else { "" };
        let took = humantime::format_duration(Duration::from_millis(self.duration_ms()));
        let Tally { scanned, changed, skipped, failed } = self.tally;
        let mut lines = vec![
            format!("{}{dry}: {} in {took}", self.job, self.name.as_str()),
            format!(
                "  scanned {scanned}, changed {changed}, skipped {skipped}, failed {failed}, remaining {}",
                self.remaining
            ),
        ];
        lines.extend(self.details.iter().map(|(name, value)| format!("  {name} {value}")));
        lines.extend(self.error.iter().map(|error| format!("  error: {error}")));
        lines.extend(self.note.iter().map(|note| format!("  note: {note}")));
        lines.join("\n")
    }

    /// Tells the outcome: to tools and people on standard output, and as the last log line. Returns the exit code.
    pub fn tell(&self, output: Output) -> ExitCode {
        match output {
            Output::Json => screen::line(&self.to_json().to_string()),
            Output::Text if screen::is_terminal() => screen::line(&self.to_text()),
            Output::Text => {}
        }
        self.log();
        self.exit
    }

    fn log(&self) {
        let details = (!self.details.is_empty()).then(|| serde_json::json!(self.details).to_string());
        macro_rules! finished {
            ($level:expr) => {
                tracing::event!(
                    $level,
                    job = self.job,
                    run_id = self.run_id,
                    outcome = self.name.as_str(),
                    dry_run = self.dry_run,
                    scanned = self.tally.scanned,
                    changed = self.tally.changed,
                    skipped = self.tally.skipped,
                    failed = self.tally.failed,
                    remaining = self.remaining,
                    duration_ms = self.duration_ms(),
                    details,
                    note = self.note.as_deref(),
                    error = self.error.as_deref(),
                    "finished"
                )
            };
        }
        match self.name {
            OutcomeName::Failed | OutcomeName::Capped => finished!(tracing::Level::ERROR),
            _ => finished!(tracing::Level::INFO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(report: Result<Report, JobError>) -> (&'static str, u8) {
        let outcome = Outcome::blank("probe", "1", false).reported(report);
        (outcome.name.as_str(), outcome.exit as u8)
    }

    #[test]
    fn every_ending_has_its_name_and_exit_code() {
        assert_eq!(ended(Ok(Report::new(Ending::Done))), ("done", 0));
        assert_eq!(ended(Ok(Report::new(Ending::NothingToDo))), ("nothing_to_do", 0));
        assert_eq!(ended(Ok(Report::new(Ending::UpstreamDown))), ("upstream_down", 0));
        assert_eq!(ended(Ok(Report::new(Ending::Capped))), ("capped", 77));
        assert_eq!(ended(Ok(Report::new(Ending::Stopped))), ("stopped", 143));
        assert_eq!(ended(Err(JobError::retry("later"))), ("failed", 75));
        assert_eq!(ended(Err(JobError::data("bad row"))), ("failed", 65));
    }

    #[test]
    fn names_are_the_same_in_json_as_elsewhere_and_each_is_a_series_of_the_counter() {
        use OutcomeName::{AlreadyRunning, Capped, Done, Failed, Lost, NothingToDo, Stopped, UpstreamDown};
        let all = [Done, NothingToDo, AlreadyRunning, UpstreamDown, Capped, Stopped, Failed, Lost];
        for name in all {
            assert_eq!(serde_json::json!(name), name.as_str());
            assert!(metrics::runner::RUNS.series.contains(&[name.as_str()].as_slice()), "{}", name.as_str());
        }
        assert_eq!(metrics::runner::RUNS.series.len(), all.len());
    }

    #[test]
    fn a_summary_tells_error_and_note() {
        let outcome = Outcome::blank("probe", "1", true).reported(Err(JobError::config("REDIS_URL: wrong password")));
        assert_eq!(
            outcome.to_text(),
            "probe (dry run): failed in 0s\n  scanned 0, changed 0, skipped 0, failed 0, remaining 0\n  \
             error: REDIS_URL: wrong password"
        );
    }
}
