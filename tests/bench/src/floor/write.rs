//! Writing a batch of the sweep: one transaction.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{
    ask::{Answered, Moved},
    sql,
};

/// Writes what was found about a page.
pub(super) async fn batch(database: &mut PgConnection, answered: &Answered) {
    if answered.moved.is_empty() {
        // A statement alone is its own transaction.
        stamp(database, &answered.unchanged).await;
        return;
    }
    let mut tx = database.begin().await.expect("a transaction begins");
    stamp(&mut tx, &answered.unchanged).await;
    write_moved(&mut tx, &answered.moved).await;
    let leavers: Vec<&Moved> = answered.moved.iter().filter(|one| one.leaves).collect();
    if !leavers.is_empty() {
        note(&mut tx, &leavers).await;
    }
    tx.commit().await.expect("the batch is written");
}

/// Time stamps alone.
pub(super) async fn stamp(database: &mut PgConnection, ids: &[i64]) {
    sqlx::query(sql::STAMP).bind(ids).execute(database).await.expect("time stamps are written");
}

async fn write_moved(database: &mut PgConnection, moved: &[Moved]) {
    let verdict =
        |one: &Moved| if one.leaves { ("disallowed", "not_a_member") } else { ("allowed", "allowed_alliance") };
    sqlx::query(sql::MOVE)
        .bind(column(moved, |one| one.due.eve_id))
        .bind(column(moved, |one| one.corporation))
        .bind(column(moved, |one| one.alliance))
        .bind(column(moved, |one| one.corporation_name.as_deref()))
        .bind(column(moved, |one| one.alliance_name.as_deref()))
        .bind(column(moved, |one| verdict(one).0))
        .bind(column(moved, |one| verdict(one).1))
        .bind(column(moved, |one| !one.leaves))
        .execute(database)
        .await
        .expect("organisations are written");
}

async fn note(database: &mut PgConnection, leavers: &[&Moved]) {
    let uuids = |id: fn(&Moved) -> Uuid| column(leavers, |one| id(one));
    sqlx::query(sql::CANDIDATES)
        .bind(column(leavers, |one| one.due.eve_id))
        .bind(uuids(|one| one.due.character_id))
        .bind(uuids(|one| one.due.account_id))
        .bind(uuids(|one| one.due.brand_id))
        .bind(column(leavers, |one| one.corporation))
        .execute(database)
        .await
        .expect("candidates are written");
}

/// One column of many rows, as `unnest` takes it.
pub(super) fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}
