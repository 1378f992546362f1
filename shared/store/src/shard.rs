//! Which part of the accounts a run looks at.

/// One of `count` disjoint parts; accounts are spread by a hash of their id, so that all characters of an account are
/// in one part. The same expression stands in every statement that is split:
/// `abs(abs(uuid_hash_extended(account_id, 0) % count) - index) < 1`. It means `… % count = index`, but an equality with an
/// expression is planned as if one row in two hundred matched, and the sweep would be sorted instead of read in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// From 0.
    pub index: i64,
    /// 1 for everything.
    pub count: i32,
}
