//! Asking ESI where a page of characters stands. What cannot be relied on becomes *unknown*, never *left*.

use std::{cell::Cell, collections::HashMap};

use esi::{BadId, EsiError, SecondSource};
use identity::ids::EveCharacterId;
use job::JobError;
use store::sweep::Due;

use crate::{
    decide::{Observation, Reason},
    run::Run,
};

/// Why an id is left out that only the bulk call refuses.
pub(crate) const REFUSED: &str = "affiliation_refuses";
/// A call that fails three times in a row, with its own retries, is an outage and not bad luck.
const FAILURES_THAT_MEAN_DOWN: u32 = 3;

/// Why a sweep ends before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cut {
    /// ESI is down.
    Down(String),
    /// The error budget is spent.
    Budget,
    /// An answer did not come before the time for work was over.
    OutOfTime,
}

/// What was observed of a page.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    seen: HashMap<EveCharacterId, Observation>,
    /// Ids to be left out of the bulk call for a while, with the reason.
    pub(crate) bad: Vec<(i64, &'static str)>,
    /// Why no further page should be asked for.
    pub(crate) cut: Option<Cut>,
}

impl Observed {
    /// What was seen of a character; `None`: it was not asked.
    pub(crate) fn of(&self, id: EveCharacterId) -> Option<Observation> {
        self.seen.get(&id).copied()
    }
}

/// Asks, and counts failures in a row.
pub(crate) struct Observer<'a> {
    run: &'a Run<'a>,
    failures: Cell<u32>,
}

impl<'a> Observer<'a> {
    pub(crate) fn new(run: &'a Run<'a>) -> Self {
        Self { run, failures: Cell::new(0) }
    }

    /// One bulk call, and single ones for ids that it refuses.
    ///
    /// # Errors
    /// ESI refuses this client.
    pub(crate) async fn observe(&self, due: &[Due]) -> Result<Observed, JobError> {
        let mut observed = Observed::default();
        let bulk: Vec<EveCharacterId> = due.iter().filter(|d| d.unresolvable.is_none()).map(|d| d.eve_id).collect();
        if !bulk.is_empty() {
            self.ask_for_all(&bulk, &mut observed).await?;
        }
        for due in due {
            if observed.cut.is_some() {
                break;
            }
            match due.unresolvable.as_deref() {
                None => {}
                Some("deleted") => drop(observed.seen.insert(due.eve_id, Observation::Deleted)),
                Some(REFUSED) => self.ask_for_one(due.eve_id, &mut observed).await?,
                Some(_) => drop(observed.seen.insert(due.eve_id, Observation::NotFound)),
            }
        }
        Ok(observed)
    }

    async fn ask_for_all(&self, ids: &[EveCharacterId], observed: &mut Observed) -> Result<(), JobError> {
        let answer = match self.run.esi.affiliations(ids, self.run.ctx.budget.work_ends_at()).await {
            Ok(answer) => answer,
            Err(error) => return self.failed(error, ids, observed),
        };
        if answer.gave_out.is_none() {
            self.failures.set(0);
        }
        observed.seen.extend(answer.found.into_iter().map(|(id, o)| (id, Observation::Member(o))));
        observed.seen.extend(answer.missing.into_iter().map(|id| (id, Observation::Unknown(Reason::Missing))));
        for (id, bad) in answer.bad {
            let (observation, reason) = match bad {
                BadId::NotFound => (Observation::NotFound, "not_found"),
                BadId::Deleted => (Observation::Deleted, "deleted"),
                BadId::AffiliationRefuses(o) => (Observation::Member(o), REFUSED),
            };
            observed.seen.insert(id, observation);
            observed.bad.push((id.0, reason));
        }
        answer.gave_out.map_or(Ok(()), |why| self.failed(why, &answer.failed, observed))
    }

    async fn ask_for_one(&self, id: EveCharacterId, observed: &mut Observed) -> Result<(), JobError> {
        let deadline = self.run.ctx.budget.work_ends_at();
        let answer = self.run.esi.organisation_by_second_source(id, deadline).await;
        let observation = match answer.map(|answer| answer.source) {
            Ok(SecondSource::Member(organisation)) => Observation::Member(organisation),
            Ok(SecondSource::Gone) => Observation::Deleted,
            Err(EsiError::NotFound) => Observation::NotFound,
            // One odd sheet is no outage.
            Err(EsiError::Unavailable(_)) => Observation::Unknown(Reason::Upstream),
            Err(error) => return self.failed(error, &[id], observed),
        };
        observed.seen.insert(id, observation);
        Ok(())
    }

    fn failed(&self, error: EsiError, ids: &[EveCharacterId], observed: &mut Observed) -> Result<(), JobError> {
        let problem = match error {
            EsiError::Misconfigured(problem) => {
                return Err(JobError::config(format!("ESI refuses this client: {problem}")));
            }
            EsiError::Stopped | EsiError::Budget { .. } => {
                let budget = &self.run.ctx.budget;
                let out_of_time = tokio::time::Instant::now() >= budget.work_ends_at();
                observed.cut = Some(if out_of_time { Cut::OutOfTime } else { Cut::Budget });
                return Ok(());
            }
            EsiError::Down { reason } => {
                observed.cut = Some(Cut::Down(reason));
                return Ok(());
            }
            EsiError::Unavailable(problem) => problem,
            error @ (EsiError::NotFound | EsiError::Deleted) => error.to_string(),
        };
        self.failures.set(self.failures.get() + 1);
        if self.failures.get() >= FAILURES_THAT_MEAN_DOWN {
            observed.cut = Some(Cut::Down(problem));
        } else {
            observed.seen.extend(ids.iter().map(|id| (*id, Observation::Unknown(Reason::Upstream))));
        }
        Ok(())
    }
}
