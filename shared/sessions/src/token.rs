//! Tokens, and the hashes that stand for them in Redis.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use identity::ids::AccountId;
use rand::{TryRng, rngs::SysRng};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::SessionError;

/// Length of 32 bytes in base64url without padding.
const SECRET_CHARS: usize = 43;

/// A new session's token, `<account id>.<43 characters of base64url>`: whoever has it is the account. It is shown
/// once and kept nowhere; it neither prints itself nor belongs in a URL or a log.
pub struct SessionToken(String);

impl SessionToken {
    /// A fresh token. Its randomness is the operating system's and cannot be passed in: a token must be
    /// unguessable whatever the caller is.
    pub(crate) fn generate(account: AccountId) -> Result<Self, SessionError> {
        let mut secret = [0_u8; 32];
        SysRng
            .try_fill_bytes(&mut secret)
            .map_err(|error| SessionError::Broken(format!("no random bytes from the operating system: {error}")))?;
        Ok(Self(format!("{account}.{}", URL_SAFE_NO_PAD.encode(secret))))
    }

    /// The token itself, to be handed to its owner.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The name of its session.
    pub fn hash(&self) -> SessionHash {
        SessionHash::of(&self.0)
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken(redacted)")
    }
}

/// The account a token names and the hash it is known by; none for text that cannot be a token.
pub(crate) fn parse(token: &str) -> Option<(AccountId, SessionHash)> {
    let (account, secret) = token.split_once('.')?;
    let is_secret =
        secret.len() == SECRET_CHARS && secret.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !is_secret {
        return None;
    }
    let id = AccountId(Uuid::try_parse(account).ok()?);
    // One spelling only: the key is made of the id, the hash of the text.
    (id.to_string() == account).then(|| (id, SessionHash::of(token)))
}

/// A session's public name: the hex SHA-256 of its token. Does not give the token away, and may be shown to the
/// account's owner and logged.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionHash(String);

impl SessionHash {
    pub(crate) fn of(token: &str) -> Self {
        Self(hex::encode(Sha256::digest(token.as_bytes())))
    }

    /// A name as found in Redis, where another program may have written it.
    pub(crate) fn stored(name: String) -> Self {
        Self(name)
    }

    /// The name as text, 64 lower-case hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SessionHash {
    type Err = SessionError;

    /// Takes exactly 64 lower-case hexadecimal digits, so that what a client sends can name nothing but a session.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hash = text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if is_hash {
            Ok(Self(text.to_owned()))
        } else {
            Err(SessionError::Broken("a session hash is 64 lower-case hexadecimal digits".to_owned()))
        }
    }
}
