//! Names of organisations: wanted, never waited for long, and repaired later where they could not be had.

use std::{collections::HashMap, time::Duration};

use identity::approval::Organisation;
use job::{Job, JobError};
use store::{cursors, eve_names};
use tokio::time::Instant;

use crate::{CharacterVerifier, run::Run};

/// Longest time a batch waits for names; the verdict matters more.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pages of characters whose missing names one run repairs.
const REPAIRS: usize = 10;
/// Characters a page of repairs, in which at most twice as many names are missing; ESI takes 1000 ids.
const PAGE: i64 = 500;
/// The pass over characters whose names are missing.
const CURSOR: &str = "names";

/// Learns the names of organisations not met yet, in one call. What could not be had is not asked again in this run.
pub(crate) async fn learn(run: &Run<'_>, organisations: impl Iterator<Item = Organisation>) {
    let ids = organisations.flat_map(|o| [Some(o.corporation.0), o.alliance.map(|id| id.0)]).flatten().collect();
    ask(run, ids).await;
}

/// The names of an organisation, as far as they were learnt.
pub(crate) fn of(run: &Run<'_>, organisation: Organisation) -> (Option<String>, Option<String>) {
    let mut names = run.names.borrow_mut();
    let mut name = |id: i64| names.get(&id).flatten();
    (name(organisation.corporation.0), organisation.alliance.and_then(|id| name(id.0)))
}

async fn ask(run: &Run<'_>, mut ids: Vec<i64>) {
    ids.sort_unstable();
    ids.dedup();
    ids.retain(|id| run.names.borrow_mut().get(id).is_none());
    for ids in ids.chunks(1000) {
        let began = Instant::now();
        let deadline = run.ctx.budget.ends_at().min(began + PATIENCE);
        let mut found = if run.names_are_slow.get() { HashMap::new() } else { run.esi.names(ids, deadline).await };
        if found.is_empty() && began.elapsed() >= PATIENCE / 2 {
            run.names_are_slow.set(true);
        }
        let mut names = run.names.borrow_mut();
        for id in ids {
            names.insert(*id, found.remove(id));
        }
    }
}

/// Fills in names that earlier runs could not have; one shard does it for all. The pass goes on where the last run left
/// it, so that names which can never be had do not keep it from the others.
///
/// # Errors
/// The database fails.
pub(crate) async fn repair(run: &Run<'_>) -> Result<(), JobError> {
    if run.terms.part.index != 0 {
        return Ok(());
    }
    let job = CharacterVerifier::NAME;
    let position = async |db: &mut sqlx::PgConnection| cursors::position(db, job, CURSOR).await;
    let mut after = run.ctx.db.transaction("read where names are missing", position).await?;
    for _ in 0..REPAIRS {
        if !run.ctx.budget.working() {
            return Ok(());
        }
        let (ids, last) =
            run.ctx.db.transaction("read missing names", async |db| eve_names::missing(db, after, PAGE).await).await?;
        if last.is_none() && after == 0 {
            return Ok(());
        }
        ask(run, ids.clone()).await;
        run.collect_counts();
        let names: Vec<(i64, String)> =
            ids.into_iter().filter_map(|id| Some((id, run.names.borrow_mut().get(&id)??))).collect();
        run.ctx
            .checkpoint("repair names", async |db, delta| {
                if let (Some(last), false) = (last, names.is_empty()) {
                    delta.detail("names_repaired", eve_names::fill(db, after, last, names).await?);
                }
                cursors::save(db, job, CURSOR, last.unwrap_or(0)).await
            })
            .await?;
        let Some(last) = last else { return Ok(()) };
        after = last;
    }
    Ok(())
}
