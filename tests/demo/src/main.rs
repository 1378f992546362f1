//! The story of `make demo`: a community of 5,000 characters, the real `character-verifier` on real PostgreSQL, Redis
//! and Pushgateway, and a simulated ESI. Four runs: a quiet hour, a mixed one, a war that the circuit breaker stops,
//! and the approval.
//!
//! Every number on the screen is read from what the run left behind: its final log line, the audit log, the outbox,
//! the ledger, Redis and the Pushgateway. Nothing that the story expects is printed as if it had been found. A run that
//! ends otherwise than the story says ends the demo with what the run wrote.
//!
//! `KEEP=1` leaves everything up until Ctrl-C and prints the environment for running the binaries by hand. However the
//! demo ends, the harness's reaper ends the servers.

mod cast;
mod evidence;
mod hour;
mod layout;
mod plot;
mod pushed;
mod stage;

use crate::{
    hour::{Hour, Run},
    layout::{Screen, thousands},
    stage::Stage,
};

#[tokio::main]
async fn main() {
    let stage = Stage::set_up().await;
    let mut hour = Hour::new(&stage).await;
    quiet(&mut hour).await;
    mixed(&mut hour).await;
    war(&mut hour).await;
    peace(&mut hour).await;
    close(&stage).await;
}

async fn quiet(hour: &mut Hour<'_>) {
    let screen = hour.begin(
        "1 · A quiet hour",
        "Nobody has moved since the last check, an hour ago by the stored time stamps. The verifier asks ESI about \
         everybody, a thousand to a call, tries the stored SSO tokens, and has no reason to touch a session.",
    );
    let run = Run { approve: false, exit_code: 0, explain: plot::KESTREL_PILOT, story: &[] };
    hour.play(screen, &run).await;
}

async fn mixed(hour: &mut Hour<'_>) {
    plot::mixed_hour(hour.stage());
    let screen = hour.begin(
        "2 · An ordinary hour",
        "Some moved, some left, one was deleted, one was sold, one revoked the token; and of one character a single \
         answer of ESI is wrong. A session goes only when a second source confirms, or the token names a new owner.",
    );
    let run = Run { approve: false, exit_code: 0, explain: plot::LEAVER, story: plot::KEEPERS };
    hour.play(screen, &run).await;
    plot::calm(hour.stage());
}

async fn war(hour: &mut Hour<'_>) {
    plot::war(hour.stage());
    let screen = hour.begin(
        "3 · War",
        "The corporation Kestrel Wing leaves the Northern Accord for the Crimson Pact, with all its pilots in one hour. \
         That may be the truth or a broken upstream or list, so the circuit breaker takes no session and asks a person.",
    );
    let run = Run { approve: false, exit_code: 77, explain: plot::KESTREL_PILOT, story: &[] };
    hour.play(screen, &run).await;
}

async fn peace(hour: &mut Hour<'_>) {
    let screen = hour.begin_again(
        "4 · The operator approves",
        "It is the truth, so an operator runs the job once with the approval. Each held verdict is looked at again and \
         confirmed by a second source before its session goes; a pilot who had come back meanwhile would stay.",
    );
    let run = Run { approve: true, exit_code: 0, explain: plot::KESTREL_PILOT, story: &[] };
    hour.play(screen, &run).await;
}

/// What the simulated ESI thought of its client; and with `KEEP=1`, the wait for Ctrl-C.
async fn close(stage: &Stage) {
    let mut screen = Screen::titled("The end");
    let violations = stage.esi.violations();
    let requests = thousands(stage.esi.requests().len());
    match violations.first() {
        None => screen
            .text(&format!("The simulated ESI and SSO took {requests} requests and saw no rule of theirs broken.")),
        Some(first) => screen.text(&format!(
            "The simulated ESI and SSO took {requests} requests and saw {} rules broken, first: {first}",
            thousands(violations.len())
        )),
    }
    if std::env::var("KEEP").is_ok_and(|keep| keep == "1") {
        screen.text("Everything stays up until Ctrl-C. To run the binaries by hand, in another terminal:");
        screen.line("");
        for (name, value) in stage.environment() {
            screen.line(&format!("export {name}={value}"));
        }
        screen.line("");
        screen.line(&format!("{} --help", stage::program("character-verifier")));
        screen.show();
        // Without a handler for it the wait could not be ended anyway.
        let _ = tokio::signal::ctrl_c().await;
    } else {
        screen.text("The servers are ended and their data removed. `make demo KEEP=1` leaves them up.");
        screen.show();
    }
}
