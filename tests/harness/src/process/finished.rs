//! What a process left behind.

use std::{fmt, time::Duration};

use serde_json::Value;

/// A process that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The lines of standard error that are JSON objects.
    pub log: Vec<Value>,
    /// From its start to its end.
    pub duration: Duration,
    /// The most memory it held, in bytes; read every 10 ms, so that what it took just before its end may be missing.
    pub peak_memory: u64,
    /// Time it spent on processors, in itself and in the kernel for it; read likewise, in steps of 10 ms.
    pub cpu: Duration,
}

impl Finished {
    /// The last line of its log.
    ///
    /// # Panics
    /// It wrote none.
    pub fn last(&self) -> &Value {
        self.log.last().unwrap_or_else(|| panic!("no log line:\n{self}"))
    }

    /// Itself, if its exit code is `code`.
    ///
    /// # Panics
    /// It ended otherwise; the message shows what it wrote.
    #[expect(clippy::return_self_not_must_use, reason = "checking alone is a use")]
    pub fn expect_code(self, code: i32) -> Self {
        assert!(self.code == Some(code), "exit code {code} expected:\n{self}");
        self
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "ended by signal {signal}"),
            (None, None) => write!(f, "ended somehow"),
        }?;
        write!(f, " after {:?}\n--- stdout\n{}\n--- stderr\n{}", self.duration, self.stdout, self.stderr)
    }
}
