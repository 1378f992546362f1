//! Taking the sessions of characters that lost their access.

use std::{fmt, str::FromStr};

use identity::ids::{AccountId, CharacterId};
use redis::ScriptInvocation;
use tracing::warn;
use uuid::Uuid;

use crate::{
    EpochMillis, RemovedSession, SessionError, Sessions, keys, session::removed_from_receipt, settings::millis,
};

/// Which sessions an observation about a character hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Gate {
    /// Those that act as the character.
    #[default]
    Acting,
    /// All of the account; the caller has found that the character is its primary one.
    Primary,
    /// All of the account, whichever of its characters it is.
    Any,
}

impl Gate {
    /// How the steps name it: the two account-wide gates differ only in when the caller decides to act.
    fn scope(self) -> &'static str {
        match self {
            Self::Acting => "acting",
            Self::Primary | Self::Any => "account",
        }
    }

    fn mark_field(self, character: CharacterId) -> String {
        match self {
            Self::Acting => character.to_string(),
            Self::Primary | Self::Any => "*".to_owned(),
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Acting => "acting",
            Self::Primary => "primary",
            Self::Any => "any",
        })
    }
}

/// The text names no gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be acting, primary or any")]
pub struct UnknownGate;

impl FromStr for Gate {
    type Err = UnknownGate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "acting" => Ok(Self::Acting),
            "primary" => Ok(Self::Primary),
            "any" => Ok(Self::Any),
            _ => Err(UnknownGate),
        }
    }
}

/// An observation that costs a character its access, and the receipt under which its sessions are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Take {
    /// The character's account.
    pub account_id: AccountId,
    /// Which of the account's sessions are hit.
    pub gate: Gate,
    /// The character observed.
    pub character_id: CharacterId,
    /// When it was observed, by the database's clock. Sessions approved before are taken, those approved at this
    /// very moment or later are not.
    pub observed_at: EpochMillis,
    /// Names this take for ever: the same receipt is never used for another.
    pub receipt: Uuid,
}

/// An observation of which only the effect is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The character's account.
    pub account_id: AccountId,
    /// Which of the account's sessions would be hit.
    pub gate: Gate,
    /// The character observed.
    pub character_id: CharacterId,
    /// When it was observed, by the database's clock.
    pub observed_at: EpochMillis,
}

/// What a take did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The sessions it removed, by this call or by the earlier one that left the receipt.
    pub removed: Vec<RemovedSession>,
    /// The receipt was already there, and nothing was changed now.
    pub replayed: bool,
}

impl Sessions {
    /// Takes the sessions each element hits, sets its mark and leaves its receipt: one atomic step per element, answered
    /// in their order. Hit are idle sessions too. An element whose receipt is already there changes nothing and answers
    /// what was removed then, so a failed call is simply repeated.
    ///
    /// None for an element that a key of its account makes impossible, since it is of another type or a receipt that
    /// cannot be read: nothing is changed then, a warning names the key, and the other elements are carried out.
    pub async fn take(&self, takes: &[Take]) -> Result<Vec<Option<Taken>>, SessionError> {
        let replies: Vec<(u8, Vec<u8>)> = self
            .run_each(&self.scripts.take, takes, |take, call| {
                call.key(keys::index(take.account_id))
                    .key(keys::denied(take.account_id))
                    .key(keys::receipt(take.account_id, take.receipt))
                    .arg(take.gate.scope())
                    .arg(take.character_id.to_string())
                    .arg(take.gate.mark_field(take.character_id))
                    .arg(take.observed_at.0)
                    .arg(millis(self.settings.mark_ttl))
                    .arg(millis(self.settings.receipt_ttl));
            })
            .await?;
        Ok(takes.iter().zip(replies).map(|(take, (outcome, content))| taken(take, outcome, &content)).collect())
    }

    /// Removes receipts whose takes are fully recorded elsewhere. Those already gone are fine.
    pub async fn forget_receipts(&self, receipts: &[(AccountId, Uuid)]) -> Result<(), SessionError> {
        for chunk in receipts.chunks(crate::scripts::PIPELINE_STEPS) {
            let mut pipe = redis::pipe();
            for (account, receipt) in chunk {
                pipe.del(keys::receipt(*account, *receipt)).ignore();
            }
            pipe.exec_async(&mut self.connection.clone()).await?;
        }
        Ok(())
    }

    /// Sets the mark of each observation, then counts the sessions it hits. From here on no session with an older
    /// approval is added to them, and of themselves none can be used any more; they are left to a take.
    ///
    /// None for an element as for [`Self::take`].
    pub async fn mark_and_probe(&self, probes: &[Probe]) -> Result<Vec<Option<u32>>, SessionError> {
        let replies: Vec<(u32, Option<String>)> = self
            .run_each(&self.scripts.mark_and_probe, probes, |probe, call| {
                call.key(keys::index(probe.account_id))
                    .key(keys::denied(probe.account_id))
                    .arg(probe.gate.scope())
                    .arg(probe.character_id.to_string())
                    .arg(probe.gate.mark_field(probe.character_id))
                    .arg(probe.observed_at.0)
                    .arg(millis(self.settings.mark_ttl));
            })
            .await?;
        let hits = probes.iter().zip(replies).map(|(probe, (hits, wrong))| match wrong {
            None => Some(hits),
            Some(key) => {
                warn!(account_id = %probe.account_id, key, "no mark is set: a key is of another type, remove it");
                None
            }
        });
        Ok(hits.collect())
    }

    /// Counts the sessions each observation would hit now, idle ones too; none where the index is of another type.
    /// Writes nothing.
    pub async fn probe(&self, probes: &[Probe]) -> Result<Vec<u32>, SessionError> {
        self.run_each(&self.scripts.probe, probes, |probe, call| {
            fill_probe(
                call,
                probe.account_id,
                probe.gate.scope(),
                &probe.character_id.to_string(),
                probe.observed_at.0,
            );
        })
        .await
    }

    /// Says for each account whether it has any session, counted as by [`Self::probe`]. Writes nothing.
    pub async fn has_live_sessions(&self, accounts: &[AccountId]) -> Result<Vec<bool>, SessionError> {
        let counts: Vec<u32> = self
            .run_each(&self.scripts.probe, accounts, |account, call| {
                // Every session was approved before the end of time.
                fill_probe(call, *account, Gate::Any.scope(), "", i64::MAX);
            })
            .await?;
        Ok(counts.into_iter().map(|count| count > 0).collect())
    }
}

/// Reads the answer of `lua/take.lua`.
fn taken(take: &Take, outcome: u8, content: &[u8]) -> Option<Taken> {
    let account_id = take.account_id;
    if outcome == 2 {
        let key = String::from_utf8_lossy(content);
        warn!(%account_id, %key, "no session is taken: a key is of another type, remove it");
        return None;
    }
    match removed_from_receipt(content) {
        Ok(removed) => Some(Taken { removed, replayed: outcome == 1 }),
        Err(error) => {
            let key = keys::receipt(account_id, take.receipt);
            warn!(%account_id, key, %error, "what was taken is unknown: the receipt cannot be read, remove it");
            None
        }
    }
}

fn fill_probe(call: &mut ScriptInvocation<'_>, account: AccountId, scope: &str, character: &str, observed_at: i64) {
    call.key(keys::index(account)).arg(scope).arg(character).arg(observed_at);
}
