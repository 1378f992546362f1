//! What a character and its account are to be like.

use identity::approval::Rule;
use uuid::Uuid;

use super::{CORPORATION, Member, SessionSpec};

/// A character to be added. Unless told otherwise: a new permanent account in the first brand, corporation
/// [`CORPORATION`] and no alliance, both with names, never verified, no token, no session.
#[derive(Debug, Clone)]
pub struct Newcomer {
    pub(super) name: String,
    pub(super) brand_id: Option<Uuid>,
    pub(super) account_id: Option<Uuid>,
    pub(super) eve_id: Option<i64>,
    pub(super) corporation: Option<i64>,
    pub(super) alliance: Option<i64>,
    pub(super) is_named: bool,
    pub(super) verified_minutes_ago: Option<i64>,
    pub(super) attempted_minutes_ago: Option<i64>,
    pub(super) rule: Option<Rule>,
    pub(super) token: Option<Token>,
    pub(super) owner_hash: Option<String>,
    pub(super) token_checked_minutes_ago: Option<i64>,
    pub(super) sessions: Vec<SessionSpec>,
    pub(super) is_blocked: bool,
    pub(super) is_deleted: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Token {
    Plain(String),
    AsStored(String),
}

/// A character named `name`; so is its account. Names of accounts differ within a brand.
pub fn newcomer(name: impl Into<String>) -> Newcomer {
    Newcomer {
        name: name.into(),
        brand_id: None,
        account_id: None,
        eve_id: None,
        corporation: Some(CORPORATION),
        alliance: None,
        is_named: true,
        verified_minutes_ago: None,
        attempted_minutes_ago: None,
        rule: None,
        token: None,
        owner_hash: None,
        token_checked_minutes_ago: None,
        sessions: Vec::new(),
        is_blocked: false,
        is_deleted: false,
    }
}

impl Newcomer {
    /// Its account is in this brand.
    #[must_use]
    pub fn brand(mut self, id: Uuid) -> Self {
        self.brand_id = Some(id);
        self
    }

    /// A further character of this one's account.
    #[must_use]
    pub fn alt_of(mut self, member: &Member) -> Self {
        self.account_id = Some(member.account_id);
        self.brand_id = Some(member.brand_id);
        self
    }

    /// Its id in EVE Online, instead of the next from 2,100,000,000 on.
    #[must_use]
    pub fn eve_id(mut self, id: i64) -> Self {
        self.eve_id = Some(id);
        self
    }

    /// Its corporation by the last check.
    #[must_use]
    pub fn corporation(mut self, id: i64) -> Self {
        self.corporation = Some(id);
        self
    }

    /// Its alliance by the last check.
    #[must_use]
    pub fn alliance(mut self, id: i64) -> Self {
        self.alliance = Some(id);
        self
    }

    /// Neither corporation nor alliance is known.
    #[must_use]
    pub fn of_unknown_organisation(mut self) -> Self {
        (self.corporation, self.alliance) = (None, None);
        self
    }

    /// The names of its corporation and alliance are not known.
    #[must_use]
    pub fn nameless(mut self) -> Self {
        self.is_named = false;
        self
    }

    /// Last verified so long ago; by the rule `allowed_corporation` unless [`Newcomer::rule`] says another.
    #[must_use]
    pub fn verified_minutes_ago(mut self, minutes: i64) -> Self {
        self.verified_minutes_ago = Some(minutes);
        self
    }

    /// Last attempted in vain so long ago.
    #[must_use]
    pub fn attempted_minutes_ago(mut self, minutes: i64) -> Self {
        self.attempted_minutes_ago = Some(minutes);
        self
    }

    /// The rule of its last check; the verdict goes with it.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rule = Some(rule);
        self
    }

    /// Has this refresh token, sealed under [`ENCRYPTION_KEY`](super::ENCRYPTION_KEY).
    #[must_use]
    pub fn token(mut self, refresh_token: impl Into<String>) -> Self {
        self.token = Some(Token::Plain(refresh_token.into()));
        self
    }

    /// Has this text where the sealed refresh token belongs.
    #[must_use]
    pub fn stored_token(mut self, text: impl Into<String>) -> Self {
        self.token = Some(Token::AsStored(text.into()));
        self
    }

    /// The owner hash stored with its token.
    #[must_use]
    pub fn owner_hash(mut self, hash: impl Into<String>) -> Self {
        self.owner_hash = Some(hash.into());
        self
    }

    /// Its token was last tried so long ago.
    #[must_use]
    pub fn token_checked_minutes_ago(mut self, minutes: i64) -> Self {
        self.token_checked_minutes_ago = Some(minutes);
        self
    }

    /// Has a live session that acts as it, approved two hours ago. Repeat for more.
    #[must_use]
    pub fn session(self) -> Self {
        self.session_like(SessionSpec::default())
    }

    /// Has such a session. Repeat for more.
    #[must_use]
    pub fn session_like(mut self, session: SessionSpec) -> Self {
        self.sessions.push(session);
        self
    }

    /// Its account is blocked.
    #[must_use]
    pub fn blocked(mut self) -> Self {
        self.is_blocked = true;
        self
    }

    /// Its account is deleted.
    #[must_use]
    pub fn deleted(mut self) -> Self {
        self.is_deleted = true;
        self
    }

    pub(super) fn is_plain(&self) -> bool {
        self.account_id.is_none() && self.eve_id.is_none()
    }

    /// The rule to store: none before the first check.
    pub(super) fn last_rule(&self) -> Option<Rule> {
        self.rule.or(self.verified_minutes_ago.map(|_| Rule::AllowedCorporation))
    }
}
