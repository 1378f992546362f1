//! Names of the keys. The braces make the account id the hash tag, so that its keys share a cluster slot.

use identity::ids::AccountId;
use uuid::Uuid;

use crate::token::SessionHash;

pub(crate) fn index(account: AccountId) -> String {
    format!("sess:{{{account}}}:index")
}

pub(crate) fn denied(account: AccountId) -> String {
    format!("sess:{{{account}}}:denied")
}

pub(crate) fn receipt(account: AccountId, receipt: Uuid) -> String {
    format!("sess:{{{account}}}:receipt:{}", receipt.hyphenated())
}

pub(crate) fn ticket(account: AccountId, hash: &SessionHash) -> String {
    format!("sess:{{{account}}}:ticket:{hash}")
}
