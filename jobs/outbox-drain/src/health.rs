//! Whether a worker gets on, for a probe: by the file it writes, since a probe must need neither servers nor secrets.

use std::time::Duration;

use identity::codes::ExitCode;
use job::{JobError, screen};
use runtime::Clock;
use time::OffsetDateTime;

use crate::options::Options;

/// 0 when the heartbeat is young enough, else 75 with the reason.
pub(crate) fn health(options: &Options, clock: &Clock, max_age: Duration) -> Result<ExitCode, JobError> {
    let Some(path) = &options.worker_heartbeat_file else {
        return Err(JobError::config("WORKER_HEARTBEAT_FILE: missing; give the worker and health the same path"));
    };
    if path.is_dir() {
        let path = path.display();
        return Err(JobError::config(format_args!("WORKER_HEARTBEAT_FILE: {path} is a folder; give a file in it")));
    }
    let touched = std::fs::metadata(path)
        .and_then(|file| file.modified())
        .map_err(|error| JobError::retry(format_args!("no heartbeat in {}: {error}", path.display())))?;
    let age = (clock.now() - OffsetDateTime::from(touched)).whole_seconds().max(0);
    if age > i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX) {
        let most = max_age.as_secs();
        return Err(JobError::retry(format_args!("the last heartbeat is {age} s old, {most} s are allowed")));
    }
    screen::line(&format!("the last heartbeat is {age} s old"));
    Ok(ExitCode::Done)
}
