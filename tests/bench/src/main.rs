//! `make bench`: what the verifier takes, beside the least that the same work can take on this machine.
//!
//! Ratios count, absolutes do not: the floor (`floor/`) does the job's reads, calls and writes with bare clients and
//! nothing of the job around them, on an identical copy of the same database, in turn with the job. Servers and
//! simulator are processes that share the machine with whoever is measured.
//!
//! | variable | meaning |
//! |---|---|
//! | `BENCH_CHARACTERS` | due characters, 1,000,000 unless told otherwise; fewer for a quick look |
//! | `BENCH_ROUNDS` | times that floor and job take turns, 2 unless told otherwise |
//!
//! There is no error handling here: whatever goes wrong ends the bench with a message.

mod floor;
mod ground;
mod job;
mod load;
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

#[tokio::main]
async fn main() {
    let characters = number("BENCH_CHARACTERS", CHARACTERS).max(FEWEST);
    let rounds = number("BENCH_ROUNDS", ROUNDS).max(1);
    let mut table = Table::new();

    table.say(&format!("building {characters} characters"));
    let ground = Ground::build(characters).await;
    table.say(&format!("{} | {rounds} rounds", ground.describe().await));

    let unchanged = sweep::measure(&ground, Load::Unchanged, rounds, &mut table).await;
    short::measure(&ground, &mut table).await;
    let changed = sweep::measure(&ground, Load::Changed, rounds, &mut table).await;
    drop(ground);

    let mut used = Vec::new();
    for part in [100, 10] {
        let few = Ground::build(characters.div_ceil(part).max(FEWEST)).await;
        used.push((few.crowd().len(), sweep::usage(&few).await));
    }
    used.push((characters, unchanged.max(changed)));
    table.usage(&used);
    tokens::measure(&mut table).await;
    table.print();
}

fn number(variable: &str, default: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text.trim().replace(['_', ','], "").parse().unwrap_or_else(|_| panic!("{variable}: not a number")),
        Err(_) => default,
    }
}
