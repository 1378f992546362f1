//! One case of the table: what is wrong, and what has to come of it.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use esi_simulator::Fault;
use harness::{Finished, Pushgateway};
use suites::{outcome, with_sso};
use tokio::{sync::Semaphore, task::LocalSet};

use crate::cast::{ALL, Cast, Mark, Who};

/// Cases at work at a time: more would only wait for each other's processor time.
const AT_ONCE: usize = 10;
/// No run of a case may take longer, whatever the fault.
const BOUND: Duration = Duration::from_secs(25);
const JOB: &str = "character-verifier";

/// A fault with its expectations. Unless told otherwise the run ends 0, `done`, everybody is verified, the leaver alone
/// loses the session, no call fails, and no rule of ESI is broken; and the same a day later in fair weather.
pub(crate) struct Case {
    name: &'static str,
    faults: Vec<Fault>,
    bend: fn(&Cast),
    mend: fn(&Cast),
    env: Vec<(&'static str, &'static str)>,
    knows_subject: bool,
    checks_tokens: bool,
    code: i32,
    outcome: &'static str,
    marks: BTreeMap<Who, Mark>,
    loses: Vec<Who>,
    loses_later: Vec<Who>,
    errors: Option<Vec<&'static str>>,
    counters: Vec<(&'static str, i64)>,
    after: Option<fn(&Cast) -> Checks>,
}

/// Further checks after the run in bad weather.
pub(crate) type Checks = std::pin::Pin<Box<dyn Future<Output = ()>>>;

/// A case by its name.
pub(crate) fn case(name: &'static str) -> Case {
    Case {
        name,
        faults: Vec::new(),
        bend: |_| (),
        mend: |_| (),
        env: Vec::new(),
        knows_subject: true,
        checks_tokens: false,
        code: 0,
        outcome: "done",
        marks: ALL.map(|who| (who, Mark::Verified)).into(),
        loses: vec![Who::Leaver],
        loses_later: vec![Who::Leaver],
        errors: Some(Vec::new()),
        counters: Vec::new(),
        after: None,
    }
}

impl Case {
    /// This fault is in force during the first run.
    pub(crate) fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// The world is changed before the first run, and stays so.
    pub(crate) fn bend(mut self, bend: fn(&Cast)) -> Self {
        self.bend = bend;
        self
    }

    /// The world is changed before the second run.
    pub(crate) fn mend(mut self, mend: fn(&Cast)) -> Self {
        self.mend = mend;
        self
    }

    /// Set for both runs.
    pub(crate) fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.push((name, value));
        self
    }

    /// ESI has never heard of the subject.
    pub(crate) fn nobody_knows_the_subject(mut self) -> Self {
        self.knows_subject = false;
        self
    }

    /// Tokens are checked in both runs.
    pub(crate) fn with_tokens(mut self) -> Self {
        self.checks_tokens = true;
        self
    }

    /// The run ends so.
    pub(crate) fn ends(mut self, code: i32, outcome: &'static str) -> Self {
        (self.code, self.outcome) = (code, outcome);
        self
    }

    /// These are marked so.
    pub(crate) fn marks(mut self, mark: Mark, who: &[Who]) -> Self {
        self.marks.extend(who.iter().map(|who| (*who, mark)));
        self
    }

    /// These lose a session in the first run.
    pub(crate) fn loses(mut self, who: &[Who]) -> Self {
        self.loses = who.to_vec();
        self
    }

    /// These have lost it after the second run.
    pub(crate) fn loses_later(mut self, who: &[Who]) -> Self {
        self.loses_later = who.to_vec();
        self
    }

    /// Calls fail so in the first run, each at least once, and in no other way.
    pub(crate) fn errors(mut self, codes: &[&'static str]) -> Self {
        self.errors = Some(codes.to_vec());
        self
    }

    /// The call that hangs is given up together with the run, before or after it is counted.
    pub(crate) fn any_errors(mut self) -> Self {
        self.errors = None;
        self
    }

    /// A counter stands at this after the first run (0: not there).
    pub(crate) fn counts(mut self, series: &'static str, value: i64) -> Self {
        self.counters.push((series, value));
        self
    }

    /// Looks further after the first run.
    pub(crate) fn after(mut self, after: fn(&Cast) -> Checks) -> Self {
        self.after = Some(after);
        self
    }

    /// Nothing is said of anybody: the run ends without a verdict, and with everybody as before.
    pub(crate) fn untouched(self) -> Self {
        self.marks(Mark::Untouched, &ALL).loses(&[])
    }

    /// ESI is found to be down before anybody is asked about.
    pub(crate) fn down(self) -> Self {
        self.ends(0, "upstream_down").untouched().counts("battlescope_characters_verified_total{success}", 0)
    }

    /// Everybody is unknown.
    pub(crate) fn all_unknown(self) -> Self {
        self.ends(0, "upstream_down")
            .marks(Mark::Attempted, &ALL)
            .loses(&[])
            .counts("battlescope_characters_verified_total{success}", 0)
            .counts("battlescope_characters_verified_total{skipped}", 5)
    }

    async fn play(&self, pushgateway: &Pushgateway) {
        let cast = Cast::new(self.knows_subject).await;
        let (stage, community) = (&cast.stage, &cast.stage.community);
        (self.bend)(&cast);
        for fault in &self.faults {
            stage.sim.faults().add(fault.clone());
        }
        let before = cast.before().await;
        let run = self.run(&cast, pushgateway).await;

        let told = outcome(&run);
        assert_eq!((run.code, told["outcome"].as_str()), (Some(self.code), Some(self.outcome)), "{run}");
        assert!(run.duration < BOUND, "{run}");
        assert_eq!(cast.marks(&before).await, self.marks, "{run}");
        assert_eq!(cast.lost().await, self.loses, "{run}");
        cast.assert_whole().await;
        let untouched = self.marks.values().filter(|mark| **mark == Mark::Untouched).count();
        if self.code == 0 {
            // What was looked at and stays due is met by the next run too, but this one did not leave it out.
            assert_eq!(told["remaining"].as_u64(), Some(untouched as u64), "{run}");
        }
        let counters = community.counters(JOB).await;
        for (series, value) in &self.counters {
            assert_eq!(counters.get(*series).copied().unwrap_or(0), *value, "{series}: {counters:#?}\n{run}");
        }
        let prefix = "battlescope_character_verification_esi_errors_total{";
        let errors: Vec<&str> =
            counters.keys().filter_map(|name| name.strip_prefix(prefix)?.strip_suffix('}')).collect();
        if let Some(expected) = &self.errors {
            assert_eq!(errors, *expected, "{run}");
        }
        self.assert_pushed(pushgateway, &counters);
        if let Some(after) = self.after {
            after(&cast).await;
        }
        assert_eq!(stage.sim.violations(), Vec::<String>::new(), "{run}");

        stage.sim.faults().clear();
        (self.mend)(&cast);
        stage.forgive();
        // Beyond the longest time for which ESI lets an answer be kept.
        stage.later(24 * 60 + 1).await;
        let before = cast.before().await;
        let run = self.run(&cast, pushgateway).await.expect_code(0);
        assert_eq!(outcome(&run)["outcome"], "done", "{run}");
        for (who, mark) in cast.marks(&before).await {
            let expected = if who == Who::Subject && !self.knows_subject { Mark::Attempted } else { Mark::Verified };
            assert_eq!(mark, expected, "{who:?} in fair weather:\n{run}");
        }
        assert_eq!(cast.lost().await, self.loses_later, "{run}");
        assert_eq!(community.candidates().await, [], "{run}");
        cast.assert_whole().await;
    }

    async fn run(&self, cast: &Cast, pushgateway: &Pushgateway) -> Finished {
        let verifier = cast
            .stage
            .verifier()
            .env("PUSHGATEWAY_URL", pushgateway.url())
            .env("POD_NAMESPACE", self.name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        let verifier = if self.checks_tokens { with_sso(verifier) } else { verifier };
        self.env.iter().fold(verifier, |verifier, (name, value)| verifier.env(*name, *value)).run().await
    }

    fn assert_pushed(&self, pushgateway: &Pushgateway, counters: &BTreeMap<String, i64>) {
        let namespace = self.name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let value = |name, label: Option<(&str, &str)>| {
            let labels: Vec<(&str, &str)> = [("namespace", namespace.as_str())].into_iter().chain(label).collect();
            pushgateway.value(name, &labels)
        };
        assert_eq!(value("rollcall_job_last_exit_code", None), Some(f64::from(self.code)));
        assert_eq!(value("rollcall_job_in_progress", None), Some(0.0));
        let succeeded = self.outcome == "done" || self.outcome == "nothing_to_do";
        assert_eq!(value("rollcall_job_last_success_timestamp_seconds", None).is_some(), succeeded);
        for status in ["success", "failed", "skipped"] {
            let name = "battlescope_characters_verified_total";
            let stored = counters.get(&format!("{name}{{{status}}}")).copied().unwrap_or(0);
            assert_eq!(value(name, Some(("status", status))), Some(stored as f64), "{status}");
        }
    }
}

/// Plays all cases, a few at a time, and names those that failed.
pub(crate) async fn play(cases: Vec<Case>) {
    let pushgateway = Rc::new(Pushgateway::start());
    let wanted = std::env::var("ROLLCALL_CASE").ok();
    let seats = Rc::new(Semaphore::new(AT_ONCE));
    let local = LocalSet::new();
    let mut playing = Vec::new();
    for case in cases {
        if wanted.as_ref().is_some_and(|wanted| !case.name.contains(wanted)) {
            continue;
        }
        let (seats, pushgateway, name) = (Rc::clone(&seats), Rc::clone(&pushgateway), case.name);
        let work = local.spawn_local(async move {
            let _seat = seats.acquire().await.unwrap();
            case.play(&pushgateway).await;
        });
        playing.push((name, work));
    }
    let failed = local
        .run_until(async {
            let mut failed = Vec::new();
            for (name, work) in playing {
                if let Err(error) = work.await {
                    let panic = error.into_panic();
                    let text = panic.downcast_ref::<String>().map_or("a failed assertion", String::as_str);
                    failed.push(format!("--- {name}\n{text}"));
                }
            }
            failed
        })
        .await;
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
}
