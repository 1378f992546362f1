//! Whether a Redis is one that may hold the stream.

use std::collections::HashMap;

use redis::aio::ConnectionManager;

use crate::{
    redis::meaning,
    sink::{Finding, SinkError},
};

/// The stream's type and length, and whether Redis keeps what it is given.
pub(crate) async fn check(connection: &ConnectionManager, stream: &str, is_trimmed: bool) -> Vec<Finding> {
    let mut connection = connection.clone();
    let kind: String = match redis::cmd("TYPE").arg(stream).query_async(&mut connection).await {
        Ok(kind) => kind,
        Err(error) => return vec![Finding::Bad(meaning(error))],
    };
    let mut findings = Vec::new();
    match &*kind {
        "stream" => {
            let length: i64 = redis::cmd("XLEN").arg(stream).query_async(&mut connection).await.unwrap_or(0);
            findings.push(Finding::Good(format!("stream {stream}, {length} entries")));
        }
        "none" => findings.push(Finding::Good(format!("stream {stream}, not there yet"))),
        other => {
            let refused = format!("OUTBOX_STREAM: {stream} is a {other}: give another name, or remove the key");
            findings.push(Finding::Bad(SinkError::Refused(refused)));
        }
    }
    let info = match redis::cmd("INFO").query_async::<String>(&mut connection).await {
        Ok(text) => fields(&text),
        Err(error) => {
            findings.push(Finding::Warning(format!("whether Redis persists could not be told: {error}")));
            return findings;
        }
    };
    let is = |name: &str, value: &str| info.get(name).is_some_and(|found| found == value);
    let saves = redis::cmd("CONFIG").arg("GET").arg("save").query_async::<Vec<String>>(&mut connection).await;
    let saves = saves.map_or(true, |answer| answer.get(1).is_some_and(|rule| !rule.is_empty()));
    if is("aof_enabled", "0") {
        let warning = if saves {
            "Redis persists by snapshots alone: a restart loses the events since the last one; set appendonly yes"
        } else {
            "Redis does not persist: a restart loses the stream; set appendonly yes"
        };
        findings.push(Finding::Warning(warning.to_owned()));
    }
    let policy = info.get("maxmemory_policy").map_or("noeviction", String::as_str);
    if policy != "noeviction" && !is("maxmemory", "0") {
        let warning = format!("Redis may evict the stream (maxmemory-policy {policy}): set noeviction");
        findings.push(Finding::Warning(warning));
    } else if policy.starts_with("allkeys") {
        let warning = format!("maxmemory-policy is {policy}: with a maxmemory Redis would evict the stream");
        findings.push(Finding::Warning(warning));
    }
    if is_trimmed {
        findings.push(Finding::Warning("OUTBOX_STREAM_MAXLEN is set: slow readers lose events".to_owned()));
    }
    findings
}

fn fields(info: &str) -> HashMap<String, String> {
    let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    info.lines().filter_map(pair).collect()
}
