//! Approval lists of the brands.

use std::collections::HashMap;

use identity::{
    approval::ApprovalConfig,
    ids::{AllianceId, BrandId, CorporationId},
};
use sqlx::{PgConnection, query};

use crate::Result;

/// The lists of every brand that has a row.
pub async fn all(db: &mut PgConnection) -> Result<HashMap<BrandId, ApprovalConfig>> {
    let rows = query!(
        "/* auth_config::all */
         SELECT brand_id, require_membership, allowed_corporations, allowed_alliances, denied_corporations, denied_alliances
         FROM auth_config"
    )
    .fetch_all(db)
    .await?;
    let corporations = |ids: Vec<i64>| ids.into_iter().map(CorporationId).collect();
    let alliances = |ids: Vec<i64>| ids.into_iter().map(AllianceId).collect();
    Ok(rows
        .into_iter()
        .map(|row| {
            let config = ApprovalConfig {
                require_membership: row.require_membership,
                allowed_corporations: corporations(row.allowed_corporations),
                allowed_alliances: alliances(row.allowed_alliances),
                denied_corporations: corporations(row.denied_corporations),
                denied_alliances: alliances(row.denied_alliances),
            };
            (BrandId(row.brand_id), config)
        })
        .collect())
}
