//! The notice board in Redis: what one process learns of ESI's limits, all shards of the address know before their
//! next call. Every key expires by Redis' clock. Without Redis each process goes by its own view.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use redis::FromRedisValue;
use tokio::time::{Instant, timeout};

use crate::{
    counts::Route,
    headers::ErrorLimit,
    limits::{Notice, SAME_WINDOW},
    settings::Shared,
};

/// What one process says must not shorten or soften what another said: answers arrive in any order.
const RAISE_TIME: &str = include_str!("lua/raise_time.lua");
const LOWER_REMAIN: &str = include_str!("lua/lower_remain.lua");

const PAUSE: &str = "esi:pause";
const ERRORS: &str = "esi:limit:errors";
const GROUPS: &str = "esi:limit:groups";
/// Routes change their group rarely; a day without any call may forget it.
const GROUPS_KEPT: Duration = Duration::from_hours(24);
/// Longest wait for Redis: a call to ESI is not worth more.
const PATIENCE: Duration = Duration::from_secs(1);
/// After a failure Redis is left alone for so long.
const LEFT_ALONE: Duration = Duration::from_secs(30);

fn group_key(group: &str) -> String {
    format!("esi:limit:group:{group}")
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// A `PTTL`; negative: no key.
fn time_left(pttl: i64) -> Option<Duration> {
    u64::try_from(pttl).ok().filter(|ms| *ms > 0).map(Duration::from_millis)
}

/// Redis as far as limits and answers are concerned: it may fail, and nothing else does then.
#[derive(Debug)]
pub(crate) struct Board {
    shared: Shared,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    left_alone_until: Option<Instant>,
    complained: bool,
}

impl Board {
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared, health: Mutex::default() }
    }

    /// What is on the board about a route, whose group is known here or not; one round trip, two when the group was
    /// not known here but is on the board.
    pub(crate) async fn look(&self, route: Route, group: Option<&str>) -> Notice {
        let mut pipe = redis::pipe();
        pipe.pttl(PAUSE).get(ERRORS).pttl(ERRORS).hget(GROUPS, route.as_str()).pttl(group_key(group.unwrap_or("")));
        let Some((pause, remain, reset, named, blocked)) =
            self.ask::<(i64, Option<u32>, i64, Option<String>, i64)>(&pipe).await
        else {
            return Notice::default();
        };
        let news = named.filter(|named| group != Some(named));
        let blocked = match &news {
            Some(named) => self.ask(redis::pipe().pttl(group_key(named))).await.map_or(-2, |(left,): (i64,)| left),
            None => blocked,
        };
        Notice {
            pause: time_left(pause),
            errors: remain.zip(time_left(reset)).map(|(remain, reset)| ErrorLimit { remain, reset }),
            blocked: news.as_deref().or(group).map(str::to_owned).zip(time_left(blocked)),
            group: news,
        }
    }

    /// Puts up what others have to know; most answers have nothing.
    pub(crate) async fn put_up(&self, route: Route, notice: &Notice) {
        if *notice == Notice::default() || self.shared.read_only {
            return;
        }
        let mut pipe = redis::pipe();
        if let Some(wait) = notice.pause {
            pipe.cmd("EVAL").arg(RAISE_TIME).arg(1).arg(PAUSE).arg(millis(wait)).ignore();
        }
        if let Some(limit) = notice.errors {
            pipe.cmd("EVAL").arg(LOWER_REMAIN).arg(1).arg(ERRORS);
            pipe.arg(limit.remain).arg(millis(limit.reset)).arg(millis(SAME_WINDOW)).ignore();
        }
        if let Some(group) = &notice.group {
            pipe.hset(GROUPS, route.as_str(), group).ignore();
            pipe.pexpire(GROUPS, i64::try_from(GROUPS_KEPT.as_millis()).unwrap_or(i64::MAX)).ignore();
        }
        if let Some((group, wait)) = &notice.blocked {
            pipe.cmd("EVAL").arg(RAISE_TIME).arg(1).arg(group_key(group)).arg(millis(*wait)).ignore();
        }
        self.ask::<()>(&pipe).await;
    }

    /// The value of a key.
    pub(crate) async fn get(&self, key: &str) -> Option<(String, Duration)> {
        let (text, left): (Option<String>, i64) = self.ask(redis::pipe().get(key).pttl(key)).await?;
        text.zip(time_left(left))
    }

    /// Keeps a value for a time.
    pub(crate) async fn keep(&self, key: &str, text: &str, time: Duration) {
        if !self.shared.read_only {
            self.ask::<()>(redis::pipe().pset_ex(key, text, millis(time)).ignore()).await;
        }
    }

    /// Takes a claim that nobody else holds, for at most a time. A process that may not write, or cannot, always has it.
    pub(crate) async fn claim(&self, key: &str, time: Duration) -> bool {
        if self.shared.read_only {
            return true;
        }
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg(key).arg(1).arg("NX").arg("PX").arg(millis(time));
        self.ask::<(Option<String>,)>(&pipe).await.is_none_or(|(taken,)| taken.is_some())
    }

    /// Gives a claim back.
    pub(crate) async fn give_back(&self, key: &str) {
        if !self.shared.read_only {
            self.ask::<()>(redis::pipe().del(key).ignore()).await;
        }
    }

    async fn ask<T: FromRedisValue>(&self, pipe: &redis::Pipeline) -> Option<T> {
        if self.health().left_alone_until.is_some_and(|until| until > Instant::now()) {
            return None;
        }
        let mut conn = self.shared.conn.clone();
        let problem = match timeout(PATIENCE, pipe.query_async(&mut conn)).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => error.category().to_owned(),
            Err(_) => "no answer".to_owned(),
        };
        let mut health = self.health();
        health.left_alone_until = Some(Instant::now() + LEFT_ALONE);
        if !std::mem::replace(&mut health.complained, true) {
            tracing::warn!(problem, "ESI limits are not shared: Redis fails, this process goes by its own view");
        }
        None
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
