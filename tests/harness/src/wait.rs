//! Waiting for a condition; the one place of the tests where time is let pass.

use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `condition` holds, asking every 10 ms.
///
/// # Panics
/// It does not hold within `limit`: the message says that `what` did not happen.
pub async fn wait_until(limit: Duration, what: &str, condition: impl AsyncFnMut() -> bool) {
    assert!(came_true(limit, condition).await, "waited {limit:?} in vain: {what}");
}

/// Whether `condition` came to hold within `limit`.
pub(crate) async fn came_true(limit: Duration, mut condition: impl AsyncFnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition().await {
            return true;
        }
        if start.elapsed() >= limit {
            return false;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// [`came_true`] for code that blocks.
pub(crate) fn came_true_blocking(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(INTERVAL);
    }
}
