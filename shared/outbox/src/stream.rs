//! Reading a Redis stream back, to compare it with what PostgreSQL knows.

use std::collections::{HashMap, HashSet};

use redis::aio::ConnectionManager;
use uuid::Uuid;

use crate::{
    redis::{meaning, state_key, unpack},
    sink::SinkError,
};

/// Entries read at a time.
const PAGE: usize = 1000;

/// A stream that a drain writes.
#[derive(Debug)]
pub struct Stream {
    connection: ConnectionManager,
    name: String,
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
    /// What all of their fields take.
    pub bytes: usize,
}

impl Page {
    fn of(raw: Raw) -> Self {
        let texts = raw.iter().flat_map(|(_, fields)| fields.values());
        let bytes = texts.map(String::len).sum();
        let mut page = Self { last: raw.last().map(|(id, _)| id.clone()), bytes, ..Self::default() };
        for (id, fields) in raw {
            match entry(id, &fields) {
                Some(entry) => page.entries.push(entry),
                None => page.foreign += 1,
            }
        }
        page
    }
}

/// Entries as Redis gives them.
type Raw = Vec<(String, HashMap<String, String>)>;

impl Stream {
    /// The stream under this name.
    pub fn new(connection: ConnectionManager, name: &str) -> Self {
        Self { connection, name: name.to_owned() }
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

    /// The entries behind `after` up to `last`, at most a thousand.
    ///
    /// # Errors
    /// Redis is away, or the key is no stream.
    pub async fn page(&mut self, after: Option<&str>, last: &str) -> Result<Page, SinkError> {
        let from = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
        let raw: Raw = redis::cmd("XRANGE")
            .arg(&self.name)
            .arg(from)
            .arg(last)
            .arg("COUNT")
            .arg(PAGE)
            .query_async(&mut self.connection)
            .await
            .map_err(meaning)?;
        Ok(Page::of(raw))
    }

    /// The same backwards: so many entries before `before`, or the end, the newest first.
    ///
    /// # Errors
    /// Redis is away, or the key is no stream.
    pub async fn page_before(&mut self, before: Option<&str>, count: usize) -> Result<Page, SinkError> {
        let from = before.map_or_else(|| "+".to_owned(), |before| format!("({before}"));
        let raw: Raw = redis::cmd("XREVRANGE")
            .arg(&self.name)
            .arg(from)
            .arg("-")
            .arg("COUNT")
            .arg(count)
            .query_async(&mut self.connection)
            .await
            .map_err(meaning)?;
        Ok(Page::of(raw))
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

fn entry(id: String, fields: &HashMap<String, String>) -> Option<Entry> {
    let number = |name: &str| fields.get(name)?.parse::<i64>().ok();
    Some(Entry {
        id,
        partition: fields.get("partition")?.parse().ok()?,
        n: number("n")?,
        seq: number("seq")?,
        event_id: fields.get("event_id")?.parse().ok()?,
        aggregate_type: fields.get("aggregate_type")?.clone(),
        aggregate_id: fields.get("aggregate_id")?.clone(),
    })
}
