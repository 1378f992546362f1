//! EVE ESI and SSO client: the present corporation and alliance of many characters, names, and whether a stored token
//! still belongs to the character it was given for.
//!
//! ESI bans applications that misbehave, and every pod of an address shares one error limit. So each call passes one
//! gate: pauses and limits, found from headers alone and kept in Redis for all shards, then a rate limit, then a slot.
//! Errors are typed by what they mean for a session ([`EsiError`]): only an answer that names the character says
//! anything about it; everything else leaves it unknown.
//!
//! What this crate refuses to do: to decide (that is `identity::approval`), to store tokens (the caller must, before
//! anything else), and to take a 404 for a deletion while ESI is in its downtime or says `Not found` to everybody.
//!
//! Keys in Redis, all with an expiry: `esi:pause`, `esi:limit:errors`, `esi:limit:group:<group>`, `esi:limit:groups`
//! and `esi:get:<path>`.

mod affiliation;
mod bisect;
mod board;
mod buckets;
mod cache;
mod call;
mod client;
mod counts;
mod error;
mod gate;
mod headers;
mod jwks;
mod limits;
mod names;
mod settings;
mod sheets;
mod sso;
mod wire;

pub use affiliation::{Affiliations, BadId};
pub use client::Esi;
pub use counts::Count;
pub use error::{EsiError, SsoError};
pub use settings::{DEFAULT_REQUESTS_PER_SECOND, Deadline, MAX_IDS, Settings, Shared, SsoClient};
pub use sheets::{CharacterSheet, CorporationSheet, SecondAnswer, SecondSource, Status};
pub use sso::{OwnerHash, Refreshed};
