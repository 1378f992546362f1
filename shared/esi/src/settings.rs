//! What the client is given.

use redis::aio::ConnectionManager;
use runtime::Secret;
use url::Url;

/// Calls to ESI per second, on average, that one address should not exceed by itself; divide it by the number of shards.
pub const DEFAULT_REQUESTS_PER_SECOND: u32 = 100;

/// Ids that ESI takes in one call of affiliation or names.
pub const MAX_IDS: usize = 1000;

/// The moment by which an answer must be there. A wait that would last beyond it is not begun.
pub type Deadline = tokio::time::Instant;

/// Where ESI and SSO are and how they are to be treated.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Base of the ESI routes, `https://esi.evetech.net`.
    pub base_url: Url,
    /// Base of the SSO routes, `https://login.eveonline.com`.
    pub sso_url: Url,
    /// Whom CCP can reach about this client: an e-mail address or a character's name, ASCII, in every User-Agent.
    pub user_agent_contact: Option<String>,
    /// `YYYY-MM-DD`, the behaviour of ESI that this client was written for.
    pub compatibility_date: String,
    /// Calls in flight at once, at least 1. Keep the sum over all shards at 20 or less: so many errors can arrive
    /// between the moment the error limit's floor is seen and the end of what is in flight.
    pub concurrency: usize,
    /// Calls per second on average, at least 1; ten seconds' worth of them may come at once. See
    /// [`DEFAULT_REQUESTS_PER_SECOND`].
    pub requests_per_second: u32,
    /// The application registered with EVE, for refreshing tokens.
    pub client: Option<SsoClient>,
}

/// An application registered with EVE.
#[derive(Debug, Clone)]
pub struct SsoClient {
    /// Its client id; public.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
}

/// What all clients of one address share, in Redis.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The connection.
    pub conn: ConnectionManager,
    /// Reads the shared limits and answers and writes none: a dry run.
    pub read_only: bool,
}
