//! HTTP clients with time-outs and a name.

use std::time::Duration;

/// Longest time to establish a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// A client that names itself and gives up: after 5 s for a connection, after `timeout` for a whole call. It follows
/// no redirect, since none of our upstreams sends one and credentials must not travel.
///
/// # Errors
/// TLS or the name cannot be set up.
pub fn client(user_agent: &str, timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    builder(user_agent, timeout).build()
}

/// What [`client`] is made of, for one that needs more.
#[expect(clippy::disallowed_methods, reason = "the one place where HTTP clients are made")]
pub fn builder(user_agent: &str, timeout: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(user_agent)
        .connect_timeout(CONNECT)
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
}
