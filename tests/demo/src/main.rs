//! The story of `make demo`: a community of 5,000 characters, the real `character-verifier` on real PostgreSQL, Redis
//! and Pushgateway, and a simulated ESI. Four runs: a quiet hour, a mixed one, a war that the circuit breaker stops,
//! and the approval; then `outbox-drain` publishes the events of all four.
//!
//! Every number on the screen is read from what the run left behind: its final log line, the audit log, the outbox,
//! the ledger, Redis and the Pushgateway. Nothing that the story expects is printed as if it had been found. A run that
//! ends with another exit code than the story needs ends the demo with what the run wrote.
//!
//! `KEEP=1` leaves everything up until Ctrl-C and prints the environment for running the binaries by hand. However the
//! demo ends, the harness's reaper ends the servers.

mod cast;
mod events;
mod evidence;
mod hour;
mod layout;
mod plot;
mod pushed;
mod stage;
mod summary;

use crate::{
    hour::{Hours, Run},
    layout::{Screen, thousands},
    stage::Stage,
};

const QUIET: Run = Run {
    title: "1 · A quiet hour",
    what_happens: "Nobody has moved since the last check, an hour ago by the stored time stamps. The verifier asks ESI \
                   about everybody, a thousand to a call, tries the stored SSO tokens, and has no reason to touch a \
                   session.",
    in_the_same_hour: false,
    approve: false,
    exit_code: 0,
    others: None,
    explain: plot::KESTREL_PILOT,
};

const MIXED: Run = Run {
    title: "2 · An ordinary hour",
    what_happens: "Some moved, some left, one was deleted, one was sold, one revoked the token; and of one character a \
                   single answer of ESI is wrong. A session goes only when a second source confirms it, or the token \
                   names a new owner.",
    others: Some(("Neither a friendly move, nor a revoked token, nor one source alone costs a session", plot::KEEPERS)),
    explain: plot::LEAVER,
    ..QUIET
};

const WAR: Run = Run {
    title: "3 · War",
    what_happens: "The corporation Kestrel Wing leaves the Northern Accord for the Crimson Pact, with all its pilots in \
                   one hour. That may be the truth, or a fault upstream, so the circuit breaker takes no session and \
                   leaves it to a person.",
    exit_code: 77,
    others: Some(("Of whom one answer was wrong an hour ago", plot::MISTAKEN)),
    ..QUIET
};

const APPROVAL: Run = Run {
    title: "4 · The operator approves",
    what_happens: "It is the truth, so an operator runs the job once with the approval. Each held verdict is looked at \
                   again and confirmed by a second source before its session goes; a pilot who had come back meanwhile \
                   would stay.",
    in_the_same_hour: true,
    approve: true,
    ..QUIET
};

#[tokio::main]
async fn main() {
    let stage = Stage::set_up().await;
    let mut hours = Hours::new(&stage).await;
    hours.play(&QUIET).await;
    plot::mixed_hour(&stage);
    hours.play(&MIXED).await;
    plot::war(&stage);
    hours.play(&WAR).await;
    hours.play(&APPROVAL).await;
    events::drain(&stage).await;
    close(&stage).await;
}

/// What the simulated ESI thought of its client; and with `KEEP=1`, the wait for Ctrl-C.
async fn close(stage: &Stage) {
    let mut screen = Screen::titled("The end");
    let violations = stage.esi.violations();
    let requests = thousands(stage.esi.requests().len());
    screen.text(&match violations.first() {
        None => format!("The simulated ESI and SSO took {requests} requests and saw no rule of theirs broken."),
        Some(first) => format!(
            "The simulated ESI and SSO took {requests} requests and saw rules of theirs broken, {} times; first: {first}",
            thousands(violations.len())
        ),
    });
    if std::env::var("KEEP").is_ok_and(|keep| keep == "1") {
        screen.text("Everything stays up until Ctrl-C. To run the binaries by hand, in another terminal:");
        screen.line("");
        for (name, value) in stage.environment() {
            screen.line(&format!("export {name}={value}"));
        }
        screen.line("");
        screen.command(&format!("{} --help", stage::program("character-verifier")));
        screen.show();
        // Where the signal cannot be waited for, there is nothing to wait for.
        let _ = tokio::signal::ctrl_c().await;
    } else {
        screen.text("The servers end now, and their data with them. make demo KEEP=1 leaves them up.");
        screen.show();
    }
}
