//! One run of the verifier and its screen.

use std::collections::BTreeMap;

use harness::{Binary, Finished};
use serde_json::Value;

use crate::{
    evidence::{self, Loss, Mark, Standing},
    layout::{Screen, thousands},
    pushed,
    stage::{self, Stage},
};

/// Rows shown of a longer list.
const SHOWN: usize = 6;

/// What is run, and who is looked at.
pub(crate) struct Run {
    /// With the operator's approval of a mass invalidation.
    pub(crate) approve: bool,
    /// The exit code that the story needs.
    pub(crate) exit_code: i32,
    /// Who is explained, by place.
    pub(crate) explain: usize,
    /// Who else has a story, by place, and what happened.
    pub(crate) story: &'static [(usize, &'static str)],
}

/// Plays the runs one after the other and remembers what was before.
pub(crate) struct Hour<'a> {
    stage: &'a Stage,
    /// Where everybody stood before the hour began.
    before: Standing,
    /// Where they stand since the last run.
    now: Standing,
    mark: Mark,
    live: usize,
}

impl<'a> Hour<'a> {
    /// Before the first.
    pub(crate) async fn new(stage: &'a Stage) -> Self {
        let now = evidence::standing(&stage.db).await;
        let mark = evidence::mark(&stage.db).await;
        Self { stage, before: now.clone(), now, mark, live: evidence::live_sessions(&stage.db).await }
    }

    /// The stage.
    pub(crate) fn stage(&self) -> &'a Stage {
        self.stage
    }

    /// The screen of a new hour.
    pub(crate) fn begin(&mut self, title: &str, what_happens: &str) -> Screen {
        self.before.clone_from(&self.now);
        self.begin_again(title, what_happens)
    }

    /// The screen of another run in the same hour.
    #[expect(clippy::unused_self, reason = "the counterpart of begin")]
    pub(crate) fn begin_again(&self, title: &str, what_happens: &str) -> Screen {
        let mut screen = Screen::titled(title);
        screen.text(what_happens);
        screen
    }

    /// Runs the verifier and shows what came of it.
    ///
    /// # Panics
    /// It ended otherwise than the story says.
    pub(crate) async fn play(&mut self, mut screen: Screen, run: &Run) {
        let program = stage::program("character-verifier");
        let mut verifier = self.stage.verifier();
        screen.line("");
        if run.approve {
            verifier = verifier.env("APPROVE_MASS_INVALIDATION", "true");
            screen.command(&format!("APPROVE_MASS_INVALIDATION=true {program}"));
        } else {
            screen.command(&program);
        }
        let finished = verifier.run().await.expect_code(run.exit_code);
        summary(&mut screen, &finished);
        screen.line("");

        self.now = evidence::standing(&self.stage.db).await;
        self.tell_losses(&mut screen).await;
        self.tell_story(&mut screen, run.story).await;
        screen.heading("The Pushgateway holds (…_total: over all runs so far; values that are not 0)");
        screen.table(&pushed::interesting(&self.stage.pushgateway));
        screen.line("");
        self.ask(&mut screen, &["status", "--limit", "4"]).await;
        let id = self.stage.crowd.eve_id(run.explain).to_string();
        self.ask(&mut screen, &["explain", "--character", &id]).await;
        screen.show();
        self.mark = evidence::mark(&self.stage.db).await;
    }

    async fn tell_losses(&mut self, screen: &mut Screen) {
        let db = &self.stage.db;
        let losses = evidence::losses(db, self.mark).await;
        let live = evidence::live_sessions(db).await;
        let sessions = format!("live sessions in Redis: {} before, {} now", thousands(self.live), thousands(live));
        self.live = live;
        if losses.is_empty() {
            screen.heading(&format!("Nobody lost a session ({sessions})"));
        } else {
            let events = thousands(evidence::events(db, self.mark).await);
            let lost = thousands(losses.len());
            screen.heading(&format!("Lost a session: {lost} audit rows, {events} outbox events ({sessions})"));
            self.list(screen, &losses);
        }
        let held = evidence::held(db).await;
        if !held.is_empty() {
            screen.heading(&format!("Held by the circuit breaker, session untouched: {}", thousands(held.len())));
            self.list(screen, &held);
        }
    }

    /// The first of them, and how many by which rule if there are more.
    fn list(&self, screen: &mut Screen, losses: &[Loss]) {
        let rows = losses.iter().take(SHOWN).map(|loss| {
            let from = self.before.get(&loss.eve_id).map_or("unknown", String::as_str);
            let way =
                if from == loss.organisation { from.to_owned() } else { format!("{from} → {}", loss.organisation) };
            vec![loss.name.clone(), way, loss.rule.clone()]
        });
        screen.table(&rows.collect::<Vec<_>>());
        if losses.len() > SHOWN {
            let mut rules: BTreeMap<&str, usize> = BTreeMap::new();
            for loss in losses {
                *rules.entry(&loss.rule).or_default() += 1;
            }
            let rules: Vec<String> = rules.iter().map(|(rule, n)| format!("{rule} {}", thousands(*n))).collect();
            screen.line(&format!("  … and {} more; in all: {}", thousands(losses.len() - SHOWN), rules.join(", ")));
        }
    }

    async fn tell_story(&self, screen: &mut Screen, story: &[(usize, &str)]) {
        if story.is_empty() {
            return;
        }
        screen.heading("And these?");
        let mut rows = Vec::new();
        for &(place, what) in story {
            let eve_id = self.stage.crowd.eve_id(place);
            let kept = self.stage.community.has_session(&self.stage.crowd.session_token(place)).await;
            rows.push(vec![
                crate::cast::name(place),
                what.to_owned(),
                if kept { "session kept" } else { "SESSION LOST" }.to_owned(),
                evidence::verdict(&self.stage.db, eve_id).await,
            ]);
        }
        screen.table(&rows);
    }

    /// A subcommand of the verifier, and what it answers.
    async fn ask(&self, screen: &mut Screen, arguments: &[&str]) {
        screen.command(&format!("{} {}", stage::program("character-verifier"), arguments.join(" ")));
        let binary = arguments.iter().copied().fold(self.stage.verifier(), Binary::arg);
        let answer = binary.run().await.expect_code(0);
        screen.output(&answer.stdout);
    }
}

/// From the final log line.
fn summary(screen: &mut Screen, finished: &Finished) {
    let last = finished.last();
    let number = |name: &str| last[name].as_u64().map_or_else(|| "?".to_owned(), |n| n.to_string());
    let counts =
        ["scanned", "changed", "skipped", "failed", "remaining"].map(|name| format!("{name} {}", number(name)));
    screen.line(&format!(
        "outcome {}, exit code {}, {} ms: {}",
        last["outcome"].as_str().unwrap_or("?"),
        finished.code.map_or_else(|| "none".to_owned(), |code| code.to_string()),
        number("duration_ms"),
        counts.join(", "),
    ));
    let details: Option<Value> = last["details"].as_str().and_then(|text| serde_json::from_str(text).ok());
    if let Some(details) = details.as_ref().and_then(Value::as_object) {
        let details: Vec<String> = details.iter().map(|(name, value)| format!("{name} {value}")).collect();
        screen.note(&details.join(", "));
    }
    if let Some(note) = last["note"].as_str() {
        screen.note(note);
    }
}
