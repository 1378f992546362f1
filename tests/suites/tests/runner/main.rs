//! Every job: what the runner owes to each, shown through the shipped `character-verifier`, and `migrate`.

#![expect(clippy::unwrap_used, reason = "tests")]

mod budget;
mod check;
mod command_line;
mod configuration;
mod crash;
mod dry_run;
mod fencing;
mod lease;
mod logs;
mod migrate;
mod outcome;
mod pooler;
mod postgres;
mod pushed;
mod pushing;
mod schema;
mod secrets;
mod sessions_store;
mod status;
mod stop;
mod support;
mod totals;
