//! Redis Streams: each event once, in the order of its aggregate, numbered without a gap.
//!
//! Beside the stream there is a hash for each partition, which holds the owner's fencing token, the number of the last
//! event, and the batches whose deletion in PostgreSQL is not confirmed yet. One atomic step checks the token, appends a
//! batch and remembers it; a later step forgets it. So memory is bounded by what is in flight, and a new owner learns what
//! is published and not deleted, however long ago that was.

use std::{cell::RefCell, collections::HashMap, fmt::Write, time::Duration};

use redis::{Cmd, RedisError, Script, aio::ConnectionManager};
use runtime::Secret;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use crate::{
    Event, Sink,
    redis_check::check,
    sink::{Adopted, Batch, Fate, Finding, Gap, Lane, Published, Remembered, SinkError},
    stream::Stream,
};

const ADOPT: &str = include_str!("lua/adopt.lua");
const PUBLISH: &str = include_str!("lua/publish.lua");
const FORGET: &str = include_str!("lua/forget.lua");
/// For so long the stream is searched backwards: less than partitions are ours for without a sign of life.
const SEARCH: Duration = Duration::from_secs(4);

/// A stream of Redis.
#[derive(Debug)]
pub struct RedisSink {
    connection: RefCell<ConnectionManager>,
    url: Secret,
    stream: String,
    /// `MAXLEN`, as text; empty for none.
    maxlen: String,
    publish: Script,
    lanes: RefCell<HashMap<u16, State>>,
}

/// What is known of a partition.
#[derive(Debug, Default)]
struct State {
    epoch: i64,
    /// Names of batches that an earlier owner left, until their events are deleted.
    adopted: Vec<String>,
    /// Names of batches that need not be remembered any more.
    confirmed: Vec<String>,
}

impl RedisSink {
    /// Appends to `stream`, trimmed to about `maxlen` entries if that is given. `url` is where `connection` leads.
    pub fn new(connection: ConnectionManager, url: Secret, stream: &str, maxlen: Option<u64>) -> Self {
        Self {
            connection: RefCell::new(connection),
            url,
            stream: stream.to_owned(),
            maxlen: maxlen.map(|most| most.to_string()).unwrap_or_default(),
            publish: Script::new(PUBLISH),
            lanes: RefCell::default(),
        }
    }

    fn connection(&self) -> ConnectionManager {
        self.connection.borrow().clone()
    }

    fn failed(&self, error: RedisError) -> SinkError {
        if runtime::redis::leads_nowhere(&error)
            && let Ok(fresh) = runtime::redis::connect_anew(&self.url)
        {
            *self.connection.borrow_mut() = fresh;
        }
        meaning(error)
    }

    /// Beside the stream, also in a cluster.
    fn state_key(&self, partition: u16) -> String {
        state_key(&self.stream, partition)
    }

    /// Batches of these names are remembered no longer.
    async fn delete(&self, lane: Lane, names: &[String]) -> Result<(), SinkError> {
        if names.is_empty() {
            return Ok(());
        }
        let script = Script::new(FORGET);
        let mut deleting = script.key(self.state_key(lane.partition));
        let deleting = deleting.arg(lane.token).arg(names);
        let is_ours: bool = deleting.invoke_async(&mut self.connection()).await.map_err(|error| self.failed(error))?;
        if is_ours { Ok(()) } else { Err(SinkError::Fenced(None)) }
    }

    fn command(&self, batch: Batch<'_>, forget: &[String], epoch: i64) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command
            .arg(self.publish.get_hash())
            .arg(2)
            .arg(&self.stream)
            .arg(self.state_key(batch.lane.partition))
            .arg(batch.lane.token)
            .arg(epoch)
            .arg(batch.number)
            .arg(batch.lane.partition)
            .arg(&self.maxlen)
            .arg(pack(batch.events))
            .arg(forget.len());
        for name in forget {
            command.arg(name);
        }
        for event in batch.events {
            let occurred_at = event.occurred_at.format(&Rfc3339).unwrap_or_default();
            let mut id = uuid::Uuid::encode_buffer();
            command.arg(event.seq).arg(&*event.event_id.hyphenated().encode_lower(&mut id)).arg(&event.event_type);
            command.arg(&event.aggregate.kind).arg(&event.aggregate.id);
            command.arg(&*event.brand_id.hyphenated().encode_lower(&mut id)).arg(occurred_at).arg(event.payload.get());
        }
        command
    }
}

/// Where the state of a partition is kept.
pub fn state_key(stream: &str, partition: u16) -> String {
    format!("{{{stream}}}:drain:{partition}")
}

impl Sink for RedisSink {
    const PIPELINED: bool = true;

    async fn adopt(&self, lane: Lane, acknowledged: i64) -> Result<Adopted, SinkError> {
        let mut connection = self.connection();
        // Here and not when it turns out to be missing: the batch behind would overtake the one that loads it.
        self.publish.prepare_invoke().load_async(&mut connection).await.map_err(|error| self.failed(error))?;
        let key = self.state_key(lane.partition);
        let failed = |error: RedisError| match error.code() {
            Some("WRONGTYPE") => SinkError::Refused(format!(
                "the key {key} of Redis, where the state of a partition is kept, is of another type: remove it"
            )),
            _ => self.failed(error),
        };
        let answer: (i64, i64, Vec<String>) = {
            let mut values: Vec<redis::Value> = Script::new(ADOPT)
                .key(&key)
                .arg(lane.token)
                .arg(acknowledged)
                .invoke_async(&mut connection)
                .await
                .map_err(failed)?;
            let batches = values.split_off(values.len().min(2));
            let number = |value: Option<&redis::Value>| {
                value.map_or(Ok(0), |value| redis::from_redis_value_ref::<i64>(value).map_err(unreadable))
            };
            let texts = batches.iter().map(|value| redis::from_redis_value_ref(value).map_err(unreadable));
            (number(values.first())?, number(values.get(1))?, texts.collect::<Result<_, _>>()?)
        };
        let (epoch, last, fields) = answer;
        let mut state = State { epoch, ..State::default() };
        let mut published = Vec::new();
        for field in fields.chunks_exact(2) {
            state.adopted.push(field[0].clone());
            published.extend(unpack(&field[1])?);
        }
        self.lanes.borrow_mut().insert(lane.partition, state);
        Ok(Adopted { published, last_number: Some(last) })
    }

    async fn find(&self, gaps: &[Gap]) -> Result<Vec<(u16, Vec<Remembered>)>, SinkError> {
        let mut stream = Stream::new(self.connection(), &self.stream);
        let mut open: HashMap<u16, (Gap, Vec<Remembered>)> =
            gaps.iter().map(|gap| (gap.partition, (*gap, Vec::new()))).collect();
        let (mut found, mut before) = (Vec::new(), None);
        let until = Instant::now() + SEARCH;
        while !open.is_empty() && Instant::now() < until {
            // One that is not answered is an error, by the connection's own patience: nobody knows what is there.
            let page = stream.page_before(before.as_deref()).await?;
            let Some(first) = page.last else { break };
            before = Some(first);
            for entry in page.entries {
                let Some((gap, events)) = open.get_mut(&entry.partition) else { continue };
                if entry.n < gap.last {
                    // One in between was deleted.
                    open.remove(&entry.partition);
                } else if entry.n == gap.last {
                    events.push(Remembered { seq: entry.seq, tail: format!("{:08x}", tail(entry.event_id)) });
                    gap.last -= 1;
                    if gap.last == gap.after
                        && let Some((_, events)) = open.remove(&entry.partition)
                    {
                        found.push((entry.partition, events));
                    }
                }
            }
        }
        Ok(found)
    }

    async fn forget(&self, lane: Lane) -> Result<(), SinkError> {
        let adopted = self.lanes.borrow_mut().get_mut(&lane.partition).map(|state| std::mem::take(&mut state.adopted));
        match adopted {
            None => Err(SinkError::Fenced(None)),
            Some(adopted) => self.delete(lane, &adopted).await,
        }
    }

    async fn publish(&self, batch: Batch<'_>) -> Result<Published, SinkError> {
        let (forget, epoch) = {
            let lanes = self.lanes.borrow();
            let state = lanes.get(&batch.lane.partition).ok_or(SinkError::Fenced(None))?;
            (state.confirmed.clone(), state.epoch)
        };
        let command = self.command(batch, &forget, epoch);
        let mut connection = self.connection();
        let last = command.query_async::<i64>(&mut connection).await.map_err(|error| self.failed(error))?;
        if let Some(state) = self.lanes.borrow_mut().get_mut(&batch.lane.partition) {
            state.confirmed.retain(|name| !forget.contains(name));
        }
        Ok(Published { fates: vec![Fate::Published; batch.events.len()], last_number: Some(last), trouble: None })
    }

    fn confirmed(&self, lane: Lane, batch: u64) {
        if let Some(state) = self.lanes.borrow_mut().get_mut(&lane.partition) {
            if batch == 0 {
                let adopted = std::mem::take(&mut state.adopted);
                state.confirmed.extend(adopted);
            } else {
                state.confirmed.push(format!("b:{}:{batch}", state.epoch));
            }
        }
    }

    async fn leave(&self, lane: Lane) -> Result<(), SinkError> {
        let left = self.lanes.borrow_mut().remove(&lane.partition);
        match left {
            None => Ok(()),
            Some(state) => self.delete(lane, &state.confirmed).await,
        }
    }

    async fn check(&self) -> Vec<Finding> {
        check(&self.connection(), &self.stream, !self.maxlen.is_empty()).await
    }
}

/// What an answer of Redis means for the drain.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
pub(crate) fn meaning(error: RedisError) -> SinkError {
    match error.code() {
        Some("FENCED") => SinkError::Fenced(
            error.detail().and_then(|text| text.rsplit(' ').next()).and_then(|last| last.parse().ok()),
        ),
        Some("WRONGTYPE") => SinkError::Refused(
            "OUTBOX_STREAM names a key of Redis that is no stream: give another name, or remove the key".to_owned(),
        ),
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => SinkError::Refused(format!("Redis: {error}")),
        // A permission that the script lacks, or something in the state that it cannot reckon with.
        _ if ["user executing the script", "attempt to "].iter().any(|words| error.to_string().contains(words)) => {
            SinkError::Refused(format!("Redis: {error}"))
        }
        _ if error.kind() == redis::ErrorKind::AuthenticationFailed => SinkError::Refused(format!("Redis: {error}")),
        _ => SinkError::unavailable(format_args!("Redis: {error}")),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn unreadable(error: redis::ParsingError) -> SinkError {
    SinkError::Refused(format!("the drain's state in Redis is unreadable: {error}"))
}

/// Of each event the step from the number before it and the end of its id: some fourteen bytes.
fn pack(events: &[Event]) -> String {
    let mut packed = String::with_capacity(16 * events.len());
    let mut before = 0;
    for event in events {
        let comma = if packed.is_empty() { "" } else { "," };
        let tail = tail(event.event_id);
        // Writing into a string never fails.
        let _ = write!(packed, "{comma}{}:{tail:08x}", event.seq - before);
        before = event.seq;
    }
    packed
}

/// The end of an id: enough to tell an event from another of the same number.
fn tail(event_id: uuid::Uuid) -> u32 {
    let [.., a, b, c, d] = event_id.into_bytes();
    u32::from_be_bytes([a, b, c, d])
}

pub(crate) fn unpack(packed: &str) -> Result<Vec<Remembered>, SinkError> {
    let mut seq = 0_i64;
    let event = |text: &str| {
        let (step, tail) = text.split_once(':')?;
        seq = step.parse::<i64>().ok().and_then(|step| seq.checked_add(step))?;
        Some(Remembered { seq, tail: tail.to_owned() })
    };
    let events: Option<Vec<Remembered>> = packed.split(',').filter(|text| !text.is_empty()).map(event).collect();
    events.ok_or_else(|| SinkError::Refused("the drain's state in Redis is unreadable: a batch in flight".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Aggregate;

    fn event(seq: i64) -> Event {
        Event {
            seq,
            event_id: uuid::Uuid::from_u128(u128::from(seq.unsigned_abs()) << 3 | 0xf000_0000_0000_0000),
            aggregate: Aggregate { kind: "account".to_owned(), id: "a".to_owned() },
            brand_id: uuid::Uuid::nil(),
            event_type: "TESTED".to_owned(),
            occurred_at: time::OffsetDateTime::UNIX_EPOCH,
            payload: serde_json::value::RawValue::NULL.to_owned(),
        }
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        for seqs in [vec![], vec![7], vec![1, 2, 3, 900, i64::MAX], vec![5, 3, 9]] {
            let events: Vec<Event> = seqs.iter().map(|&seq| event(seq)).collect();
            let expected: Vec<Remembered> = seqs
                .iter()
                .map(|&seq| Remembered { seq, tail: event(seq).event_id.to_string().split_off(28) })
                .collect();
            assert_eq!(unpack(&pack(&events)).unwrap(), expected);
        }
        for spoilt in ["x", "1", "1:0a,,x:0a", "9223372036854775807:0a,1:0b"] {
            assert!(matches!(unpack(spoilt), Err(SinkError::Refused(_))), "{spoilt}");
        }
    }

    #[test]
    fn the_state_lies_in_the_slot_of_the_stream() {
        assert_eq!(state_key("rollcall:events", 3), "{rollcall:events}:drain:3");
    }
}
