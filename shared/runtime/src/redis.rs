//! The connection to Redis.

use std::time::Duration;

pub use redis::RedisError;
use redis::{
    Client, ErrorKind, IntoConnectionInfo, ServerErrorKind,
    aio::{ConnectionManager, ConnectionManagerConfig},
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

use crate::Secret;

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest wait for an answer. A pipeline of 200 scripts takes milliseconds; a server that takes longer is ill.
const RESPONSE: Duration = Duration::from_secs(5);
/// A server that vanished without a farewell is given up after so long: when nothing that was sent is acknowledged, and
/// when an idle connection is probed in vain. The system alone would take a quarter of an hour.
const VANISHED: Duration = Duration::from_secs(10);

/// Checks an address without connecting.
///
/// # Errors
/// What is wrong with it, without the address, which may hold a password.
pub fn check_url(url: &Secret) -> Result<(), String> {
    url.expose()
        .into_connection_info()
        .map(drop)
        .map_err(|_| "not a redis:// or rediss:// address, maybe with the number of a database behind it".to_owned())
}

/// Connects; the connection repairs itself when it is cut, and gives up on each call after 5 s.
///
/// # Errors
/// The server cannot be reached or refuses.
pub async fn connect(url: &Secret) -> Result<ConnectionManager, RedisError> {
    ConnectionManager::new_with_config(client(url)?, config()).await
}

/// A connection in the place of one that leads nowhere any more ([`leads_nowhere`]). It is made with the first command, which
/// waits 3 s for it at most.
///
/// # Errors
/// The address is none.
pub fn connect_anew(url: &Secret) -> Result<ConnectionManager, RedisError> {
    ConnectionManager::new_lazy_with_config(client(url)?, config().set_number_of_retries(0))
}

/// Whether an error says that a connection is of no use though it stands, so that it does not repair itself: the server
/// behind it answers nothing, or may not be written to since it is a replica by now. A new one asks anew where to go.
pub fn leads_nowhere(error: &RedisError) -> bool {
    error.is_timeout() || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

fn client(url: &Secret) -> Result<Client, RedisError> {
    let probes = TcpKeepalive::new().with_time(VANISHED / 2).with_interval(VANISHED / 5).with_retries(3);
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(probes);
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(VANISHED);
    Client::open(url.expose().into_connection_info()?.set_tcp_settings(tcp))
}

fn config() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(RESPONSE))
        .set_number_of_retries(2)
        .set_max_delay(Duration::from_millis(500))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_is_cut_repairs_itself_and_what_leads_nowhere_does_not() {
        let silent = RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
        let demoted = RedisError::from((ErrorKind::Server(ServerErrorKind::ReadOnly), "a replica"));
        for nowhere in [silent, demoted] {
            assert!(leads_nowhere(&nowhere) && !nowhere.is_unrecoverable_error(), "{nowhere}");
        }
        let cut = RedisError::from(io::Error::from(io::ErrorKind::ConnectionReset));
        let full = RedisError::from((ErrorKind::Server(ServerErrorKind::ResponseError), "OOM"));
        for other in [cut, full] {
            assert!(!leads_nowhere(&other), "{other}");
        }
    }
}
