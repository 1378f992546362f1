//! Carrying out decided invalidations: one atomic step in Redis that leaves a receipt, then audit row, event and the
//! clearing of the decision in one transaction. A crash between the two is completed by the next run from the receipt.

use identity::verdict::Verdict;
use job::JobError;
use metrics::verifier as metric;
use sessions::{RemovedSession, Take};
use store::invalidations::{self, Pending, Removed};
use tracing::{info, warn};
use uuid::Uuid;

use crate::run::{Run, millis};

/// Decisions carried out together.
const PAGE: i64 = 200;

/// Carries out every decided invalidation of this part, whoever decided it; returns how many sessions were taken.
/// Stops between pages when a stop is asked for: what is left is the next run's first work, and so is what broken keys
/// of an account make impossible, which is tried once a run.
///
/// # Errors
/// Redis or the database fails; the decisions stay.
pub(crate) async fn pending(run: &Run<'_>) -> Result<u64, JobError> {
    let (mut taken, mut after) = (0, Uuid::nil());
    while !run.ctx.stop.is_stopped() {
        let pending = run
            .ctx
            .db
            .transaction("read decided invalidations", async |db| {
                invalidations::pending(db, run.terms.part, after, PAGE).await
            })
            .await?;
        let Some(last) = pending.last() else { break };
        after = last.id;
        taken += carry_out(run, pending).await?;
    }
    Ok(taken)
}

async fn carry_out(run: &Run<'_>, mut pending: Vec<Pending>) -> Result<u64, JobError> {
    pending.retain(|p| !run.broken.borrow().contains(&p.id));
    let takes = pending
        .iter()
        .map(|p| {
            Ok(Take {
                account_id: p.account_id,
                gate: p
                    .gate
                    .parse()
                    .map_err(|_| JobError::bug(format!("pending invalidation {} has an unknown gate", p.id)))?,
                character_id: p.character_id,
                observed_at: millis(p.observed_at),
                receipt: p.id,
            })
        })
        .collect::<Result<Vec<_>, JobError>>()?;
    let taken = run.sessions.take(&takes).await.map_err(crate::session_error)?;
    let (mut done, mut broken): (Vec<(Pending, Vec<Removed>)>, Vec<Uuid>) = (Vec::new(), Vec::new());
    for (pending, taken) in pending.into_iter().zip(taken) {
        match taken {
            Some(taken) => done.push((pending, taken.removed.into_iter().map(removed).collect())),
            None => broken.push(pending.id),
        }
    }
    let sessions = run
        .ctx
        .checkpoint("complete invalidations", async |db, delta| {
            let cleared = invalidations::complete(db, &done).await?;
            delta.failed += broken.len() as u64;
            let mut sessions = 0;
            for (pending, removed) in done.iter().filter(|(pending, _)| cleared.contains(&pending.id)) {
                let count = removed.len() as u64;
                delta.add(&metric::SESSIONS_INVALIDATED, &[Verdict::of(pending.rule).as_str()], count);
                delta.detail("sessions_invalidated", count);
                sessions += count;
            }
            Ok::<_, sqlx::Error>(sessions)
        })
        .await?;
    run.broken.borrow_mut().extend(broken);
    for (pending, removed) in &done {
        for session in removed {
            info!(
                account_id = %pending.account_id,
                character_id = %pending.character_id,
                eve_id = %pending.eve_id,
                rule = %pending.rule,
                reason = %Verdict::of(pending.rule),
                organisation = pending.organisation.map(|o| o.to_string()),
                client_type = session.client_type,
                "session taken"
            );
        }
    }
    let receipts: Vec<_> = done.iter().map(|(pending, _)| (pending.account_id, pending.id)).collect();
    if let Err(error) = run.sessions.forget_receipts(&receipts).await {
        // They expire by themselves; the decisions they belong to are cleared.
        warn!(%error, "receipts of completed invalidations stay in Redis until they expire");
    }
    Ok(sessions)
}

fn removed(session: RemovedSession) -> Removed {
    Removed {
        session: session.hash.as_str().to_owned(),
        acted_as: session.character_id,
        client_type: session.client_type,
    }
}
