//! The connection to Redis.

use std::time::Duration;

pub use redis::RedisError;
use redis::{
    Client, IntoConnectionInfo,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use crate::Secret;

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest wait for an answer. A pipeline of 200 scripts takes milliseconds; a server that takes longer is ill.
const RESPONSE: Duration = Duration::from_secs(5);

/// Checks an address without connecting.
///
/// # Errors
/// What is wrong with it, without the address, which may hold a password.
pub fn check_url(url: &Secret) -> Result<(), String> {
    url.expose().into_connection_info().map(drop).map_err(|_| "not a redis:// or rediss:// address".to_owned())
}

/// Connects; the connection repairs itself and gives up on each call after 5 s.
///
/// # Errors
/// The server cannot be reached or refuses.
pub async fn connect(url: &Secret) -> Result<ConnectionManager, RedisError> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(RESPONSE))
        .set_number_of_retries(2)
        .set_max_delay(Duration::from_millis(500));
    ConnectionManager::new_with_config(Client::open(url.expose())?, config).await
}
