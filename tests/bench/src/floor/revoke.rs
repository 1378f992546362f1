//! From candidates to sessions that are gone: confirm, decide, take, record; a page confirmed while another is written.

use futures::{StreamExt, stream};
use redis::{Script, aio::MultiplexedConnection};
use serde_json::{Value, json};
use sqlx::{Connection, FromRow, PgConnection};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    AHEAD,
    ask::Asker,
    sql,
    write::{column, stamp},
};
use crate::ground::{Run, connect};

/// Takes the sessions of an account that act as a character, in the documented layout, and leaves mark and receipt.
/// KEYS: index, denied, receipt. ARGV: character, time of the observation.
const TAKE: &str = "
    local removed = {}
    for _, hash in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
      local key = string.sub(KEYS[1], 1, -6) .. hash
      local session = redis.call('HMGET', key, 'character_id', 'approved_at')
      if session[1] == ARGV[1] and tonumber(session[2]) < tonumber(ARGV[2]) then
        redis.call('DEL', key)
        redis.call('ZREM', KEYS[1], hash)
        removed[#removed + 1] = hash
      end
    end
    redis.call('SET', KEYS[3], cjson.encode(removed), 'PX', 604800000)
    redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
    redis.call('PEXPIRE', KEYS[2], 86400000)
    return removed";
/// Younger than every approval.
const OBSERVED_AT: i64 = 9_999_999_999_999;

#[derive(Debug, Clone, FromRow)]
#[expect(clippy::struct_field_names, reason = "named by the table")]
struct Candidate {
    eve_id: i64,
    character_id: Uuid,
    account_id: Uuid,
    brand_id: Uuid,
    corporation_id: i64,
}

/// Deals with every candidate.
pub(super) async fn all(run: &Run, asker: &Asker, mut database: PgConnection, mut redis: MultiplexedConnection) {
    let (pages, mut confirmed) = mpsc::channel(1);
    let confirmer = tokio::spawn(confirm(connect(&run.database).await, asker.clone(), pages));
    let take = Script::new(TAKE);
    while let Some(page) = confirmed.recv().await {
        let page: Vec<(Uuid, Candidate)> = page.into_iter().map(|one| (Uuid::now_v7(), one)).collect();
        decide(&mut database, &page).await;
        let removed = take_sessions(&mut redis, &take, &page).await;
        record(&mut database, &page, &removed).await;
        let mut pipe = redis::pipe();
        for (id, one) in &page {
            pipe.del(receipt(one, *id)).ignore();
        }
        pipe.exec_async(&mut redis).await.expect("Redis answers");
    }
    confirmer.await.expect("all candidates are confirmed");
}

async fn confirm(mut database: PgConnection, asker: Asker, to: mpsc::Sender<Vec<Candidate>>) {
    let mut after = 0_i64;
    loop {
        let page: Vec<Candidate> =
            sqlx::query_as(sql::FOUND).bind(after).fetch_all(&mut database).await.expect("candidates can be read");
        let Some(last) = page.last() else { return };
        if after == 0 {
            asker.corporation(last.corporation_id).await;
        }
        after = last.eve_id;
        let confirmed: Vec<Candidate> = stream::iter(page)
            .map(|one| {
                let asker = asker.clone();
                tokio::spawn(
                    async move { (asker.corporation_of(one.eve_id).await == one.corporation_id).then_some(one) },
                )
            })
            .buffered(AHEAD)
            .filter_map(async |one| one.expect("ESI answers"))
            .collect()
            .await;
        to.send(confirmed).await.expect("decisions are written");
    }
}

async fn decide(database: &mut PgConnection, page: &[(Uuid, Candidate)]) {
    let ids = column(page, |(_, one)| one.eve_id);
    let mut tx = database.begin().await.expect("a transaction begins");
    sqlx::query(sql::DECIDE)
        .bind(column(page, |(id, _)| *id))
        .bind(&ids)
        .bind(column(page, |(_, one)| one.character_id))
        .bind(column(page, |(_, one)| one.account_id))
        .bind(column(page, |(_, one)| one.brand_id))
        .bind(column(page, |(_, one)| one.corporation_id))
        .execute(&mut *tx)
        .await
        .expect("decisions are written");
    sqlx::query(sql::DROP).bind(&ids).execute(&mut *tx).await.expect("candidates are dropped");
    stamp(&mut tx, &ids).await;
    tx.commit().await.expect("the page is written");
}

async fn take_sessions(
    redis: &mut MultiplexedConnection,
    take: &Script,
    page: &[(Uuid, Candidate)],
) -> Vec<Vec<String>> {
    let mut pipe = redis::pipe();
    pipe.load_script(take).ignore();
    for (id, one) in page {
        let mut call = take.prepare_invoke();
        call.key(format!("sess:{{{}}}:index", one.account_id)).key(format!("sess:{{{}}}:denied", one.account_id));
        call.key(receipt(one, *id)).arg(one.character_id.to_string()).arg(OBSERVED_AT);
        pipe.invoke_script(&call);
    }
    pipe.query_async(redis).await.expect("Redis answers")
}

async fn record(database: &mut PgConnection, page: &[(Uuid, Candidate)], removed: &[Vec<String>]) {
    let sessions: Vec<(&Uuid, &Candidate, &String)> = page
        .iter()
        .zip(removed)
        .flat_map(|((id, one), hashes)| hashes.iter().map(move |hash| (id, one, hash)))
        .collect();
    let details: Vec<Value> = sessions.iter().map(|(id, one, hash)| details(id, one, hash)).collect();
    let (brands, accounts) = (column(&sessions, |s| s.1.brand_id), column(&sessions, |s| s.1.account_id));
    let mut tx = database.begin().await.expect("a transaction begins");
    let ids = column(page, |(id, _)| *id);
    sqlx::query(sql::CLEAR).bind(&ids).execute(&mut *tx).await.expect("decisions are cleared");
    sqlx::query(sql::AUDIT)
        .bind(&brands)
        .bind(&accounts)
        .bind(column(&sessions, |s| s.1.character_id))
        .bind(&details)
        .execute(&mut *tx)
        .await
        .expect("audit rows are written");
    sqlx::query(sql::EVENTS)
        .bind(column(&sessions, |_| Uuid::now_v7()))
        .bind(column(&accounts, ToString::to_string))
        .bind(&brands)
        .bind(&details)
        .execute(&mut *tx)
        .await
        .expect("events are written");
    tx.commit().await.expect("the page is written");
}

fn details(id: &Uuid, one: &Candidate, session: &str) -> Value {
    json!({
        "eve_character_id": one.eve_id,
        "corporation_id": one.corporation_id,
        "alliance_id": null,
        "rule": "not_a_member",
        "reason": "disallowed",
        "session": session,
        "acted_as": one.character_id,
        "client_type": "web",
        "invalidation_id": id,
    })
}

fn receipt(one: &Candidate, id: Uuid) -> String {
    format!("sess:{{{}}}:receipt:{id}", one.account_id)
}
