//! Why it is slow, when it is slow.

use std::{collections::BTreeMap, convert::Infallible, fmt, time::Duration};

use job::JobError;
use outbox::Sink;
use store::outbox::state::{Diagnosis, diagnose};
use tokio::time::Instant;
use tracing::warn;

use crate::drain::Drain;

/// Time over which a pace is measured.
const WINDOW: Duration = Duration::from_secs(2);
/// Time between two looks whether a step does not end.
const WATCH: Duration = Duration::from_secs(1);
/// A step that is under way for so long is looked into before it ends: it may never.
const STUCK: Duration = Duration::from_secs(2);
/// Time between two lines about the same thing.
const SAY_AGAIN: Duration = Duration::from_secs(30);
/// A step of a page that takes longer on average is slow: it is usually a hundred times faster.
const SLOW: Duration = Duration::from_millis(250);
/// Dead rows that a reader can step over without anybody noticing.
const DEAD_ROWS: i64 = 50_000;

/// Times of the present window.
#[derive(Debug)]
pub(crate) struct Pace {
    since: Instant,
    said: BTreeMap<Cause, Instant>,
    /// `status` says why it is slow.
    is_noted: bool,
    /// Why it was slow last.
    reasons: String,
    /// Sharing the partitions and looking where to begin.
    pub(crate) shared: Step,
    /// Reading a page.
    pub(crate) read: Step,
    /// Publishing one.
    pub(crate) published: Step,
    /// Deleting what is published.
    pub(crate) settled: Step,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            said: BTreeMap::new(),
            is_noted: false,
            reasons: String::new(),
            shared: Step::default(),
            read: Step::default(),
            published: Step::default(),
            settled: Step::default(),
        }
    }
}

/// Why it can be slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    Lock,
    DeadRows,
    Sharing,
    Publishing,
    Reading,
    Deleting,
}

/// One of the steps that a page goes through.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Step {
    ended: u32,
    took: Duration,
    under_way: u32,
    since: Option<Instant>,
}

impl Step {
    /// A page begins with it.
    pub(crate) fn begin(&mut self) {
        self.under_way += 1;
        self.since.get_or_insert_with(Instant::now);
    }

    /// The page that was longest in it is through.
    pub(crate) fn end(&mut self) {
        let now = Instant::now();
        self.took += self.since.map_or(Duration::ZERO, |since| now - since);
        self.ended += 1;
        self.under_way = self.under_way.saturating_sub(1);
        // Of those behind it only this is known: nothing kept them from being through by now.
        self.since = (self.under_way > 0).then_some(now);
    }

    /// For how long the present one has lasted.
    fn lasts(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// On average, or by now.
    fn time(&self) -> Duration {
        (self.took / self.ended.max(1)).max(self.lasts())
    }
}

/// Average times of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    shared: Duration,
    read: Duration,
    published: Duration,
    settled: Duration,
}

impl Pace {
    /// Steps that were under way were given up.
    pub(crate) fn nothing_under_way(&mut self) {
        for step in [&mut self.shared, &mut self.read, &mut self.published, &mut self.settled] {
            (step.under_way, step.since) = (0, None);
        }
    }

    /// The times, if the window is over or a step does not end.
    fn due(&self) -> Option<Times> {
        let steps = [self.shared, self.read, self.published, self.settled];
        let is_stuck = steps.iter().any(|step| step.lasts() >= STUCK);
        let [shared, read, published, settled] = steps.map(|step| step.time());
        let times = Times { shared, read, published, settled };
        (is_stuck || self.since.elapsed() >= WINDOW).then_some(times)
    }

    /// Whether one of these causes was not told lately; then all of them are.
    fn is_news(&mut self, causes: impl Iterator<Item = Cause> + Clone) -> bool {
        self.said.retain(|_, at| at.elapsed() < SAY_AGAIN);
        let is_news = causes.clone().any(|cause| !self.said.contains_key(&cause));
        if is_news {
            self.said.extend(causes.map(|cause| (cause, Instant::now())));
        }
        is_news
    }

    /// A new window begins; what is under way goes on.
    fn begin_window(&mut self) {
        self.since = Instant::now();
        for step in [&mut self.shared, &mut self.read, &mut self.published, &mut self.settled] {
            (step.ended, step.took) = (0, Duration::ZERO);
        }
    }
}

impl<S: Sink> Drain<'_, S> {
    /// Looks, now and then, whether the drain is slow, and says why in one line and in `status`. Of a bounded run `status` goes on
    /// saying why it was.
    pub(crate) async fn say_if_slow(&self) {
        let Some(times) = self.pace.borrow().due() else { return };
        self.pace.borrow_mut().begin_window();
        if let Err(error) = self.look_why(times).await {
            warn!(%error, "why the drain is slow could not be told");
        }
    }

    /// The same while a step does not end, for as long as a pass goes on.
    pub(crate) async fn watch(&self) -> Infallible {
        loop {
            tokio::time::sleep(WATCH).await;
            self.say_if_slow().await;
        }
    }

    /// Takes the note back when a window has gone by without a reason: also where there is nothing more to do, and so no page
    /// after which it would be looked at.
    pub(crate) async fn take_note_back(&self) {
        let is_noted = self.pace.borrow().is_noted;
        if is_noted {
            self.say_if_slow().await;
        }
    }

    /// What `status` says when it is over, or the run is.
    pub(crate) async fn note_that_it_was_slow(&self) {
        let was = {
            let mut pace = self.pace.borrow_mut();
            if !std::mem::take(&mut pace.is_noted) {
                return;
            }
            format!("was slow: {}", pace.reasons)
        };
        if let Err(error) = self.ctx.note(Some(&was)).await {
            warn!(%error, "why the drain was slow could not be noted");
        }
    }

    async fn look_why(&self, times: Times) -> Result<(), JobError> {
        let diagnosis = self.ctx.db.transaction("look what is slow", async |tx| diagnose(tx).await).await?;
        let reasons = reasons(times, &diagnosis);
        let is_news = self.pace.borrow_mut().is_news(reasons.iter().map(|(cause, _)| *cause));
        let is_noted = self.pace.borrow().is_noted;
        if reasons.is_empty() {
            if is_noted {
                if self.ctx.run.is_worker {
                    self.ctx.note(None).await?;
                    self.pace.borrow_mut().is_noted = false;
                } else {
                    self.note_that_it_was_slow().await;
                }
            }
            return Ok(());
        }
        let reasons = reasons.into_iter().map(|(_, reason)| reason).collect::<Vec<_>>().join("; ");
        if is_news {
            let Times { shared, read, published, settled } = times;
            warn!(?shared, ?read, ?published, ?settled, dead_rows = diagnosis.dead_rows, reasons, "slow");
        }
        if is_news || !is_noted {
            self.pace.borrow_mut().reasons.clone_from(&reasons);
            // Before: of one that failed nobody knows whether it was written.
            self.pace.borrow_mut().is_noted = true;
            self.ctx.note(Some(&format!("slow: {reasons}"))).await?;
        }
        Ok(())
    }
}

fn reasons(times: Times, diagnosis: &Diagnosis) -> Vec<(Cause, String)> {
    let mut reasons = Vec::new();
    let open_for = |age: Option<f64>| age.map(|age| format!(", open for {age:.0} s")).unwrap_or_default();
    if let Some(blocker) = &diagnosis.blocker {
        let reason = format!(
            "session pid {} ({}{}) holds a lock that {} of the outbox's sessions wait for: end it",
            blocker.pid,
            blocker.name,
            open_for(blocker.age_seconds),
            blocker.waiting
        );
        reasons.push((Cause::Lock, reason));
    }
    if let Some(holder) = diagnosis.holder.as_ref().filter(|_| diagnosis.dead_rows > DEAD_ROWS || times.read > SLOW) {
        let pid = holder.pid.map(|pid| format!(" pid {pid}")).unwrap_or_default();
        let reason = format!(
            "{}{pid} ({}{}) keeps {} dead rows of the outbox from being cleaned up: end it",
            holder.kind,
            holder.name,
            open_for(holder.age_seconds),
            diagnosis.dead_rows
        );
        reasons.push((Cause::DeadRows, reason));
    }
    let mut step = |cause: Cause, name: &str, took: Duration, of: &dyn fmt::Display| {
        if took > SLOW {
            reasons.push((cause, format!("{name} a page takes {} ms: look at {of}", took.as_millis())));
        }
    };
    step(Cause::Sharing, "sharing the partitions, before", times.shared, &"PostgreSQL's locks, and Redis");
    step(Cause::Publishing, "publishing", times.published, &"the sink");
    step(Cause::Reading, "reading", times.read, &"PostgreSQL");
    step(Cause::Deleting, "deleting", times.settled, &"PostgreSQL's disk and locks");
    reasons
}

#[cfg(test)]
mod tests {
    use store::outbox::state::{Blocker, Holder};

    use super::*;

    #[test]
    fn the_reason_names_who_and_what() {
        let fast =
            Times { shared: Duration::ZERO, read: Duration::ZERO, published: Duration::ZERO, settled: Duration::ZERO };
        let calm = Diagnosis { dead_rows: 0, holder: None, blocker: None };
        assert!(reasons(fast, &calm).is_empty());
        let holder = Holder { kind: "session".into(), pid: Some(7), name: "report".into(), age_seconds: Some(61.2) };
        let pinned = Diagnosis { dead_rows: 60_000, holder: Some(holder), blocker: None };
        let told = &reasons(fast, &pinned)[0].1;
        assert!(told.contains("pid 7 (report, open for 61 s) keeps 60000 dead rows"), "{told}");
        let blocker = Blocker { waiting: 2, pid: 9, name: "psql".into(), age_seconds: None };
        let locked = Diagnosis { blocker: Some(blocker), ..calm.clone() };
        let told = &reasons(fast, &locked)[0].1;
        assert_eq!(told, "session pid 9 (psql) holds a lock that 2 of the outbox's sessions wait for: end it");
        let slow = Times { published: Duration::from_secs(2), ..fast };
        let told = (Cause::Publishing, "publishing a page takes 2000 ms: look at the sink".to_owned());
        assert_eq!(reasons(slow, &calm), [told]);
    }
    #[tokio::test(start_paused = true)]
    async fn a_step_that_does_not_end_is_looked_into() {
        let mut pace = Pace::default();
        pace.published.begin();
        tokio::time::advance(STUCK).await;
        assert_eq!(pace.due().map(|times| times.published), Some(STUCK));
        pace.published.end();
        pace.begin_window();
        assert_eq!(pace.due(), None);
        tokio::time::advance(WINDOW).await;
        assert_eq!(pace.due().map(|times| times.published), Some(Duration::ZERO));
    }
    #[tokio::test(start_paused = true)]
    async fn the_same_cause_is_told_again_after_a_while_and_another_one_at_once() {
        let mut pace = Pace::default();
        let one = || [Cause::Publishing].into_iter();
        assert!(pace.is_news(one()));
        assert!(!pace.is_news(one()));
        assert!(pace.is_news([Cause::Publishing, Cause::DeadRows].into_iter()));
        tokio::time::advance(SAY_AGAIN).await;
        assert!(pace.is_news(one()));
        assert!(!pace.is_news([].into_iter()));
    }
}
