//! Rollcall on the cluster that `KUBECONFIG` names: `make test-cluster`. Every test is ignored without it.

#![expect(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should")]

mod documents;
mod failures;
mod images;
mod install;
mod manual;
mod outbox;
mod quota;
mod rules;
mod schedule;
mod shards;
mod start;
mod stops;
mod version;
mod weather;

use std::time::Duration;

/// Far beyond anything that is waited for.
const LIMIT: Duration = Duration::from_mins(1);
