//! Names of organisations: wanted, never waited for long, and repaired later where they could not be had.

use std::time::Duration;

use identity::approval::Organisation;
use job::JobError;
use store::eve_names;
use tokio::time::Instant;

use crate::run::Run;

/// Longest time a batch waits for names; the verdict matters more.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most characters whose missing names one run repairs.
const REPAIRS: usize = 10;
/// Characters a page of repairs, in which at most twice as many names are missing; ESI takes 1000 ids.
const PAGE: i64 = 500;

/// Learns the names of organisations not met yet, in one call.
pub(crate) async fn learn(run: &Run<'_>, organisations: impl Iterator<Item = Organisation>) {
    let mut ids: Vec<i64> =
        organisations.flat_map(|o| [Some(o.corporation.0), o.alliance.map(|id| id.0)]).flatten().collect();
    ids.sort_unstable();
    ids.dedup();
    ids.retain(|id| run.names.borrow_mut().get(id).is_none());
    for ids in ids.chunks(1000) {
        let deadline = run.ctx.budget.ends_at().min(Instant::now() + PATIENCE);
        let found = run.esi.names(ids, deadline).await;
        let mut names = run.names.borrow_mut();
        for (id, name) in found {
            names.insert(id, name);
        }
    }
}

/// The names of an organisation, as far as they were learnt.
pub(crate) fn of(run: &Run<'_>, organisation: Organisation) -> (Option<String>, Option<String>) {
    let mut names = run.names.borrow_mut();
    (names.get(&organisation.corporation.0), organisation.alliance.and_then(|id| names.get(&id.0)))
}

/// Fills in names that earlier runs could not have.
///
/// # Errors
/// The database fails.
pub(crate) async fn repair(run: &Run<'_>) -> Result<(), JobError> {
    let mut after = 0;
    for _ in 0..REPAIRS {
        if !run.ctx.budget.working() {
            return Ok(());
        }
        let (ids, last) =
            run.ctx.db.transaction("read missing names", async |db| eve_names::missing(db, after, PAGE).await).await?;
        let Some(last) = last else { return Ok(()) };
        let deadline = run.ctx.budget.ends_at().min(Instant::now() + PATIENCE);
        let names = run.esi.names(&ids, deadline).await;
        run.collect_counts();
        if names.is_empty() {
            return Ok(());
        }
        run.ctx
            .checkpoint("repair names", async |db, delta| {
                let repaired = eve_names::fill(db, after, last, names.into_iter().collect()).await?;
                delta.detail("names_repaired", repaired);
                Ok::<_, sqlx::Error>(())
            })
            .await?;
        after = last;
    }
    Ok(())
}
