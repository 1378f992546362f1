//! One connection, made when it is needed and given up when anything is wrong with it.
//!
//! The client would go on by itself: reconnect in the background and send, minutes later, what it had in hand. By then
//! another process may have published more of the same aggregate. So it may try each server once, and after a failure
//! its connection is dropped together with what it held.

use std::{
    cell::Cell,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::{
    ConnectErrorKind, ConnectOptions, Event, ServerError,
    connection::State,
    jetstream::{self, context::ContextBuilder},
};

use super::address::{Address, Login};
use crate::{
    causes::{causes, is_tls},
    sink::SinkError,
};

/// Longest time for one server.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest time for all of them.
const CONNECT_ALL: Duration = Duration::from_secs(6);
/// Longest wait for an acknowledgement.
const ACKNOWLEDGE: Duration = Duration::from_secs(4);
/// How often an idle connection is proved to be alive.
const PING: Duration = Duration::from_secs(10);
/// Acknowledgements that may be waited for at once, over all partitions.
const WAITING: usize = 16 * 1024;

/// Makes connections and lends out the one that works.
#[derive(Debug)]
pub(super) struct Connector {
    address: Address,
    present: tokio::sync::Mutex<Option<Connection>>,
    /// The last failure, and how many there were: who waited for a failed attempt shares its end.
    failures: Cell<u64>,
    last: std::cell::RefCell<Option<SinkError>>,
}

/// A connection with JetStream on it.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) jetstream: jetstream::Context,
    /// What the server said it does not permit.
    refusal: Arc<Mutex<Option<String>>>,
}

impl Connection {
    /// Why the server will never take this client's messages, if it said so.
    pub(super) fn refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_usable(&self) -> bool {
        self.jetstream.client().connection_state() == State::Connected
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.refusal, &other.refusal)
    }
}

impl Connector {
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            present: tokio::sync::Mutex::default(),
            failures: Cell::new(0),
            last: std::cell::RefCell::default(),
        }
    }

    /// The connection; a new one if there is none that works.
    pub(super) async fn connection(&self) -> Result<Connection, SinkError> {
        let failures = self.failures.get();
        let mut present = self.present.lock().await;
        if let Some(connection) = present.as_ref().filter(|connection| connection.is_usable()) {
            return Ok(connection.clone());
        }
        *present = None;
        if self.failures.get() != failures
            && let Some(error) = self.last.borrow().clone()
        {
            return Err(error);
        }
        match self.connect().await {
            Ok(connection) => Ok(present.insert(connection).clone()),
            Err(error) => {
                self.failures.set(self.failures.get() + 1);
                *self.last.borrow_mut() = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Drops the connection, with whatever it has in hand, once the last borrower is done with it.
    pub(super) async fn give_up(&self, connection: &Connection) {
        let mut present = self.present.lock().await;
        if present.as_ref().is_some_and(|held| held.is_same(connection)) {
            *present = None;
        }
    }

    async fn connect(&self) -> Result<Connection, SinkError> {
        let refusal = Arc::new(Mutex::new(None));
        let heard = Arc::clone(&refusal);
        let options = ConnectOptions::new()
            .name(concat!("rollcall/", env!("CARGO_PKG_VERSION")))
            .connection_timeout(CONNECT)
            .max_reconnects(self.address.servers.len())
            .ignore_discovered_servers()
            .ping_interval(PING)
            .event_callback(move |event| {
                if let Event::ServerError(error) = event
                    && let Some(text) = refusal_in(&error)
                {
                    *heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
                }
                std::future::ready(())
            });
        let options = match &self.address.login {
            Login::Nobody => options,
            Login::Token(token) => options.token(token.expose().to_owned()),
            Login::Password { user, password } => options.user_and_password(user.clone(), password.expose().to_owned()),
        };
        let connecting = options.connect(self.address.servers.as_slice());
        let client = match tokio::time::timeout(CONNECT_ALL, connecting).await {
            Ok(Ok(client)) => client,
            // The client calls it a mere failure of the connection.
            Ok(Err(error)) if causes(&error).any(is_tls) => return Err(connect_error(ConnectErrorKind::Tls)),
            Ok(Err(error)) => return Err(connect_error(error.kind())),
            Err(_) => return Err(connect_error(ConnectErrorKind::TimedOut)),
        };
        let jetstream = ContextBuilder::new()
            .timeout(ACKNOWLEDGE)
            .max_ack_inflight(WAITING)
            .backpressure_on_inflight(true)
            .build(client);
        Ok(Connection { jetstream, refusal })
    }
}

fn refusal_in(error: &ServerError) -> Option<String> {
    match error {
        ServerError::AuthorizationViolation => Some(LOGIN.to_owned()),
        ServerError::Other(text) if text.to_ascii_lowercase().contains("permissions violation") => {
            Some(format!("NATS says: {text}"))
        }
        _ => None,
    }
}

const LOGIN: &str = "NATS does not accept the user, password or token";

/// The kind alone: a source may name the address.
fn connect_error(kind: ConnectErrorKind) -> SinkError {
    match kind {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            SinkError::Refused(LOGIN.to_owned())
        }
        ConnectErrorKind::Dns => SinkError::unavailable("the host of NATS cannot be resolved"),
        ConnectErrorKind::TimedOut => SinkError::unavailable("NATS does not answer in time"),
        ConnectErrorKind::Tls => {
            SinkError::unavailable("no TLS connection to NATS can be made: is its certificate valid?")
        }
        _ => SinkError::unavailable("NATS cannot be reached"),
    }
}
