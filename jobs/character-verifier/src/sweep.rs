//! The sweep: read a page of characters, ask ESI where they stand, write what was found. No session is touched here;
//! a verdict that would cost one becomes a candidate.

use std::cell::{Cell, RefCell};

use esi::{BadId, EsiError};
use identity::{approval::Rule, ids::EveCharacterId, verdict::Verdict};
use job::{
    Delta, JobError,
    batches::{Batch, Flow},
};
use metrics::verifier as metric;
use sessions::{EpochMillis, Gate, Probe};
use store::{
    candidates::{self, Candidate},
    eve_characters::{self, Finding},
    sweep::{Due, Place},
    unresolvable,
};
use time::OffsetDateTime;
use tracing::{info, warn};

use crate::{
    decide::{self, Judgement, Observation, Reason, judge},
    dry_run::Preview,
    names,
    run::Run,
};

/// A call that fails three times in a row, with its own retries, is an outage and not bad luck.
const FAILURES_THAT_MEAN_DOWN: u32 = 3;

/// What a sweep goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Candidates that earlier runs left, though not due.
    Kept,
    /// Everything that is due.
    Due,
}

/// Why a sweep ended before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cut {
    /// ESI is down.
    Down(String),
    /// The error budget is spent.
    Budget,
}

/// One pass over the characters.
pub(crate) struct Sweep<'a> {
    run: &'a Run<'a>,
    pass: Pass,
    at: Cell<Place>,
    claimed: Cell<u64>,
    failures: Cell<u32>,
    /// Characters dealt with.
    pub scanned: Cell<u64>,
    /// Of these, unknown.
    pub unknown: Cell<u64>,
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

struct Row {
    due: Due,
    judgement: Judgement,
    corporation_name: Option<String>,
    alliance_name: Option<String>,
    /// The verdict may cost a session; and whether one lives.
    at_stake: Option<bool>,
}

impl<'a> Sweep<'a> {
    /// A pass from its start.
    pub(crate) fn new(run: &'a Run<'a>, pass: Pass, preview: &'a Preview) -> Self {
        Self {
            run,
            pass,
            at: Cell::new(Place::START),
            claimed: Cell::new(0),
            failures: Cell::new(0),
            scanned: Cell::new(0),
            unknown: Cell::new(0),
            capped: Cell::new(false),
            cut: RefCell::new(None),
            preview,
        }
    }

    async fn observe(&self, due: &[Due], judged: &mut Judged) -> Result<Vec<Observation>, JobError> {
        let (ask, noted): (Vec<&Due>, Vec<&Due>) = due.iter().partition(|d| d.unresolvable.is_none());
        let deadline = self.run.ctx.budget.work_ends_at();
        let mut seen = std::collections::HashMap::with_capacity(due.len());
        if !ask.is_empty() {
            let ids: Vec<EveCharacterId> = ask.iter().map(|d| d.eve_id).collect();
            match self.run.esi.affiliations(&ids, deadline).await {
                Ok(answer) => {
                    self.failures.set(0);
                    seen.extend(answer.found.into_iter().map(|(id, o)| (id, Observation::Member(o))));
                    seen.extend(answer.missing.into_iter().map(|id| (id, Observation::Unknown(Reason::Missing))));
                    if !answer.unasked.is_empty() {
                        judged.cut = Some(Cut::Budget);
                    }
                    for (id, bad) in answer.bad {
                        let (observation, reason) = match bad {
                            BadId::NotFound => (Observation::NotFound, "not_found"),
                            BadId::Deleted => (Observation::Deleted, "deleted"),
                            BadId::AffiliationRefuses(o) => (Observation::Member(o), "affiliation_refuses"),
                        };
                        warn!(eve_id = %id, reason, "id fails the bulk call and is left out of it for a week");
                        seen.insert(id, observation);
                        judged.bad.push((id.0, reason));
                    }
                }
                Err(error) => self.failed(error, &ids, &mut seen, judged)?,
            }
        }
        for due in noted {
            seen.insert(due.eve_id, self.observe_noted(due, judged).await?);
        }
        Ok(due.iter().map(|d| seen.get(&d.eve_id).copied().unwrap_or(Observation::Unknown(Reason::Budget))).collect())
    }

    /// A character that the bulk call cannot be asked about.
    async fn observe_noted(&self, due: &Due, judged: &mut Judged) -> Result<Observation, JobError> {
        match due.unresolvable.as_deref() {
            Some("deleted") => Ok(Observation::Deleted),
            Some("affiliation_refuses") => {
                let deadline = self.run.ctx.budget.work_ends_at();
                match self.run.esi.organisation_by_second_source(due.eve_id, deadline).await {
                    Ok(esi::SecondSource::Member(organisation)) => Ok(Observation::Member(organisation)),
                    Ok(esi::SecondSource::Gone) => Ok(Observation::Deleted),
                    Err(EsiError::NotFound) => Ok(Observation::NotFound),
                    Err(error) => {
                        let mut seen = std::collections::HashMap::new();
                        self.failed(error, &[due.eve_id], &mut seen, judged)?;
                        Ok(seen.remove(&due.eve_id).unwrap_or(Observation::Unknown(Reason::Budget)))
                    }
                }
            }
            _ => Ok(Observation::NotFound),
        }
    }

    fn failed(
        &self,
        error: EsiError,
        ids: &[EveCharacterId],
        seen: &mut std::collections::HashMap<EveCharacterId, Observation>,
        judged: &mut Judged,
    ) -> Result<(), JobError> {
        match error {
            EsiError::Misconfigured(problem) => return Err(JobError::config(format!("ESI refuses this client: {problem}"))),
            EsiError::Stopped | EsiError::Budget { .. } => judged.cut = Some(Cut::Budget),
            EsiError::Down { reason } => judged.cut = Some(Cut::Down(reason)),
            EsiError::Unavailable(problem) => {
                self.failures.set(self.failures.get() + 1);
                if self.failures.get() >= FAILURES_THAT_MEAN_DOWN {
                    judged.cut = Some(Cut::Down(problem));
                } else {
                    seen.extend(ids.iter().map(|id| (*id, Observation::Unknown(Reason::Upstream))));
                }
            }
            EsiError::NotFound | EsiError::Deleted => {
                seen.extend(ids.iter().map(|id| (*id, Observation::Unknown(Reason::Upstream))));
            }
        }
        Ok(())
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
        let probes: Vec<Probe> = at_stake.iter().map(|row| probe(gate, &row.due, read_at)).collect();
        let live = if probes.is_empty() { Vec::new() } else { self.run.sessions.probe(&probes).await.map_err(crate::session_error)? };
        for (row, live) in at_stake.iter_mut().zip(live) {
            row.at_stake = Some(live > 0);
        }
        Ok(())
    }
}

fn probe(gate: Gate, due: &Due, observed_at: OffsetDateTime) -> Probe {
    Probe { account_id: due.account_id, gate, character_id: due.character_id, observed_at: millis(observed_at) }
}

/// The database's time as sessions keep it.
pub(crate) fn millis(at: OffsetDateTime) -> EpochMillis {
    EpochMillis(i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX))
}

impl Batch for Sweep<'_> {
    type Claimed = Page;
    type Worked = Judged;

    async fn claim(&self, size: usize) -> Result<Option<Page>, JobError> {
        if self.cut.borrow().is_some() {
            return Ok(None);
        }
        let run = self.run;
        let mut limit = size as u64;
        if let (Pass::Due, Some(cap)) = (self.pass, run.settings.max_characters) {
            limit = limit.min(cap - self.claimed.get());
            if limit == 0 {
                self.capped.set(true);
                return Ok(None);
            }
        }
        let (limit, at) = (i64::try_from(limit).unwrap_or(i64::MAX), self.at.get());
        let (due, read_at) = run
            .ctx
            .db
            .transaction("read due characters", async |db| match self.pass {
                Pass::Kept => store::sweep::kept(db, &run.terms, at.eve_id, limit).await,
                Pass::Due => store::sweep::due(db, &run.terms, at, limit).await,
            })
            .await?;
        let Some(last) = due.last() else { return Ok(None) };
        self.at.set(last.place);
        self.claimed.set(self.claimed.get() + due.len() as u64);
        Ok(Some(Page { due, read_at }))
    }

    async fn work(&self, page: Page) -> Result<Judged, JobError> {
        let mut judged = Judged { rows: Vec::new(), bad: Vec::new(), read_at: page.read_at, cut: None };
        let observations = self.observe(&page.due, &mut judged).await?;
        let cut = judged.cut.is_some();
        judged.rows = page
            .due
            .into_iter()
            .zip(observations)
            // What was not asked is not even attempted: it stays first in line.
            .filter(|(_, observation)| !(cut && *observation == Observation::Unknown(Reason::Budget)))
            .map(|(due, observation)| {
                let judgement = judge(&due, observation, self.run.lists.get(&due.brand_id));
                Row { due, judgement, corporation_name: None, alliance_name: None, at_stake: None }
            })
            .collect();
        let moved = judged.rows.iter().filter_map(|row| match row.judgement {
            Judgement::Verdict { organisation, .. } if organisation != row.due.known => organisation,
            _ => None,
        });
        names::learn(self.run, moved).await;
        for row in &mut judged.rows {
            if let Judgement::Verdict { organisation: Some(organisation), .. } = row.judgement {
                (row.corporation_name, row.alliance_name) = if row.due.known == Some(organisation) {
                    (None, None)
                } else {
                    names::of(self.run, organisation)
                };
            }
        }
        self.weigh(&mut judged.rows, page.read_at).await?;
        Ok(judged)
    }

    async fn checkpoint(&self, judged: Judged) -> Result<Flow, JobError> {
        let run = self.run;
        run.collect_counts();
        let mut plan = Plan::default();
        for row in &judged.rows {
            plan.add(row, judged.read_at);
        }
        if run.ctx.run.dry_run {
            let mut delta = Delta::default();
            plan.count(&mut delta, None);
            run.ctx.count(delta);
            self.preview.add(&plan.candidates, plan.findings.iter().filter(|f| f.known != f.organisation).count());
        } else if !judged.rows.is_empty() || !judged.bad.is_empty() {
            let kept = self.pass == Pass::Kept;
            run.ctx
                .checkpoint("write verdicts", async |db, delta| {
                    let written = eve_characters::write(db, &plan.findings).await?;
                    if !plan.unchanged.is_empty() {
                        eve_characters::stamp_verified(db, &plan.unchanged).await?;
                    }
                    if !plan.attempted.is_empty() {
                        eve_characters::stamp_attempted(db, &plan.attempted).await?;
                    }
                    if !judged.bad.is_empty() {
                        unresolvable::note(db, &judged.bad).await?;
                    }
                    if kept && !plan.cleared.is_empty() {
                        candidates::drop(db, &plan.cleared).await?;
                    }
                    if !plan.candidates.is_empty() {
                        candidates::note(db, &run.ctx.run.run_id, &plan.candidates).await?;
                    }
                    plan.count(delta, Some(&written));
                    Ok::<_, sqlx::Error>(())
                })
                .await?;
            plan.tell();
        }
        self.scanned.set(self.scanned.get() + judged.rows.len() as u64);
        self.unknown.set(self.unknown.get() + plan.unknown.len() as u64);
        if let Some(cut) = judged.cut {
            *self.cut.borrow_mut() = Some(cut);
            return Ok(Flow::Stop);
        }
        Ok(Flow::Continue)
    }
}

/// What a batch writes.
#[derive(Default)]
struct Plan {
    unchanged: Vec<i64>,
    attempted: Vec<i64>,
    findings: Vec<Finding>,
    candidates: Vec<Candidate>,
    /// Candidates of earlier runs that are none any more.
    cleared: Vec<i64>,
    unknown: Vec<Reason>,
    bad: u64,
    verdicts: u64,
}

impl Plan {
    fn add(&mut self, row: &Row, observed_at: OffsetDateTime) {
        let due = &row.due;
        match row.judgement {
            Judgement::Bad => {
                self.bad += 1;
                self.attempted.push(due.eve_id.0);
            }
            Judgement::Unknown { reason, last_known } => {
                self.unknown.push(reason);
                match last_known {
                    Some(rule) if due.stands.is_some_and(|(_, stands)| stands != rule) => {
                        self.findings.push(finding(row, rule, due.known, false));
                    }
                    _ => self.attempted.push(due.eve_id.0),
                }
            }
            Judgement::Verdict { rule, organisation } => {
                self.verdicts += 1;
                let verdict = Verdict::of(rule);
                let new = due.stands.is_none_or(|(stands, _)| stands != verdict);
                let live = row.at_stake == Some(true);
                if live || (row.at_stake.is_some() && new) {
                    self.candidates.push(Candidate {
                        eve_id: due.eve_id,
                        character_id: due.character_id,
                        account_id: due.account_id,
                        brand_id: due.brand_id,
                        live,
                        rule,
                        organisation,
                        confirmed: rule == Rule::OwnerChanged,
                        observed_at,
                    });
                } else {
                    self.cleared.push(due.eve_id.0);
                }
                if due.known != organisation || due.stands != Some((verdict, rule)) {
                    self.findings.push(finding(row, rule, organisation, !live));
                } else if live {
                    // Stays due until its session is taken.
                    self.attempted.push(due.eve_id.0);
                } else {
                    self.unchanged.push(due.eve_id.0);
                }
            }
        }
    }

    /// Adds to the counters; `written` are the findings that no login overtook (`None`: a dry run).
    fn count(&self, delta: &mut Delta, written: Option<&[i64]>) {
        let written: Option<std::collections::HashSet<i64>> = written.map(|ids| ids.iter().copied().collect());
        let stands = |f: &&Finding| written.as_ref().is_none_or(|ids| ids.contains(&f.eve_id.0));
        delta.scanned += self.verdicts + self.bad + self.unknown.len() as u64;
        delta.failed += self.bad;
        delta.skipped += self.unknown.len() as u64;
        delta.add(&metric::VERIFIED, &["success"], self.verdicts);
        delta.add(&metric::VERIFIED, &["failed"], self.bad);
        delta.add(&metric::VERIFIED, &["skipped"], self.unknown.len() as u64);
        for reason in &self.unknown {
            delta.add(&metric::UNKNOWN, &[reason.as_str()], 1);
        }
        for finding in self.findings.iter().filter(stands) {
            if finding.known != finding.organisation {
                delta.changed += 1;
            }
            if let Some(kind) = decide::change(finding.known, finding.organisation) {
                delta.add(&metric::ORG_CHANGES, &[kind], 1);
                delta.detail("organisation_changes", 1);
            }
        }
    }

    /// A line for each change somebody may ask about.
    fn tell(&self) {
        for finding in &self.findings {
            if let (Some(change), Some(from), Some(to)) =
                (decide::change(finding.known, finding.organisation), finding.known, finding.organisation)
            {
                info!(
                    eve_id = %finding.eve_id, change, %from, %to, rule = %finding.rule,
                    "organisation changed"
                );
            }
        }
    }
}

fn finding(row: &Row, rule: Rule, organisation: Option<identity::approval::Organisation>, verified: bool) -> Finding {
    Finding {
        eve_id: row.due.eve_id,
        known: row.due.known,
        organisation,
        corporation_name: row.corporation_name.clone(),
        alliance_name: row.alliance_name.clone(),
        rule,
        verified,
    }
}
