//! The runs of the verifier, each with its screen.

use std::collections::BTreeMap;

use harness::Binary;

use crate::{
    cast,
    evidence::{self, Loss, Mark, Standing},
    layout::{Screen, thousands},
    pushed,
    stage::{self, Stage},
    summary,
};

/// Rows up to which a list is shown whole.
const WHOLE: usize = 6;
/// Rows shown of a longer one.
const SHOWN: usize = 3;

/// A run, and what is told of it.
pub(crate) struct Run {
    /// Title of the screen.
    pub(crate) title: &'static str,
    /// What happens in this hour.
    pub(crate) what_happens: &'static str,
    /// Not an hour of its own: who lost a session is told from where they stood before the last run.
    pub(crate) in_the_same_hour: bool,
    /// With the operator's approval of a mass invalidation.
    pub(crate) approve: bool,
    /// The exit code without which the story cannot go on.
    pub(crate) exit_code: i32,
    /// Others who are looked at, under a heading: place, and what happened.
    pub(crate) others: Option<(&'static str, &'static [(usize, &'static str)])>,
    /// Who is explained, by place.
    pub(crate) explain: usize,
}

/// Plays the runs one after the other and remembers what was before.
pub(crate) struct Hours<'a> {
    stage: &'a Stage,
    /// Where everybody stood before the hour began.
    before: Standing,
    mark: Mark,
    live: usize,
}

impl<'a> Hours<'a> {
    /// Before the first.
    pub(crate) async fn new(stage: &'a Stage) -> Self {
        Self {
            stage,
            before: Standing::new(),
            mark: evidence::mark(&stage.db).await,
            live: evidence::live_sessions(&stage.db).await,
        }
    }

    /// Runs the verifier and shows what came of it.
    ///
    /// # Panics
    /// It ended with another exit code than the story needs; the message shows what it wrote.
    pub(crate) async fn play(&mut self, run: &Run) {
        if !run.in_the_same_hour {
            self.before = evidence::standing(&self.stage.db).await;
        }
        let mut screen = Screen::titled(run.title);
        screen.text(run.what_happens);
        screen.line("");
        let program = stage::program("character-verifier");
        let mut verifier = self.stage.verifier();
        if run.approve {
            verifier = verifier.env("APPROVE_MASS_INVALIDATION", "true");
            screen.command(&format!("APPROVE_MASS_INVALIDATION=true {program}"));
        } else {
            screen.command(&program);
        }
        screen.show();
        let finished = verifier.run().await.expect_code(run.exit_code);
        summary::show(&mut screen, &finished);
        screen.line("");
        self.tell_losses(&mut screen).await;
        if let Some((heading, others)) = run.others {
            screen.heading(heading);
            self.tell_others(&mut screen, others).await;
        }
        screen.heading("The Pushgateway holds (…_total: over all runs so far; series that are 0 left out)");
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
            screen.heading(&format!("Held by the circuit breaker until somebody approves: {}", thousands(held.len())));
            self.list(screen, &held);
        }
    }

    /// All of a short list; of a longer one the first, and how many by which rule.
    fn list(&self, screen: &mut Screen, losses: &[Loss]) {
        let shown = if losses.len() > WHOLE { SHOWN } else { WHOLE };
        let rows = losses.iter().take(shown).map(|loss| {
            let from = self.before.get(&loss.eve_id).map_or("unknown", String::as_str);
            let way =
                if from == loss.organisation { from.to_owned() } else { format!("{from} → {}", loss.organisation) };
            vec![loss.name.clone(), way, loss.rule.clone()]
        });
        screen.table(&rows.collect::<Vec<_>>());
        if losses.len() > shown {
            let mut rules: BTreeMap<&str, usize> = BTreeMap::new();
            for loss in losses {
                *rules.entry(&loss.rule).or_default() += 1;
            }
            let rules: Vec<String> = rules.iter().map(|(rule, n)| format!("{rule} {}", thousands(*n))).collect();
            screen.line(&format!(
                "  … and {} more; all by rule: {}",
                thousands(losses.len() - shown),
                rules.join(", ")
            ));
        }
    }

    async fn tell_others(&self, screen: &mut Screen, others: &[(usize, &str)]) {
        let mut rows = Vec::new();
        for &(place, what) in others {
            let kept = self.stage.community.has_session(&self.stage.crowd.session_token(place)).await;
            rows.push(vec![
                cast::name(place),
                what.to_owned(),
                if kept { "session kept" } else { "SESSION LOST" }.to_owned(),
                evidence::verdict(&self.stage.db, self.stage.crowd.eve_id(place)).await,
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
