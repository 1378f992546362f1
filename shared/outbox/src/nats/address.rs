//! Where NATS is and what is published to, checked before use.

use std::{fmt, str::FromStr};

use async_nats::ServerAddr;
use runtime::Secret;
use url::Url;

/// The servers of a cluster and how to log in. Shows none of it.
#[derive(Clone)]
pub struct Address {
    /// Without credentials: the client writes addresses into its log.
    pub(super) servers: Vec<ServerAddr>,
    pub(super) login: Login,
}

/// How to log in.
#[derive(Clone)]
pub(super) enum Login {
    Nobody,
    Token(Secret),
    Password { user: String, password: Secret },
}

impl Address {
    /// Reads `nats://host:4222` or `tls://…`, several separated by commas; `user:password@` or `token@` before the first
    /// host is how to log in to all of them.
    ///
    /// # Errors
    /// What is wrong, without the value.
    pub fn parse(url: &Secret) -> Result<Self, String> {
        let mut login = None;
        let mut servers = Vec::new();
        for text in url.expose().split(',') {
            let (server, own) = server(text.trim())?;
            servers.push(server);
            match own {
                Login::Nobody => {}
                own if login.is_none() => login = Some(own),
                _ => return Err("more than one address has a user; write it before the first host only".to_owned()),
            }
        }
        Ok(Self { servers, login: login.unwrap_or(Login::Nobody) })
    }
}

fn server(text: &str) -> Result<(ServerAddr, Login), String> {
    const WRONG: &str = "not a nats:// or tls:// address with a host";
    let mut url = Url::parse(text).map_err(|_| WRONG.to_owned())?;
    if !matches!(url.scheme(), "nats" | "tls") || url.host_str().is_none_or(str::is_empty) {
        return Err(WRONG.to_owned());
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("an address of NATS ends after its port".to_owned());
    }
    let user = decoded(url.username())?;
    let password = url.password().map(decoded).transpose()?;
    let login = match (user.is_empty(), password) {
        (true, None) => Login::Nobody,
        (true, Some(_)) => return Err("has a password without a user".to_owned()),
        (false, Some(password)) => Login::Password { user, password: Secret::new(password) },
        (false, None) => Login::Token(Secret::new(user)),
    };
    url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| WRONG.to_owned())?;
    Ok((ServerAddr::from_url(url).map_err(|_| WRONG.to_owned())?, login))
}

/// Undoes percent-encoding, which a password with a `/` or an `@` needs.
fn decoded(text: &str) -> Result<String, String> {
    // A query decodes `+` to a space, which a password does not mean.
    let pair = format!("x={}", text.replace('+', "%2B").replace('&', "%26"));
    let (_, value) = url::form_urlencoded::parse(pair.as_bytes()).next().ok_or("has an unreadable user")?;
    Ok(value.into_owned())
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A subject that can be published to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject(String);

impl Subject {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) || text.split('.').any(str::is_empty) {
            return Err("a subject is words joined by dots, such as rollcall.events".to_owned());
        }
        if text.contains(['*', '>']) {
            return Err("a subject to publish to has no wildcards".to_owned());
        }
        if text.starts_with('$') || text.starts_with("_INBOX.") {
            return Err("subjects that begin with $ or _INBOX belong to the server".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, String> {
        Address::parse(&Secret::new(url))
    }

    #[test]
    fn credentials_leave_the_address_and_are_never_shown() {
        let address = parse("nats://us%40er:p%2Fa+s&s@one:4222,nats://two").unwrap();
        let servers: Vec<&str> = address.servers.iter().map(ServerAddr::as_url_str).collect();
        assert_eq!(servers, ["nats://one:4222", "nats://two"]);
        let Login::Password { user, password } = &address.login else { panic!("no password") };
        assert_eq!((user.as_str(), password.expose()), ("us@er", "p/a+s&s"));
        assert_eq!(format!("{address:?}"), "[redacted]");
        let Login::Token(token) = parse("tls://t0ken@one").unwrap().login else { panic!("no token") };
        assert_eq!(token.expose(), "t0ken");
        assert!(matches!(parse("nats://127.0.0.1:4222").unwrap().login, Login::Nobody));
    }

    #[test]
    fn a_wrong_address_is_refused_without_being_shown() {
        for wrong in [
            "hunter2",
            "http://hunter2@host",
            "nats://",
            "nats://:hunter2@host",
            "nats://hunter2@host/path",
            "nats://hunter2@host,",
            "nats://a:hunter2@host,nats://b:hunter2@host",
        ] {
            let problem = parse(wrong).unwrap_err();
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }

    #[test]
    fn a_subject_is_one_that_can_be_published_to() {
        assert_eq!("rollcall.events".parse::<Subject>().unwrap().as_str(), "rollcall.events");
        for wrong in ["", ".", "a..b", "a.", "a b", "a.*", "a.>", "$JS.API.x", "_INBOX.a", "a\n"] {
            assert!(wrong.parse::<Subject>().is_err(), "{wrong:?}");
        }
    }
}
