//! How a process ended, from its exit code and its final log line.

use harness::Finished;
use serde_json::Value;

use crate::layout::Screen;

/// Shows it.
pub(crate) fn show(screen: &mut Screen, finished: &Finished) {
    let last = finished.last();
    let number = |name: &str| last[name].as_u64().map_or_else(|| "?".to_owned(), |n| n.to_string());
    let counts =
        ["scanned", "changed", "skipped", "failed", "remaining"].map(|name| format!("{name} {}", number(name)));
    screen.line(&format!(
        "outcome {}, exit code {}, {} ms: {}",
        last["outcome"].as_str().unwrap_or("?"),
        finished.code.map_or_else(|| "none".to_owned(), |code| code.to_string()),
        number("duration_ms"),
        counts.join(", "),
    ));
    let details: Option<Value> = last["details"].as_str().and_then(|text| serde_json::from_str(text).ok());
    if let Some(details) = details.as_ref().and_then(Value::as_object) {
        let details: Vec<String> = details.iter().map(|(name, value)| format!("{name} {value}")).collect();
        screen.note(&details.join(", "));
    }
    if let Some(note) = last["note"].as_str() {
        screen.note(note);
    }
}
