//! `make bench`: what the verifier takes, beside the least that the same work can take on this machine.
//!
//! Ratios count, absolutes do not: the floor (`floor/`) does the job's reads, calls and writes with bare clients and
//! nothing of the job around them, on an identical copy of the same database, in turn with the job. Servers and
//! simulator are processes that share the machine with whoever is measured.
//!
//! | variable | meaning |
//! |---|---|
//! | `BENCH_CHARACTERS` | due characters, 1,000,000 unless told otherwise; fewer for a quick look |
//! | `BENCH_EVENTS` | events of a backlog of the outbox, 1,000,000 unless told otherwise |
//! | `BENCH_REFILLS` | backlogs after which the outbox's size is looked at, 10 unless told otherwise |
//! | `BENCH_ROUNDS` | times that floor and job take turns, 2 unless told otherwise |
//! | `BENCH_ONLY` | `verifier` or `outbox` measures that alone |
//!
//! There is no error handling here: whatever goes wrong ends the bench with a message.

mod floor;
mod ground;
mod job;
mod load;
mod outbox;
mod short;
mod simulator;
mod sweep;
mod table;
mod tokens;

use ground::Ground;
use load::Load;
use table::Table;

const CHARACTERS: usize = 1_000_000;
/// Fewer would leave no thousand-strong batch and no one to change.
const FEWEST: usize = 1000;
const ROUNDS: usize = 2;
const EVENTS: usize = 1_000_000;
const REFILLS: usize = 10;

#[tokio::main]
async fn main() {
    let rounds = number("BENCH_ROUNDS", ROUNDS).max(1);
    let mut table = Table::new();
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    if only != "outbox" {
        verifier(rounds, &mut table).await;
    }
    if only != "verifier" {
        let events = number("BENCH_EVENTS", EVENTS).max(FEWEST);
        outbox::measure(events, rounds, number("BENCH_REFILLS", REFILLS).max(2), &mut table).await;
    }
    table.print();
}

async fn verifier(rounds: usize, table: &mut Table) {
    let characters = number("BENCH_CHARACTERS", CHARACTERS).max(FEWEST);
    table.say(&format!("building {characters} characters"));
    let ground = Ground::build(characters).await;
    table.say(&format!("{} | {rounds} rounds", ground.describe().await));

    let unchanged = sweep::measure(&ground, Load::Unchanged, rounds, table).await;
    short::measure(&ground, table).await;
    let changed = sweep::measure(&ground, Load::Changed, rounds, table).await;
    drop(ground);

    let mut used = Vec::new();
    for part in [100, 10] {
        let few = Ground::build(characters.div_ceil(part).max(FEWEST)).await;
        used.push((few.crowd().len(), sweep::usage(&few).await));
    }
    used.push((characters, unchanged.max(changed)));
    table.usage(&used);
    tokens::measure(table).await;
}

fn number(variable: &str, default: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text.trim().replace(['_', ','], "").parse().unwrap_or_else(|_| panic!("{variable}: not a number")),
        Err(_) => default,
    }
}
