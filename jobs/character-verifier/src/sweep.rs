//! The sweep: read a page of characters, ask ESI where they stand, write what was found. No session is touched here;
//! a verdict that would cost one becomes a candidate.

use std::cell::{Cell, RefCell};

use job::{
    Delta, JobError,
    batches::{Batch, Flow},
};
use sessions::Probe;
use store::{
    candidates, eve_characters,
    sweep::{Due, Place},
    unresolvable,
};
use time::OffsetDateTime;
use tracing::warn;

use crate::{
    decide::{self, Judgement, Reason, judge},
    dry_run::Preview,
    names,
    observe::{Cut, Observer, REFUSED},
    plan::{Plan, Row},
    run::{Run, millis},
};

/// Pages read at once.
const PAGES_A_READ: usize = 4;

/// What a sweep goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Candidates that earlier runs left, though not due.
    Kept,
    /// Everything that is due.
    Due,
}

/// One pass over the characters.
pub(crate) struct Sweep<'a> {
    run: &'a Run<'a>,
    pass: Pass,
    at: Cell<Place>,
    /// What was read and not claimed yet.
    read: RefCell<Page>,
    /// There is nothing more to read.
    exhausted: Cell<bool>,
    claimed: Cell<u64>,
    observer: Observer<'a>,
    /// Characters dealt with.
    pub scanned: Cell<u64>,
    /// Of these, unknown, though their brand has lists.
    pub unknown: Cell<u64>,
    /// Of these, characters of brands without lists, which say nothing about ESI.
    pub unlisted: Cell<u64>,
    /// Whether the cap of a run ended the pass.
    pub capped: Cell<bool>,
    /// Why it ended early.
    pub cut: RefCell<Option<Cut>>,
    preview: &'a Preview,
}

/// A page read from the database.
pub(crate) struct Page {
    due: Vec<Due>,
    read_at: OffsetDateTime,
}

/// A page with what is made of it.
pub(crate) struct Judged {
    rows: Vec<Row>,
    bad: Vec<(i64, &'static str)>,
    read_at: OffsetDateTime,
    cut: Option<Cut>,
}

impl<'a> Sweep<'a> {
    /// A pass from its start.
    pub(crate) fn new(run: &'a Run<'a>, pass: Pass, preview: &'a Preview) -> Self {
        Self {
            run,
            pass,
            at: Cell::new(Place::START),
            read: RefCell::new(Page { due: Vec::new(), read_at: run.terms.started_at }),
            exhausted: Cell::new(false),
            claimed: Cell::new(0),
            observer: Observer::new(run),
            scanned: Cell::new(0),
            unknown: Cell::new(0),
            unlisted: Cell::new(0),
            capped: Cell::new(false),
            cut: RefCell::new(None),
            preview,
        }
    }

    /// The next rows, several pages of `size` at once where no pause lies between them: planning a page costs as much as
    /// a fifth of reading it.
    async fn read(&self, size: usize) -> Result<Page, JobError> {
        let run = self.run;
        let pages = if run.settings.delay.is_zero() { PAGES_A_READ } else { 1 };
        let (limit, at) = (i64::try_from(size.saturating_mul(pages)).unwrap_or(i64::MAX), self.at.get());
        let (due, read_at) = run
            .ctx
            .db
            .transaction("read due characters", async |db| match self.pass {
                Pass::Kept => store::sweep::kept(db, &run.terms, at.eve_id, limit).await,
                Pass::Due => store::sweep::due(db, &run.terms, at, limit).await,
            })
            .await?;
        self.exhausted.set(i64::try_from(due.len()).is_ok_and(|rows| rows < limit));
        if let Some(last) = due.last() {
            self.at.set(last.place);
        }
        Ok(Page { due, read_at })
    }

    /// Marks rows whose verdict may cost a session, and asks whether one lives.
    async fn weigh(&self, rows: &mut [Row], read_at: OffsetDateTime) -> Result<(), JobError> {
        let gate = self.run.settings.gate;
        let grace = self.run.settings.grace;
        let mut at_stake: Vec<&mut Row> = rows
            .iter_mut()
            .filter(|row| match row.judgement {
                Judgement::Verdict { rule, .. } => decide::may_cost_a_session(&row.due, rule, gate, grace, read_at),
                _ => false,
            })
            .collect();
        let probes: Vec<Probe> = at_stake
            .iter()
            .map(|row| Probe {
                account_id: row.due.account_id,
                gate,
                character_id: row.due.character_id,
                observed_at: millis(read_at),
            })
            .collect();
        let live = self.run.sessions.probe(&probes).await.map_err(crate::session_error)?;
        for (row, live) in at_stake.iter_mut().zip(live) {
            row.at_stake = Some(live > 0);
        }
        Ok(())
    }

    /// One transaction, and then the lines that tell of it.
    async fn write(&self, plan: &mut Plan, bad: &[(i64, &'static str)]) -> Result<(), JobError> {
        let run = self.run;
        run.ctx
            .checkpoint("write verdicts", async |db, delta| {
                let written = eve_characters::write(db, &plan.findings).await?;
                plan.keep_written(&written);
                plan.count(delta);
                if !plan.unchanged.is_empty() {
                    eve_characters::stamp_verified(db, &plan.unchanged).await?;
                }
                if !plan.attempted.is_empty() {
                    eve_characters::stamp_attempted(db, &plan.attempted).await?;
                }
                if !bad.is_empty() {
                    unresolvable::note(db, bad).await?;
                }
                if self.pass == Pass::Kept && !plan.cleared.is_empty() {
                    candidates::drop(db, &plan.cleared).await?;
                }
                if !plan.candidates.is_empty() {
                    candidates::note(db, &run.ctx.run.run_id, &plan.candidates).await?;
                }
                Ok::<_, sqlx::Error>(())
            })
            .await?;
        plan.tell();
        for (eve_id, reason) in bad {
            warn!(eve_id, reason, "id fails the bulk call and is left out of it for a week");
        }
        Ok(())
    }
}

impl Batch for Sweep<'_> {
    type Claimed = Page;
    type Worked = Judged;

    async fn claim(&self, size: usize) -> Result<Option<Page>, JobError> {
        if self.cut.borrow().is_some() {
            return Ok(None);
        }
        let mut size = size;
        if let (Pass::Due, Some(cap)) = (self.pass, self.run.settings.max_characters) {
            let left = usize::try_from(cap - self.claimed.get()).unwrap_or(usize::MAX);
            if left == 0 {
                self.capped.set(true);
                return Ok(None);
            }
            size = size.min(left);
        }
        if self.read.borrow().due.is_empty() && !self.exhausted.get() {
            let read = self.read(size).await?;
            *self.read.borrow_mut() = read;
        }
        let mut read = self.read.borrow_mut();
        if read.due.is_empty() {
            return Ok(None);
        }
        let size = size.min(read.due.len());
        let rest = read.due.split_off(size);
        let page = Page { due: std::mem::replace(&mut read.due, rest), read_at: read.read_at };
        self.claimed.update(|n| n + page.due.len() as u64);
        Ok(Some(page))
    }

    async fn work(&self, page: Page) -> Result<Judged, JobError> {
        let observed = self.observer.observe(&page.due).await?;
        let rows = page
            .due
            .into_iter()
            // What was not asked is not even attempted: it stays first in line.
            .filter_map(|due| {
                let judgement = judge(&due, observed.of(due.eve_id)?, self.run.lists.get(&due.brand_id));
                let refused = |(id, reason): &(i64, &str)| *id == due.eve_id.0 && *reason == REFUSED;
                let single_source = due.unresolvable.as_deref() == Some(REFUSED) || observed.bad.iter().any(refused);
                Some(Row { due, judgement, corporation_name: None, alliance_name: None, single_source, at_stake: None })
            })
            .collect();
        let mut judged = Judged { rows, bad: observed.bad, read_at: page.read_at, cut: observed.cut };
        let moved = judged.rows.iter().filter_map(|row| match row.judgement {
            Judgement::Verdict { organisation, .. } if organisation != row.due.known => organisation,
            _ => None,
        });
        names::learn(self.run, moved).await;
        for row in &mut judged.rows {
            if let Judgement::Verdict { organisation: Some(organisation), .. } = row.judgement {
                (row.corporation_name, row.alliance_name) =
                    if row.due.known == Some(organisation) { (None, None) } else { names::of(self.run, organisation) };
            }
        }
        self.weigh(&mut judged.rows, page.read_at).await?;
        Ok(judged)
    }

    async fn checkpoint(&self, mut pages: Vec<Judged>) -> Result<Flow, JobError> {
        let run = self.run;
        run.collect_counts();
        // Nothing behind a cut is known to be complete.
        if let Some(cut) = pages.iter().position(|page| page.cut.is_some()) {
            pages.truncate(cut + 1);
        }
        let kept = self.pass == Pass::Kept;
        let mut plan = Plan::default();
        for page in &pages {
            for row in &page.rows {
                plan.add(row, page.read_at, kept);
            }
        }
        let bad: Vec<(i64, &'static str)> = pages.iter().flat_map(|page| page.bad.iter().copied()).collect();
        let scanned: u64 = pages.iter().map(|page| page.rows.len() as u64).sum();
        if run.ctx.run.dry_run {
            let mut delta = Delta::default();
            plan.count(&mut delta);
            run.ctx.count(delta);
            self.preview.add(&plan.candidates, plan.findings.iter().filter(|f| f.known != f.organisation).count());
        } else if scanned > 0 || !bad.is_empty() {
            self.write(&mut plan, &bad).await?;
        }
        self.scanned.update(|n| n + scanned);
        let unlisted = plan.unknown.iter().filter(|reason| **reason == Reason::NoAuthConfig).count() as u64;
        self.unknown.update(|n| n + plan.unknown.len() as u64 - unlisted);
        self.unlisted.update(|n| n + unlisted);
        if let Some(cut) = pages.pop().and_then(|page| page.cut) {
            *self.cut.borrow_mut() = Some(cut);
            return Ok(Flow::Stop);
        }
        Ok(Flow::Continue)
    }
}
