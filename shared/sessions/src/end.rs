//! Ending sessions at somebody's wish. Unlike a take this leaves neither mark nor receipt.

use identity::ids::AccountId;

use crate::{
    SessionError, Sessions, keys,
    settings::millis,
    token::{self, SessionHash},
};

impl Sessions {
    /// Ends the session of `token`; says whether it was live.
    pub async fn end(&self, token: &str) -> Result<bool, SessionError> {
        match token::parse(token) {
            Some((account, hash)) => self.end_one(account, &hash).await,
            None => Ok(false),
        }
    }

    /// Ends the account's session of that name; says whether it was live.
    pub async fn end_one(&self, account: AccountId, hash: &SessionHash) -> Result<bool, SessionError> {
        let mut call = self.scripts.end_one.prepare_invoke();
        call.key(keys::index(account)).arg(millis(self.settings.idle)).arg(hash.as_str());
        self.run(&call).await
    }

    /// Ends all sessions of the account; says how many were live.
    pub async fn end_all(&self, account: AccountId) -> Result<u32, SessionError> {
        self.end_all_but(account, "").await
    }

    /// Ends all sessions of the token's account but the token's own; says how many were live. A token that is not
    /// live itself ends nothing.
    pub async fn end_others(&self, token: &str) -> Result<u32, SessionError> {
        match token::parse(token) {
            Some((account, hash)) => self.end_all_but(account, hash.as_str()).await,
            None => Ok(0),
        }
    }

    async fn end_all_but(&self, account: AccountId, kept: &str) -> Result<u32, SessionError> {
        let mut call = self.scripts.end_all.prepare_invoke();
        call.key(keys::index(account)).arg(millis(self.settings.idle)).arg(kept);
        self.run(&call).await
    }
}
