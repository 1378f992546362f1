//! What a run would publish, by type.

use std::collections::BTreeMap;

use job::{Context, Ending, JobError, Report};
use store::outbox::{
    BUCKETS,
    held::{self, key},
    pages::{self, Place},
    state,
};
use tracing::info;

use crate::{
    heldback::HeldBack,
    options::Settings,
    places::{PAGE_BYTES, Places},
};

/// Events read at a time, at most.
const MOST: usize = 1000;

/// Reads everything that waits and takes no partition.
pub(crate) async fn run(settings: &Settings, ctx: &Context) -> Result<Report, JobError> {
    let share = settings.share;
    let (from, held) = ctx
        .db
        .transaction("read what waits", async |tx| {
            let partitions = store::outbox::partitions::foreign(tx, share, &[]).await?;
            let split = store::outbox::partitions::split(tx, "", share).await?;
            let buckets: Vec<i16> = (0..BUCKETS).collect();
            let mut held = Vec::new();
            held::load(tx, &buckets, |one| held.push(one)).await?;
            let place = |bucket: i16| {
                let of = partitions.iter().find(|p| p.partition == bucket % split.partitions)?;
                let due = held.iter().filter(|held| held.bucket == bucket && held.is_due).map(|held| held.seq - 1);
                Some(Place { bucket, after: due.min().unwrap_or(i64::MAX).min(of.floor) })
            };
            Ok::<_, sqlx::Error>(((0..BUCKETS).filter_map(place).collect::<Vec<_>>(), held))
        })
        .await?;
    let mut held_back = HeldBack::default();
    for one in held {
        held_back.add(one);
    }
    let most = match settings.options.max_events {
        0 => u64::MAX,
        most => most,
    };
    let (mut by_type, mut found, mut waiting) = (BTreeMap::<String, u64>::new(), 0, 0);
    let mut places = Places::default();
    places.begin(from.into_iter());
    while found < most && ctx.budget.working() {
        let asked = places.ask(MOST);
        if asked.places.is_empty() {
            break;
        }
        let each = i64::try_from(asked.each).unwrap_or(i64::MAX);
        let reading = async |tx: &mut _| {
            pages::by_the_key(tx).await?;
            pages::read(tx, &asked.places, each, PAGE_BYTES).await
        };
        let page = ctx.db.transaction("read events", reading).await?;
        places.advance(&asked, &page);
        for event in page.events {
            if held_back.waits(key(&event.aggregate_type, &event.aggregate_id)) {
                waiting += 1;
            } else if found < most {
                found += 1;
                *by_type.entry(event.event_type).or_default() += 1;
            }
        }
    }
    info!(sink = settings.options.outbox_sink.name(), by_type = ?by_type, held_back = waiting, "dry run: nothing is written");
    let mut counted = job::Delta::default();
    (counted.scanned, counted.changed, counted.skipped) = (found + waiting, found, waiting);
    ctx.count(counted);
    let state =
        ctx.db.transaction("read how the outbox stands", async |tx| state::state(tx, state::AT_THE_END).await).await?;
    let left = state.backlog.unsigned_abs().saturating_sub(found);
    if ctx.stop.is_stopped() {
        return Ok(Report { remaining: left, ..Report::new(Ending::Stopped) });
    }
    let ending = if found == 0 { Ending::NothingToDo } else { Ending::Done };
    let types: Vec<String> = by_type.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let at_least = if found < most && !ctx.budget.working() { "at least " } else { "" };
    let note = (found > 0).then(|| format!("would publish {at_least}{}", types.join(", ")));
    Ok(Report { ending, remaining: left, note })
}
