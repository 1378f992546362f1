//! Reading a Redis stream back, to compare it with what PostgreSQL knows.

use std::collections::{HashMap, HashSet};

use redis::{Script, aio::ConnectionManager};
use uuid::Uuid;

use crate::{
    redis::{meaning, state_key, unpack},
    sink::SinkError,
};

const READ: &str = include_str!("lua/read.lua");

/// A stream that a drain writes.
#[derive(Debug)]
pub struct Stream {
    connection: ConnectionManager,
    name: String,
    read: Script,
}

/// What is there to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// How many entries.
    pub entries: u64,
    /// Id of the last one; `0-0` when there is none.
    pub last: String,
    /// How many were removed since it was made.
    pub removed: u64,
    /// Some were, and none of them one by one: they were trimmed from its beginning.
    pub is_trimmed: bool,
}

/// An event on the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Id of the entry.
    pub id: String,
    /// Partition of the event.
    pub partition: u16,
    /// Number in the partition.
    pub n: i64,
    /// Order among the events of its aggregate.
    pub seq: i64,
    /// The event.
    pub event_id: Uuid,
    /// What kind of thing changed.
    pub aggregate_type: String,
    /// Which one.
    pub aggregate_id: String,
}

impl Entry {
    /// Where it is and whom it is about.
    pub fn describe(&self) -> String {
        let Self { id, partition, n, seq, event_id, aggregate_type, aggregate_id } = self;
        format!(
            "entry {id}, partition {partition}, number {n}, event {event_id}, seq {seq} of {aggregate_type}:{aggregate_id}"
        )
    }
}

/// Some entries.
#[derive(Debug, Default)]
pub struct Page {
    /// Those that a drain wrote.
    pub entries: Vec<Entry>,
    /// How many others wrote.
    pub foreign: u64,
    /// Id of the last one, of whomever; none at the end.
    pub last: Option<String>,
}

impl Page {
    fn of(raw: Raw) -> Self {
        let last = raw.last().and_then(|fields| fields.first());
        let mut page = Self { last: last.map(|id| String::from_utf8_lossy(id).into_owned()), ..Self::default() };
        for fields in raw {
            let fields: Option<Vec<String>> = fields.into_iter().map(|field| String::from_utf8(field).ok()).collect();
            match fields.and_then(entry) {
                Some(entry) => page.entries.push(entry),
                None => page.foreign += 1,
            }
        }
        page
    }
}

/// Entries as Redis gives them: whoever else writes to the stream may write any bytes.
type Raw = Vec<Vec<Vec<u8>>>;

impl Stream {
    /// The stream under this name.
    pub fn new(connection: ConnectionManager, name: &str) -> Self {
        Self { connection, name: name.to_owned(), read: Script::new(READ) }
    }

    /// What is there now.
    ///
    /// # Errors
    /// Redis is away, or the key is no stream.
    pub async fn span(&mut self) -> Result<Span, SinkError> {
        let exists: bool =
            redis::cmd("EXISTS").arg(&self.name).query_async(&mut self.connection).await.map_err(meaning)?;
        if !exists {
            return Ok(Span { entries: 0, last: "0-0".to_owned(), removed: 0, is_trimmed: false });
        }
        let info: HashMap<String, redis::Value> = redis::cmd("XINFO")
            .arg("STREAM")
            .arg(&self.name)
            .query_async(&mut self.connection)
            .await
            .map_err(meaning)?;
        let text = |name: &str| {
            let value = info.get(name).and_then(|value| redis::from_redis_value_ref::<String>(value).ok());
            value.unwrap_or_else(|| "0-0".to_owned())
        };
        let entries: u64 = info.get("length").and_then(|value| redis::from_redis_value_ref(value).ok()).unwrap_or(0);
        let added = info.get("entries-added").and_then(|value| redis::from_redis_value_ref(value).ok());
        // Trimming leaves no trace but this: more was added than is there, and nothing was deleted one by one.
        let removed = added.unwrap_or(entries).saturating_sub(entries);
        let is_trimmed = removed > 0 && text("max-deleted-entry-id") == "0-0";
        Ok(Span { entries, last: text("last-generated-id"), removed, is_trimmed })
    }

    /// The next entries behind `after` up to `last`, at most a thousand.
    ///
    /// # Errors
    /// Redis is away, or the key is no stream.
    pub async fn page(&mut self, after: Option<&str>, last: &str) -> Result<Page, SinkError> {
        self.read("XRANGE", after.map_or_else(|| "-".to_owned(), |after| format!("({after}")), last).await
    }

    /// The same backwards: those before `before`, or the end, the newest first.
    ///
    /// # Errors
    /// Redis is away, or the key is no stream.
    pub async fn page_before(&mut self, before: Option<&str>) -> Result<Page, SinkError> {
        self.read("XREVRANGE", before.map_or_else(|| "+".to_owned(), |before| format!("({before}")), "-").await
    }

    async fn read(&mut self, command: &str, from: String, to: &str) -> Result<Page, SinkError> {
        let mut reading = self.read.key(&self.name);
        let reading = reading.arg(command).arg(from).arg(to);
        reading.invoke_async(&mut self.connection).await.map(Page::of).map_err(meaning)
    }

    /// `seq` of the events that are published and whose deletion is not confirmed, of all partitions.
    ///
    /// # Errors
    /// Redis is away, or the state is unreadable.
    pub async fn in_flight(&mut self, partitions: u16) -> Result<HashSet<i64>, SinkError> {
        let mut seqs = HashSet::new();
        for partition in 0..partitions {
            let state: HashMap<String, String> = redis::cmd("HGETALL")
                .arg(state_key(&self.name, partition))
                .query_async(&mut self.connection)
                .await
                .map_err(meaning)?;
            for (_, packed) in state.iter().filter(|(field, _)| field.starts_with("b:")) {
                seqs.extend(unpack(packed)?.into_iter().map(|event| event.seq));
            }
        }
        Ok(seqs)
    }
}

fn entry(fields: Vec<String>) -> Option<Entry> {
    let [id, partition, n, seq, event_id, aggregate_type, aggregate_id] = fields.try_into().ok()?;
    let (partition, n) = (partition.parse().ok()?, n.parse().ok()?);
    let (seq, event_id) = (seq.parse().ok()?, event_id.parse().ok()?);
    Some(Entry { id, partition, n, seq, event_id, aggregate_type, aggregate_id })
}
