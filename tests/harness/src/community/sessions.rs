//! Sessions in Redis, written and read by hand in the documented layout, so that the tests hold the sessions crate to
//! it.

use std::{collections::HashMap, fmt::Write, sync::atomic::Ordering};

use redis::{Pipeline, aio::MultiplexedConnection};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Community, Member};

const SESSIONS_PER_PIPELINE: usize = 500;
const MINUTE_MS: i64 = 60_000;

/// What a session is to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionSpec {
    /// `false`: the session is the account's and acts as no character.
    pub is_acting: bool,
    /// When its approval was read. Negative: in the future.
    pub approved_minutes_ago: i64,
    /// Until its absolute end. Zero and below: it has ended, and its key is still there.
    pub minutes_left: i64,
    /// Whether its key expires with it; without, only the fields tell its end.
    pub has_ttl: bool,
}

impl Default for SessionSpec {
    /// Acting, approved two hours ago, alive for another twelve.
    fn default() -> Self {
        Self { is_acting: true, approved_minutes_ago: 120, minutes_left: 720, has_ttl: true }
    }
}

/// A session as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// Hex SHA-256 of its token.
    pub hash: String,
    /// The fields of the hash.
    pub fields: HashMap<String, String>,
    /// Whether the account's index names it.
    pub is_indexed: bool,
}

impl SessionRow {
    /// The character it acts as; none for an account's own session.
    pub fn character_id(&self) -> Option<Uuid> {
        self.fields.get("character_id")?.parse().ok()
    }
}

/// Where the session of this token is stored.
///
/// # Panics
/// It is no token.
pub fn session_key(token: &str) -> String {
    let (account, _) = token.split_once('.').expect("a token is <account id>.<secret>");
    format!("sess:{{{account}}}:{}", hash(token))
}

fn hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// The token of the session built as number `place` with character `number`. The last letter leaves no stray bits, so
/// that it is base64url of 32 bytes however strictly it is read.
pub(super) fn first_token(account: Uuid, number: i64, place: usize) -> String {
    format!("{account}.{number:030}-{place:011}A")
}

fn later_token(account: Uuid, number: usize) -> String {
    format!("{account}.later{number:037}A")
}

/// A session to be written.
pub(super) struct NewSession<'a> {
    pub(super) account_id: Uuid,
    pub(super) brand_id: Uuid,
    pub(super) character_id: Uuid,
    pub(super) token: &'a str,
    pub(super) spec: SessionSpec,
}

impl Community {
    /// Opens a session of this character now, and returns its token.
    pub async fn open_session(&self, member: &Member, spec: SessionSpec) -> String {
        let token = later_token(member.account_id, self.later_sessions.fetch_add(1, Ordering::Relaxed));
        let &Member { account_id, brand_id, character_id, .. } = member;
        self.write_sessions(&[NewSession { account_id, brand_id, character_id, token: &token, spec }]).await;
        token
    }

    /// The sessions stored for an account, whether indexed or not, by hash.
    pub async fn sessions(&self, account: Uuid) -> Vec<SessionRow> {
        let mut redis = self.redis.clone();
        let prefix = format!("sess:{{{account}}}:");
        let index = format!("{prefix}index");
        let indexed: Vec<String> = ask(&mut redis, redis::cmd("ZRANGE").arg(index).arg(0).arg(-1)).await;
        let mut sessions = Vec::new();
        for key in self.redis_keys(&format!("{prefix}*")).await {
            let hash = &key[prefix.len()..];
            if hash.len() == 64 {
                let fields = ask(&mut redis, redis::cmd("HGETALL").arg(&key)).await;
                let is_indexed = indexed.iter().any(|entry| entry == hash);
                sessions.push(SessionRow { hash: hash.to_owned(), fields, is_indexed });
            }
        }
        sessions
    }

    /// Whether the session of this token is still stored.
    pub async fn has_session(&self, token: &str) -> bool {
        ask(&mut self.redis.clone(), redis::cmd("EXISTS").arg(session_key(token))).await
    }

    /// The marks that refuse sessions of an account: character id (or `*`) and time of the observation, in epoch
    /// milliseconds.
    pub async fn marks(&self, account: Uuid) -> HashMap<String, i64> {
        ask(&mut self.redis.clone(), redis::cmd("HGETALL").arg(format!("sess:{{{account}}}:denied"))).await
    }

    /// All keys that match, sorted.
    pub(super) async fn redis_keys(&self, pattern: &str) -> Vec<String> {
        let mut redis = self.redis.clone();
        let mut keys = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(1000);
            let (next, found): (u64, Vec<String>) = ask(&mut redis, &scan).await;
            keys.extend(found);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        keys.sort();
        keys.dedup();
        keys
    }

    pub(super) async fn write_sessions(&self, sessions: &[NewSession<'_>]) {
        let mut redis = self.redis.clone();
        let now = now(&mut redis).await;
        for chunk in sessions.chunks(SESSIONS_PER_PIPELINE) {
            let mut pipeline = Pipeline::with_capacity(4 * chunk.len());
            for session in chunk {
                write(&mut pipeline, session, now);
            }
            pipeline.exec_async(&mut redis).await.expect("Redis answers");
        }
    }
}

fn write(pipeline: &mut Pipeline, session: &NewSession<'_>, now: i64) {
    let NewSession { account_id, brand_id, character_id, token, spec } = session;
    let prefix = format!("sess:{{{account_id}}}:");
    let hash = hash(token);
    let key = format!("{prefix}{hash}");
    let index = format!("{prefix}index");
    let approved = now - spec.approved_minutes_ago * MINUTE_MS;
    let expires = now + spec.minutes_left * MINUTE_MS;
    let mut character = String::new();
    if spec.is_acting {
        write!(character, "{character_id}").expect("text can be written to");
    }
    let opened = approved.min(now);
    pipeline.hset_multiple(
        &key,
        &[
            ("account_id", account_id.to_string()),
            ("brand_id", brand_id.to_string()),
            ("character_id", character),
            ("approved_at", approved.to_string()),
            ("created_at", opened.to_string()),
            ("last_seen_at", now.to_string()),
            ("expires_at", expires.to_string()),
            ("client_type", "web".to_owned()),
            ("role", "player".to_owned()),
        ],
    );
    pipeline.zadd(&index, &hash, expires);
    if spec.has_ttl && spec.minutes_left > 0 {
        pipeline.pexpire_at(&key, expires).pexpire_at(&index, expires);
    }
}

/// By Redis's clock, in epoch milliseconds.
async fn now(redis: &mut MultiplexedConnection) -> i64 {
    let (seconds, micros): (i64, i64) = ask(redis, &redis::cmd("TIME")).await;
    seconds * 1000 + micros / 1000
}

pub(super) async fn ask<T: redis::FromRedisValue>(redis: &mut MultiplexedConnection, command: &redis::Cmd) -> T {
    command.query_async(redis).await.expect("Redis answers")
}
