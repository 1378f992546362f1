//! Tickets: they stand for a session where its token cannot be sent, such as in the query string that opens a
//! WebSocket. A query string ends in logs, so a ticket works once and not for long.

use std::{fmt, time::Duration};

use crate::{Session, SessionError, SessionToken, Sessions, keys, session::Row, settings::millis, token};

/// How long a ticket can be redeemed.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(30);

/// A new ticket, of the same form as a token and as little printed; only its hash is stored.
pub struct Ticket(SessionToken);

impl Ticket {
    /// The ticket itself, to be handed to the session's owner.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(redacted)")
    }
}

impl Sessions {
    /// A ticket for the session of `token`, which counts as seen now; none if there is no such live session.
    pub async fn issue_ticket(&self, token: &str) -> Result<Option<Ticket>, SessionError> {
        let Some((account, hash)) = token::parse(token) else { return Ok(None) };
        let ticket = SessionToken::generate(account)?;
        let mut call = self.scripts.issue_ticket.prepare_invoke();
        call.key(keys::index(account))
            .key(keys::denied(account))
            .key(keys::ticket(account, &ticket.hash()))
            .arg(millis(self.settings.idle))
            .arg(hash.as_str())
            .arg(millis(TICKET_LIFETIME));
        Ok(self.run::<bool>(&call).await?.then_some(Ticket(ticket)))
    }

    /// Uses `ticket` up and gives its session, which counts as seen now; none for a ticket that is unknown, used,
    /// too old or malformed, or whose session is over.
    pub async fn redeem_ticket(&self, ticket: &str) -> Result<Option<Session>, SessionError> {
        let Some((account, hash)) = token::parse(ticket) else { return Ok(None) };
        let mut call = self.scripts.redeem_ticket.prepare_invoke();
        call.key(keys::index(account))
            .key(keys::denied(account))
            .key(keys::ticket(account, &hash))
            .arg(millis(self.settings.idle));
        self.run::<Option<Row>>(&call).await?.map(Session::from_row).transpose()
    }
}
