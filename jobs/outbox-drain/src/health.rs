//! Whether a worker gets on, for a probe: by the file it writes, since a probe must not need PostgreSQL.

use std::time::Duration;

use identity::codes::ExitCode;
use job::{JobError, screen};

use crate::options::Settings;

/// 0 when the heartbeat is young enough, else 75 with the reason.
pub(crate) fn health(settings: &Settings, max_age: Duration) -> Result<ExitCode, JobError> {
    let Some(path) = &settings.options.worker_heartbeat_file else {
        return Err(JobError::config("WORKER_HEARTBEAT_FILE: missing; give the worker and health the same path"));
    };
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| JobError::retry(format_args!("no heartbeat in {shown}: {error}")))?;
    let at: i64 =
        text.trim().parse().map_err(|_| JobError::retry(format_args!("no heartbeat in {shown}: it holds no time")))?;
    let age = settings.clock.now().unix_timestamp().saturating_sub(at);
    if age > i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX) {
        let most = max_age.as_secs();
        return Err(JobError::retry(format_args!("the last heartbeat is {age} s old, {most} s are allowed")));
    }
    screen::line(&format!("the last heartbeat is {} s old", age.max(0)));
    Ok(ExitCode::Done)
}
