//! What a dry run would do, kept in memory since it writes nothing.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use identity::{
    approval::ApprovalConfig,
    ids::{AccountId, BrandId},
};
use job::{Ending, JobError, Report, screen};
use store::candidates::Candidate;

use crate::{revoke, run::Run};

/// Candidates and changes met so far: every account once, and as many candidates as are printed.
#[derive(Debug, Default)]
pub(crate) struct Preview {
    shown: RefCell<Vec<Candidate>>,
    accounts: RefCell<HashMap<AccountId, BrandId>>,
    changes: Cell<usize>,
}

/// Sessions printed one by one.
const PRINTED: usize = 100;

impl Preview {
    /// Adds a batch.
    pub(crate) fn add(&self, candidates: &[Candidate], changes: usize) {
        self.changes.set(self.changes.get() + changes);
        let mut shown = self.shown.borrow_mut();
        for candidate in candidates.iter().filter(|c| c.live) {
            self.accounts.borrow_mut().insert(candidate.account_id, candidate.brand_id);
            if shown.len() < PRINTED {
                shown.push(candidate.clone());
            }
        }
    }
}

/// Confirms and prints what a real run would do; nothing is written.
///
/// # Errors
/// Redis, the database or ESI fails.
pub(crate) async fn report(run: &Run<'_>, preview: &Preview) -> Result<Report, JobError> {
    let (shown, accounts) = (preview.shown.take(), preview.accounts.take());
    let unlisted =
        accounts.values().filter(|brand| run.lists.get(brand).is_some_and(ApprovalConfig::denies_everybody)).count();
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
    for candidate in &shown {
        screen::line(&format!(
            "would end sessions of account {} that act as EVE character {}: {} ({}){}",
            candidate.account_id,
            candidate.eve_id,
            candidate.rule,
            candidate.organisation.map_or_else(|| "no organisation known".to_owned(), |o| o.to_string()),
            if candidate.confirmed { "" } else { ", if a second source confirms it" },
        ));
    }
    if accounts.len() > shown.len() {
        screen::line(&format!("… of {} accounts in all", accounts.len()));
    }
    let trip = revoke::judge(run, accounts.len() as u64, unlisted as u64).await?;
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
