//! Sessions in Redis: opening, validating, ending, and taking them when a character loses its access.
//!
//! Every operation is one Lua step (`src/lua/`) on the keys of one account, all of which carry the hash tag
//! `{<account id>}` and so share a cluster slot:
//!
//! | key | content |
//! |---|---|
//! | `sess:{<account id>}:<hex SHA-256 of the token>` | hash: the fields of [`Session`] |
//! | `sess:{<account id>}:index` | sorted set of those hashes by `expires_at` |
//! | `sess:{<account id>}:denied` | marks: character id, or `*` for the account → time of the observation |
//! | `sess:{<account id>}:receipt:<uuid>` | JSON of the sessions one [`Take`] removed |
//! | `sess:{<account id>}:ticket:<hex SHA-256 of the ticket>` | hash of the session the ticket stands for |
//!
//! **Two clocks, never mixed.** Approvals and observations carry the database's time, given by the caller, so that
//! pods whose clocks disagree cannot reorder them. Expiry and "last seen" are measured by Redis alone.
//!
//! **A login racing an invalidation.** Approval is read in the database and the session written here, so a take can
//! fall between them. It leaves a mark with the time of its observation; an open or act-as whose approval is older
//! than the mark is refused, one that is as old or younger passes. Whichever comes first, no session lives whose
//! approval is older than an observation that hit its character, and none dies whose approval is younger. A session that
//! the take did not find, since the index had lost it, ends by the mark when it is next used.
//!
//! **Repeating a take.** It leaves a receipt, and finding one it changes nothing and answers the same again. So a
//! caller that crashed before it wrote its own records completes them later, with the same sessions.
//!
//! Sessions may be written by other programs in the same layout, also without a time to live on the hash. A take finds
//! them until their `expires_at`, idle or not. Keys of another type spoil the steps of their own account alone.

mod end;
mod error;
mod keys;
mod lifecycle;
mod scripts;
mod session;
mod settings;
mod take;
mod ticket;
mod token;

use std::sync::Arc;

use redis::aio::ConnectionManager;

use crate::scripts::Scripts;

pub use crate::{
    error::SessionError,
    lifecycle::Open,
    session::{EpochMillis, RemovedSession, Session},
    settings::Settings,
    take::{Gate, Probe, Take, Taken, UnknownGate},
    ticket::{TICKET_LIFETIME, Ticket},
    token::{SessionHash, SessionToken},
};

/// Most live sessions of one account. Opening another ends the one unseen for longest, so that a step, which holds
/// up the whole Redis server, stays short (about 1 ms at this number).
pub const MAX_SESSIONS_PER_ACCOUNT: usize = 100;

/// The sessions of all accounts. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Sessions {
    connection: ConnectionManager,
    settings: Settings,
    scripts: Arc<Scripts>,
}

impl Sessions {
    /// Sessions over `connection`, whose time-outs the caller has configured: an operation waits as long as they say.
    pub fn new(connection: ConnectionManager, settings: Settings) -> Self {
        Self { connection, settings, scripts: Arc::new(Scripts::new()) }
    }
}
