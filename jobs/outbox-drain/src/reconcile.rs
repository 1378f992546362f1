//! Whether the stream holds what PostgreSQL knows to be published, once and in order.
//!
//! The acknowledged numbers are read first and the stream afterwards, up to where it ended at the start: whatever runs
//! beside it cannot look like a fault. So it is with the floors and the outbox, which is looked at twice. Ids and aggregates
//! are looked at in several passes over the stream, each with a part of them, so that the memory does not grow with the
//! stream.

use std::collections::{BTreeSet, HashMap, HashSet};

use identity::codes::ExitCode;
use job::{Context, JobError, Output, screen};
use outbox::stream::{Entry, Span, Stream};
use store::outbox::{
    BUCKETS, dead_letters,
    held::key,
    pages::{self, Place},
    partitions,
    state::{self, Stranded},
};
use uuid::Uuid;

use crate::{
    faults::{Faults, Ids, Numbers},
    options::{Settings, SinkKind},
    refused,
};

/// Ids that one pass over the stream remembers; some 40 bytes each.
const REMEMBERED: u64 = 500_000;
/// Stranded events of a bucket read at a time.
const STRANDED: i64 = 1000;

/// Compares, prints what is wrong, and ends with 65 if anything is.
pub(crate) async fn reconcile(settings: &Settings, ctx: &Context) -> Result<ExitCode, JobError> {
    if settings.options.outbox_sink != SinkKind::Redis {
        return Err(JobError::config("OUTBOX_SINK: reconcile reads a Redis stream; another sink cannot be read back"));
    }
    let name = &settings.options.outbox_stream;
    let partitions = ctx.db.transaction("read the partitions", async |tx| partitions::all(tx).await).await?;
    let others: BTreeSet<String> = partitions.iter().filter_map(|partition| partition.stream.clone()).collect();
    let acknowledged: HashMap<u16, i64> = partitions
        .into_iter()
        .filter(|partition| partition.stream.as_ref() == Some(name))
        .map(|partition| (partition.partition.unsigned_abs(), partition.acknowledged))
        .collect();
    let suspects = stranded(ctx).await?;
    let mut stream = Stream::new(ctx.redis.clone(), name);
    let span = stream.span().await.map_err(|error| refused(&error))?;
    if span.entries == 0 && acknowledged.is_empty() && !others.is_empty() {
        let others = others.into_iter().collect::<Vec<_>>().join(", ");
        return Err(JobError::config(format_args!(
            "OUTBOX_STREAM: {name} is no stream, and nothing was published there; what PostgreSQL knows to be published is on {others}"
        )));
    }
    let parts = (span.entries / REMEMBERED + 1).min(256);
    let mut faults = Faults::default();
    let mut entries = 0;
    for part in 0..parts {
        entries = pass(ctx, &mut stream, &span, part, parts, &acknowledged, &mut faults).await?;
    }
    if !suspects.is_empty() {
        let again: HashSet<Uuid> = stranded(ctx).await?.into_iter().map(|(_, event)| event.event_id).collect();
        for (partition, event) in suspects.iter().filter(|(_, event)| again.contains(&event.event_id)) {
            faults.stranded(*partition, event);
        }
    }
    faults.sort();
    Ok(told(ctx, entries, &span, &faults))
}

/// One pass over the stream, with the numbers in the first and a part of the ids in each. Returns the entries met.
async fn pass(
    ctx: &Context,
    stream: &mut Stream,
    span: &Span,
    part: u64,
    parts: u64,
    acknowledged: &HashMap<u16, i64>,
    faults: &mut Faults,
) -> Result<u64, JobError> {
    let is_ours = |event: Uuid| u64::try_from(event.as_u128() % u128::from(parts)).is_ok_and(|of| of == part);
    let is_our_aggregate = |entry: &Entry| key(&entry.aggregate_type, &entry.aggregate_id) % parts == part;
    let mut numbers = Numbers::default();
    let mut ids = Ids::default();
    let mut entries = 0;
    let mut after = None;
    loop {
        let page = stream.page(after.as_deref(), &span.last).await.map_err(|error| refused(&error))?;
        let Some(last) = page.last else { break };
        after = Some(last);
        for entry in &page.entries {
            entries += 1;
            if part == 0 {
                numbers.meet(entry, faults);
            }
            if is_ours(entry.event_id) {
                ids.meet_event(entry, faults);
            }
            if is_our_aggregate(entry) {
                ids.meet_aggregate(entry, faults);
            }
        }
        if part == 0 {
            faults.foreign += page.foreign;
        }
        if ctx.stop.is_stopped() {
            return Err(JobError::retry("stopped before the end"));
        }
    }
    if part == 0 {
        let is_trimmed = span.is_trimmed || numbers.look_trimmed(acknowledged, span.removed);
        numbers.close(acknowledged, is_trimmed, faults);
    }
    waiting(ctx, stream, &ids, is_ours, faults).await?;
    Ok(entries)
}

/// Events that are on the stream and still in the outbox or among the dead letters. What is in flight is on its way out of
/// the outbox; what is gone at a second look was.
async fn waiting(
    ctx: &Context,
    stream: &mut Stream,
    ids: &Ids,
    is_ours: impl Fn(Uuid) -> bool,
    faults: &mut Faults,
) -> Result<(), JobError> {
    let mut places: Vec<Place> = (0..BUCKETS).map(|bucket| Place { bucket, after: 0 }).collect();
    let mut twice = Vec::new();
    while !places.is_empty() {
        let ids_page = ctx.db.transaction("read the outbox", async |tx| pages::ids(tx, &places, 200).await).await?;
        if ids_page.is_empty() {
            break;
        }
        for event in ids_page {
            if let Some(place) = places.iter_mut().find(|place| place.bucket == event.bucket) {
                place.after = event.seq;
            }
            if is_ours(event.event_id) && ids.has(event.event_id) {
                twice.push(event);
            }
        }
    }
    let in_flight = stream.in_flight(BUCKETS.unsigned_abs()).await.map_err(|error| refused(&error))?;
    twice.retain(|event| !in_flight.contains(&event.seq));
    for event in twice {
        let again = Place { bucket: event.bucket, after: event.seq - 1 };
        let still = ctx.db.transaction("read the outbox", async |tx| pages::ids(tx, &[again], 1).await).await?;
        if still.iter().any(|found| found.event_id == event.event_id) {
            faults.waiting(event.event_id, event.seq);
        }
    }
    let mut after = None;
    loop {
        let what = "read dead letters";
        let letters = ctx.db.transaction(what, async |tx| dead_letters::ids(tx, after, 1000).await).await?;
        let Some(last) = letters.last() else { return Ok(()) };
        after = Some(*last);
        for event in letters.into_iter().filter(|event| is_ours(*event) && ids.has(*event)) {
            faults.dead(event);
        }
    }
}

/// Events that lie where no run reads any more, each with its partition.
async fn stranded(ctx: &Context) -> Result<Vec<(i16, Stranded)>, JobError> {
    let mut partitions = ctx.db.transaction("read the partitions", async |tx| partitions::all(tx).await).await?;
    partitions.retain(|partition| partition.in_use);
    let mut found = Vec::new();
    for bucket in 0..BUCKETS {
        let place = usize::from(bucket.unsigned_abs()) % partitions.len().max(1);
        let Some(of) = partitions.get(place) else { return Ok(found) };
        let mut after = 0;
        loop {
            let looking =
                async |tx: &mut sqlx::PgConnection| state::stranded(tx, bucket, after, of.floor, STRANDED).await;
            let page = ctx.db.transaction("look below the floors", looking).await?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            found.extend(page.into_iter().map(|event| (of.partition, event)));
        }
    }
    Ok(found)
}

fn told(ctx: &Context, entries: u64, span: &Span, faults: &Faults) -> ExitCode {
    if ctx.run.output == Output::Json {
        screen::line(&faults.to_json(entries).to_string());
    } else {
        for line in faults.lines() {
            screen::line(&line);
        }
        let trimmed = if span.is_trimmed { ", the beginning was trimmed" } else { "" };
        let foreign = if faults.foreign > 0 { format!(", {} of others", faults.foreign) } else { String::new() };
        screen::line(&format!(
            "{entries} entries{foreign}{trimmed}: {} missing, {} doubled, {} out of order, {} published and not deleted, \
             {} stranded",
            faults.missing_count(),
            faults.doubled_count(),
            faults.reordered_count(),
            faults.waiting_count(),
            faults.stranded_count(),
        ));
    }
    if faults.is_none() { ExitCode::Done } else { ExitCode::Data }
}
