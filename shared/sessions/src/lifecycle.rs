//! The life of a session while it is wanted: open, validate, act as, list.

use identity::ids::{AccountId, BrandId, CharacterId};

use crate::{
    EpochMillis, MAX_SESSIONS_PER_ACCOUNT, Session, SessionError, Sessions, keys,
    session::Row,
    settings::millis,
    token::{self, SessionHash, SessionToken},
};

/// A session to open.
#[derive(Debug, Clone)]
pub struct Open {
    /// Whose it is.
    pub account_id: AccountId,
    /// The brand the account belongs to.
    pub brand_id: BrandId,
    /// The character it acts as; none for an account-only session.
    pub character_id: Option<CharacterId>,
    /// When the approval (or, without a character, the right to log in) was read, by the database's clock: the time
    /// of the statement that read it, or earlier.
    pub approved_at: EpochMillis,
    /// What the client calls itself; may be empty. The caller bounds its length.
    pub client_type: String,
    /// The account's role.
    pub role: String,
}

impl Sessions {
    /// Opens a session. At [`MAX_SESSIONS_PER_ACCOUNT`] the one unseen for longest ends.
    ///
    /// # Errors
    /// [`SessionError::Refused`] if the approval is older than an observation that cost the character or the account
    /// its sessions.
    pub async fn open(&self, open: &Open) -> Result<SessionToken, SessionError> {
        let token = SessionToken::generate(open.account_id)?;
        let mut call = self.scripts.open.prepare_invoke();
        call.key(keys::index(open.account_id))
            .key(keys::denied(open.account_id))
            .arg(millis(self.settings.idle))
            .arg(millis(self.settings.absolute))
            .arg(MAX_SESSIONS_PER_ACCOUNT)
            .arg(token.hash().as_str())
            .arg(open.account_id.to_string())
            .arg(open.brand_id.to_string())
            .arg(text(open.character_id))
            .arg(open.approved_at.0)
            .arg(&open.client_type)
            .arg(&open.role);
        match self.run::<Option<i64>>(&call).await? {
            None => Ok(token),
            Some(mark) => Err(refused(open.character_id, mark)),
        }
    }

    /// The live session of `token`, which counts as seen now; none for a token that is unknown, over or malformed
    /// alike. A session found to be over is removed, and so is one whose approval is older than a mark of its character
    /// or account: a take that did not find it in the index has overlooked it.
    pub async fn validate(&self, token: &str) -> Result<Option<Session>, SessionError> {
        match token::parse(token) {
            Some((account, hash)) => self.validate_hash(account, &hash).await,
            None => Ok(None),
        }
    }

    /// As [`Self::validate`], for who holds a session's name by other means, such as a signed statement that the
    /// token was shown. The name alone proves nothing.
    pub async fn validate_hash(&self, account: AccountId, hash: &SessionHash) -> Result<Option<Session>, SessionError> {
        let mut call = self.scripts.validate.prepare_invoke();
        call.key(keys::index(account)).key(keys::denied(account)).arg(millis(self.settings.idle)).arg(hash.as_str());
        self.run::<Option<Row>>(&call).await?.map(Session::from_row).transpose()
    }

    /// Changes the character that the session of `token` acts as (none: account-only again), on an approval read at
    /// `approved_at` by the database's clock. None if there is no such live session, as for [`Self::validate`]. For the character it already
    /// acts as, the younger of both approvals stands.
    ///
    /// # Errors
    /// [`SessionError::Refused`] as for [`Self::open`]; the session then stays as it was.
    pub async fn act_as(
        &self,
        token: &str,
        character: Option<CharacterId>,
        approved_at: EpochMillis,
    ) -> Result<Option<Session>, SessionError> {
        let Some((account, hash)) = token::parse(token) else { return Ok(None) };
        let mut call = self.scripts.act_as.prepare_invoke();
        call.key(keys::index(account))
            .key(keys::denied(account))
            .arg(millis(self.settings.idle))
            .arg(hash.as_str())
            .arg(text(character))
            .arg(approved_at.0);
        match self.run::<Option<(i64, Option<Row>)>>(&call).await? {
            None => Ok(None),
            Some((_, Some(row))) => Session::from_row(row).map(Some),
            Some((mark, None)) => Err(refused(character, mark)),
        }
    }

    /// The account's live sessions, youngest first, at most [`MAX_SESSIONS_PER_ACCOUNT`]. Dead ones are removed.
    pub async fn list(&self, account: AccountId) -> Result<Vec<Session>, SessionError> {
        let mut call = self.scripts.list.prepare_invoke();
        call.key(keys::index(account)).arg(millis(self.settings.idle)).arg(MAX_SESSIONS_PER_ACCOUNT);
        self.run::<Vec<Row>>(&call).await?.into_iter().map(Session::from_row).collect()
    }

    /// The account's sessions that act as `character` and have not reached their absolute end, as a take finds them:
    /// idle or not. At most [`MAX_SESSIONS_PER_ACCOUNT`], in no order; none where the index is of another type. Writes
    /// nothing.
    pub async fn find_acting(&self, account: AccountId, character: CharacterId) -> Result<Vec<Session>, SessionError> {
        self.find(account, &character.to_string()).await
    }

    /// As [`Self::find_acting`], whichever character they act as. Unlike [`Self::list`] it leaves dead ones in place.
    pub async fn find_all(&self, account: AccountId) -> Result<Vec<Session>, SessionError> {
        self.find(account, "*").await
    }

    async fn find(&self, account: AccountId, character: &str) -> Result<Vec<Session>, SessionError> {
        let mut call = self.scripts.find_acting.prepare_invoke();
        call.key(keys::index(account)).arg(character).arg(MAX_SESSIONS_PER_ACCOUNT);
        self.run::<Vec<Row>>(&call).await?.into_iter().map(Session::from_row).collect()
    }
}

fn text(character: Option<CharacterId>) -> String {
    character.map(|id| id.to_string()).unwrap_or_default()
}

fn refused(character: Option<CharacterId>, mark: i64) -> SessionError {
    SessionError::Refused { character, observed_at: EpochMillis(mark) }
}
