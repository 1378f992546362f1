//! The transactional outbox: an event stands or falls with the effect it tells of.

use identity::ids::{AccountId, BrandId};
use serde_json::Value;
use sqlx::{PgConnection, query};
use uuid::Uuid;

use crate::Result;

/// An event about an account.
#[derive(Debug, Clone)]
pub struct AccountEvent {
    /// The account.
    pub account_id: AccountId,
    /// Its brand.
    pub brand_id: BrandId,
    /// What happened, for example `SESSION_INVALIDATED`.
    pub event_type: &'static str,
    /// The body.
    pub payload: Value,
}

/// Enqueues events in the caller's transaction. Numbers are taken under a transaction-level lock of each account, in
/// one order, so that a later number of an account cannot commit first and two callers cannot block each other.
pub async fn enqueue(db: &mut PgConnection, events: &[AccountEvent]) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let event_ids: Vec<Uuid> = events.iter().map(|_| Uuid::now_v7()).collect();
    let accounts: Vec<String> = events.iter().map(|e| e.account_id.to_string()).collect();
    let brands: Vec<Uuid> = events.iter().map(|e| e.brand_id.0).collect();
    let types: Vec<String> = events.iter().map(|e| e.event_type.to_owned()).collect();
    let payloads: Vec<Value> = events.iter().map(|e| e.payload.clone()).collect();
    query!(
        "/* outbox::enqueue lock */
         SELECT pg_advisory_xact_lock(h) FROM (
             SELECT DISTINCT hashtextextended('account:' || a, 0) AS h FROM unnest($1::text[]) AS a ORDER BY h) AS locks",
        &accounts
    )
    .fetch_all(&mut *db)
    .await?;
    query!(
        "/* outbox::enqueue */
         INSERT INTO outbox_events (event_id, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type, payload)
         SELECT event_id, 'account', account, hashtext('account:' || account), brand, type, payload
         FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::jsonb[]) WITH ORDINALITY
              AS e (event_id, account, brand, type, payload, n)
         ORDER BY n",
        &event_ids,
        &accounts,
        &brands,
        &types,
        &payloads,
    )
    .execute(db)
    .await?;
    Ok(())
}
