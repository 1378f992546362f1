//! The calls to ESI, and which sessions are at stake.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use harness::STRANGERS;
use redis::aio::MultiplexedConnection;
use serde::{Deserialize, de::DeserializeOwned};

use super::read::Due;
use crate::simulator::bare_client;

/// A bare client of ESI.
#[derive(Clone)]
pub(super) struct Asker {
    url: Arc<str>,
    client: reqwest::Client,
    redis: MultiplexedConnection,
    names: Arc<Mutex<HashMap<i64, String>>>,
}

/// A page and what ESI says of it.
#[derive(Debug)]
pub(super) struct Answered {
    /// Those about whom nothing changed.
    pub(super) unchanged: Vec<i64>,
    /// Those who moved.
    pub(super) moved: Vec<Moved>,
}

/// Somebody who moved, and where to.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) due: Due,
    pub(super) corporation: i64,
    pub(super) alliance: Option<i64>,
    pub(super) corporation_name: Option<String>,
    pub(super) alliance_name: Option<String>,
    /// Must leave, and has a session.
    pub(super) leaves: bool,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "named by ESI")]
struct Affiliation {
    character_id: i64,
    corporation_id: i64,
    alliance_id: Option<i64>,
}

#[derive(Deserialize)]
struct Name {
    id: i64,
    name: String,
}

#[derive(Deserialize)]
struct Sheet {
    corporation_id: i64,
}

impl Asker {
    pub(super) fn new(url: &str, redis: MultiplexedConnection) -> Self {
        Self { url: url.into(), client: bare_client(), redis, names: Arc::default() }
    }

    /// Asks about a page, then for the names of organisations not met before, then whether sessions are at stake.
    pub(super) async fn ask(self, page: Vec<Due>) -> Answered {
        let ids: Vec<i64> = page.iter().map(|due| due.eve_id).collect();
        let rows: Vec<Affiliation> = self.post("characters/affiliation", &ids).await;
        let found: HashMap<i64, (i64, Option<i64>)> =
            rows.into_iter().map(|row| (row.character_id, (row.corporation_id, row.alliance_id))).collect();
        let (mut unchanged, mut moved) = (Vec::with_capacity(page.len()), Vec::new());
        for due in page {
            let (corporation, alliance) = found[&due.eve_id];
            if (Some(corporation), alliance) == (due.corporation_id, due.alliance_id) {
                unchanged.push(due.eve_id);
            } else {
                moved.push(Moved {
                    due,
                    corporation,
                    alliance,
                    corporation_name: None,
                    alliance_name: None,
                    leaves: corporation == STRANGERS,
                });
            }
        }
        if !moved.is_empty() {
            self.name(&mut moved).await;
            self.weigh(&mut moved).await;
        }
        Answered { unchanged, moved }
    }

    /// The corporation by the character's own sheet.
    pub(super) async fn corporation_of(&self, eve_id: i64) -> i64 {
        self.get::<Sheet>(&format!("characters/{eve_id}")).await.corporation_id
    }

    /// A corporation's own sheet, of which only the cost matters.
    pub(super) async fn corporation(&self, id: i64) {
        self.get::<serde_json::Value>(&format!("corporations/{id}")).await;
    }

    async fn name(&self, moved: &mut [Moved]) {
        let met: HashSet<i64> = moved.iter().flat_map(|m| [Some(m.corporation), m.alliance]).flatten().collect();
        let unmet: Vec<i64> = {
            let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            met.into_iter().filter(|id| !names.contains_key(id)).collect()
        };
        let new: Vec<Name> = if unmet.is_empty() { Vec::new() } else { self.post("universe/names", &unmet).await };
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.extend(new.into_iter().map(|name| (name.id, name.name)));
        for one in moved {
            one.corporation_name = names.get(&one.corporation).cloned();
            one.alliance_name = one.alliance.and_then(|id| names.get(&id).cloned());
        }
    }

    async fn weigh(&self, moved: &mut [Moved]) {
        let at_stake: Vec<&mut Moved> = moved.iter_mut().filter(|one| one.leaves).collect();
        if at_stake.is_empty() {
            return;
        }
        let mut pipe = redis::pipe();
        for one in &at_stake {
            pipe.exists(format!("sess:{{{}}}:index", one.due.account_id));
        }
        let live: Vec<bool> = pipe.query_async(&mut self.redis.clone()).await.expect("Redis answers");
        for (one, live) in at_stake.into_iter().zip(live) {
            one.leaves = live;
        }
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, ids: &[i64]) -> T {
        let request = self.client.post(format!("{}/{path}", self.url)).json(ids);
        answer(request).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        answer(self.client.get(format!("{}/{path}", self.url))).await
    }
}

async fn answer<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> T {
    let answer = request.send().await.and_then(reqwest::Response::error_for_status).expect("ESI answers");
    let body = answer.bytes().await.expect("the answer is whole");
    serde_json::from_slice(&body).expect("the answer is JSON")
}
