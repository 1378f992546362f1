//! Where events are posted to, checked before use.

use std::fmt;

use runtime::Secret;
use url::{Host, Url};

use super::addresses::is_public;

/// An address to post to. Shows nothing of it: path, query or user may be what proves the right to post.
#[derive(Clone)]
pub struct Endpoint {
    pub(super) url: Url,
    /// Plain HTTP and addresses of private networks are permitted.
    pub(super) allow_private: bool,
}

impl Endpoint {
    /// Reads an `https://` address. `user:password@` in it is sent as Basic authentication. With `allow_private`, it may
    /// also be `http://`, and at a private address.
    ///
    /// # Errors
    /// What is wrong, without the value.
    pub fn parse(url: &Secret, allow_private: bool) -> Result<Self, String> {
        let url = Url::parse(url.expose()).map_err(|_| "not an address such as https://example.org/hook".to_owned())?;
        match url.scheme() {
            "https" => {}
            "http" if allow_private => {}
            "http" => return Err("http:// is permitted with WEBHOOK_ALLOW_PRIVATE=true only; use https://".to_owned()),
            _ => return Err("not an https:// address".to_owned()),
        }
        // A name is judged when it is resolved.
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            _ => None,
        };
        if address.is_some_and(|address| !is_public(address)) && !allow_private {
            return Err("a private address is permitted with WEBHOOK_ALLOW_PRIVATE=true only".to_owned());
        }
        Ok(Self { url, allow_private })
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str, allow_private: bool) -> Result<Endpoint, String> {
        Endpoint::parse(&Secret::new(url), allow_private)
    }

    #[test]
    fn only_https_to_public_addresses_unless_private_ones_are_allowed() {
        for good in ["https://example.org/hook?key=1", "https://user:word@example.org", "https://1.1.1.1/"] {
            assert!(parse(good, false).is_ok(), "{good}");
        }
        for private in [
            "http://example.org",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest/meta-data",
        ] {
            let problem = parse(private, false).err().unwrap_or_else(|| panic!("{private} is accepted"));
            assert!(problem.contains("WEBHOOK_ALLOW_PRIVATE"), "{problem}");
            assert!(parse(private, true).is_ok(), "{private}");
        }
    }

    #[test]
    fn a_wrong_address_is_refused_without_being_shown() {
        for wrong in ["hunter2", "ftp://hunter2@example.org", "https://", "https://hunter2:x@127.0.0.1/hunter2"] {
            let problem = parse(wrong, false).unwrap_err();
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        assert_eq!(format!("{:?}", parse("https://a:hunter2@example.org", false).unwrap()), "[redacted]");
    }
}
