//! The harness itself: what tests rely on without looking.

mod community;
mod database;
mod process;
mod proxy;
mod reaper;
mod servers;

use std::time::Duration;

/// Far beyond what anything here takes.
const LIMIT: Duration = Duration::from_secs(30);
/// Long enough to tell "does not answer" from "answers".
const MOMENT: Duration = Duration::from_millis(200);
