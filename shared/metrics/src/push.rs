//! Pushing to a Pushgateway.

use prometheus_push::{non_blocking::MetricsPusher, prometheus_crate::PrometheusMetricsConverter};
use reqwest::Method;
use runtime::Secret;
use url::Url;

use crate::{
    Group, PushError, Snapshot,
    transport::{TIME_OUT, Transport},
};

/// Pushes snapshots under one [`Group`]. A push adds to the group, metric by metric, and leaves the group's other
/// metrics alone.
#[derive(Debug)]
pub struct Pusher {
    /// With a slash at the end, since what follows is joined to it; with user name and password, if there are any.
    address: Secret,
    group: Group,
    transport: Transport,
}

impl Pusher {
    /// A pusher to the Pushgateway at `address`: `http://` or `https://`, a path if it sits behind one, and
    /// `user:password@` if it asks for Basic authentication. Nothing is sent yet.
    ///
    /// # Errors
    /// What is wrong with the address, without repeating it, or with a label of `group`.
    pub fn new(address: &Secret, group: Group) -> Result<Self, String> {
        let address = Secret::new(parse(address)?.as_str());
        group.check()?;
        Ok(Self { address, group, transport: Transport::new(TIME_OUT) })
    }

    /// Whether `address` could be one of a Pushgateway.
    ///
    /// # Errors
    /// What is wrong with it, without repeating it.
    pub fn check_url(address: &Secret) -> Result<(), String> {
        parse(address).map(drop)
    }

    /// Pushes `snapshot`. Takes at most 5 s, one retry included.
    ///
    /// # Errors
    /// The metrics did not arrive.
    pub async fn push(&self, snapshot: &Snapshot) -> Result<(), PushError> {
        let families = snapshot.families(&[]).map_err(|error| PushError::Unsent(error.to_string()))?;
        let labels = self.group.labels();
        let grouping = labels.iter().skip(1).map(|(name, value)| (*name, value.as_str())).collect();
        let pusher = MetricsPusher::new(&self.transport, PrometheusMetricsConverter, &self.address()?)?;
        Ok(pusher.push_add(self.group.job, &grouping, families).await?)
    }

    /// Asks the Pushgateway whether it is ready. Takes at most 5 s, one retry included.
    ///
    /// # Errors
    /// It cannot be reached, is not ready, or refuses the user name and password.
    pub async fn check(&self) -> Result<(), PushError> {
        let ready = self.address()?.join("-/ready").map_err(unsent)?;
        self.transport.send(Method::GET, &ready, None).await
    }

    fn address(&self) -> Result<Url, PushError> {
        Url::parse(self.address.expose()).map_err(unsent)
    }
}

fn unsent(error: url::ParseError) -> PushError {
    PushError::Unsent(format!("the address is wrong: {error}"))
}

/// The address with a slash at its end; without one, joining would replace the last part of its path.
fn parse(address: &Secret) -> Result<Url, String> {
    const EXPECTED: &str = "expected http://host:9091 or https://user:password@host/path";
    let mut url = Url::parse(address.expose()).map_err(|error| format!("not an address ({error}); {EXPECTED}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("neither http:// nor https://; {EXPECTED}"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("has a query or fragment, which a Pushgateway does not take; {EXPECTED}"));
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_path() {
        let joined = |address| parse(&Secret::new(address)).unwrap().join("metrics").unwrap().to_string();
        assert_eq!(joined("http://gateway:9091"), "http://gateway:9091/metrics");
        assert_eq!(joined("https://proxy/push/gateway"), "https://proxy/push/gateway/metrics");
        assert_eq!(joined("https://proxy/push/"), "https://proxy/push/metrics");
    }

    #[test]
    fn a_wrong_address_is_refused_without_repeating_it() {
        for address in
            ["", "gateway:9091", "user:hunter2@gateway:9091", "http://user:hunter2@", "ftp://user:hunter2@g/"]
        {
            let problem = Pusher::check_url(&Secret::new(address)).expect_err(address);
            assert!(problem.contains("expected http://") && !problem.contains("hunter2"), "{problem}");
        }
        for address in ["http://user:hunter2@g/?a=hunter2", "http://g/#hunter2"] {
            let problem = Pusher::check_url(&Secret::new(address)).expect_err(address);
            assert!(problem.contains("query or fragment") && !problem.contains("hunter2"), "{problem}");
        }
    }

    #[test]
    fn a_label_that_does_not_fit_a_path_is_refused_at_once() {
        let group = Group { job: "migrate", namespace: Some("a/b".to_owned()), shard: None };
        assert!(Pusher::new(&Secret::new("http://gateway:9091"), group).unwrap_err().contains("namespace"));
    }

    #[test]
    fn a_pusher_does_not_print_the_password() {
        let group = Group { job: "migrate", namespace: None, shard: None };
        let pusher = Pusher::new(&Secret::new("http://user:hunter2@gateway:9091"), group).unwrap();
        assert!(!format!("{pusher:?}").contains("hunter2"));
    }
}
