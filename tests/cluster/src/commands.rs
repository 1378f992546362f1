//! Commands, as an operator types them.
//!
//! They block: what a test needs meanwhile (servers, doors, simulator) has threads of its own.

use std::{
    io::Write,
    process::{Command, Stdio},
};

/// What a command said.
#[derive(Debug)]
pub struct Answer {
    /// Whether it ended with 0.
    pub is_ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error: kubectl's warnings.
    pub error: String,
}

/// Runs lines of bash; any failure in them, also in the middle of a pipe, ends them.
pub fn try_bash(script: &str) -> Answer {
    feed(script, "")
}

/// Runs lines of bash and returns what they print.
///
/// # Panics
/// They fail.
pub fn bash(script: &str) -> String {
    succeeded(script, feed(script, ""))
}

/// Runs `kubectl` with these words and this input, and returns what it prints.
///
/// # Panics
/// It fails.
pub fn kubectl(words: &str, input: &str) -> String {
    let script = format!("kubectl {words}");
    let answer = feed(&script, input);
    succeeded(&script, answer)
}

fn succeeded(script: &str, answer: Answer) -> String {
    assert!(answer.is_ok, "{script}\n--- failed, saying\n{}{}", answer.out, answer.error);
    answer.out
}

/// Runs lines of bash with this input.
pub(crate) fn feed(script: &str, input: &str) -> Answer {
    let mut child = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bash is needed");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    let output = std::thread::scope(|scope| {
        // Beside the reading, so that neither side waits for the other. Who does not read on gets no more.
        scope.spawn(move || {
            let _ = stdin.write_all(input.as_bytes());
        });
        child.wait_with_output().expect("a child can be waited for")
    });
    Answer {
        is_ok: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        error: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
