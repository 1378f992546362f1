//! What a dry run would do, kept in memory since it writes nothing.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
};

use identity::{approval::ApprovalConfig, ids::AccountId};
use job::{Ending, JobError, Report, screen};
use store::candidates::Candidate;

use crate::{revoke, run::Run};

/// Candidates and changes met so far. Only candidates with a live session are kept.
#[derive(Debug, Default)]
pub(crate) struct Preview {
    /// Verdicts that would cost a session.
    pub candidates: RefCell<Vec<Candidate>>,
    /// Characters whose organisation would be written.
    pub changes: Cell<usize>,
}

impl Preview {
    /// Adds a batch.
    pub(crate) fn add(&self, candidates: &[Candidate], changes: usize) {
        self.candidates.borrow_mut().extend(candidates.iter().filter(|c| c.live).cloned());
        self.changes.set(self.changes.get() + changes);
    }
}

/// Sessions printed one by one.
const PRINTED: usize = 100;

/// Confirms and prints what a real run would do; nothing is written.
///
/// # Errors
/// Redis, the database or ESI fails.
pub(crate) async fn report(run: &Run<'_>, preview: &Preview) -> Result<Report, JobError> {
    let candidates = preview.candidates.take();
    let accounts: HashSet<AccountId> = candidates.iter().map(|c| c.account_id).collect();
    let unlisted = candidates
        .iter()
        .filter(|c| run.lists.get(&c.brand_id).is_some_and(ApprovalConfig::denies_everybody))
        .map(|c| c.account_id)
        .collect::<HashSet<_>>();
    let pending = run
        .ctx
        .db
        .transaction("count decided invalidations", async |db| {
            store::invalidations::count_pending(db, run.terms.part).await
        })
        .await?;
    screen::line("dry run: nothing is written");
    screen::line(&format!("would write {} changed organisations", preview.changes.get()));
    if pending > 0 {
        screen::line(&format!("would complete {pending} invalidations decided by an earlier run"));
    }
    for candidate in candidates.iter().take(PRINTED) {
        screen::line(&format!(
            "would end sessions of account {} that act as EVE character {}: {} ({}){}",
            candidate.account_id,
            candidate.eve_id,
            candidate.rule,
            candidate.organisation.map_or_else(|| "no organisation known".to_owned(), |o| o.to_string()),
            if candidate.confirmed { "" } else { ", if a second source confirms it" },
        ));
    }
    if candidates.len() > PRINTED {
        screen::line(&format!("… and {} more", candidates.len() - PRINTED));
    }
    let trip = revoke::judge(run, accounts.len() as u64, unlisted.len() as u64).await?;
    Ok(match trip {
        Some(trip) => Report {
            ending: Ending::Capped,
            remaining: 0,
            note: Some(format!("dry run: the circuit breaker would open: {trip}")),
        },
        None => Report {
            note: Some(format!("dry run: {} accounts would lose a session", accounts.len())),
            ..Report::new(Ending::Done)
        },
    })
}
