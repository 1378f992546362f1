//! The ESI simulator as a process of its own, so that its work is not the measured one's.

use std::{net::TcpListener, time::Duration};

use harness::{Binary, Running, wait_until};
use serde_json::{Value, json};

const START: Duration = Duration::from_secs(10);

/// A running simulator. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Simulator {
    url: String,
    client: reqwest::Client,
    _process: Running,
}

impl Simulator {
    /// One that answers after `latency_ms`, from this world (body of `POST /_sim/world`).
    pub(crate) async fn start(latency_ms: u64, world: &Value) -> Self {
        let port = free_port();
        let process = Binary::new("esi-simulator")
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg(format!("--latency-ms={latency_ms}"))
            .start();
        let simulator = Self { url: format!("http://127.0.0.1:{port}"), client: bare_client(), _process: process };
        wait_until(START, "the simulator answers", async || {
            simulator.client.get(simulator.control("settings")).send().await.is_ok()
        })
        .await;
        // Errors are not what is measured here, and reused connections must not run into a limit on their number.
        let sent = simulator.client.post(simulator.control("world")).json(world).send().await;
        sent.and_then(reqwest::Response::error_for_status).expect("the simulator takes the world");
        simulator
    }

    /// Where ESI and SSO are.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What was asked since the start.
    pub(crate) async fn calls(&self) -> Calls {
        let answer = self.client.get(self.control("requests")).send().await.expect("the simulator answers");
        let report: Value = answer.json().await.expect("the simulator answers JSON");
        let empty = json!({});
        let routes = report["routes"].as_object().or(empty.as_object()).expect("an object");
        let mut by_route: Vec<(String, u64)> =
            routes.iter().map(|(route, counts)| (route.clone(), counts["arrived"].as_u64().unwrap_or(0))).collect();
        by_route.sort();
        let violations = report["violations"].as_array().map(|list| list.iter().map(ToString::to_string).collect());
        Calls { by_route, violations: violations.unwrap_or_default() }
    }

    fn control(&self, what: &str) -> String {
        format!("{}/_sim/{what}", self.url)
    }
}

/// Calls by route, and the rules they broke.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    by_route: Vec<(String, u64)>,
    /// What a well-behaved client never does.
    pub(crate) violations: Vec<String>,
}

impl Calls {
    /// Calls on one route.
    pub(crate) fn on(&self, route: &str) -> u64 {
        self.by_route.iter().find(|(name, _)| name == route).map_or(0, |(_, count)| *count)
    }

    /// All calls.
    pub(crate) fn total(&self) -> u64 {
        self.by_route.iter().map(|(_, count)| count).sum()
    }

    /// `affiliation 1000, status 1`
    pub(crate) fn describe(&self) -> String {
        let parts: Vec<String> = self.by_route.iter().map(|(route, count)| format!("{route} {count}")).collect();
        parts.join(", ")
    }
}

/// A client without limits, retries or names.
#[expect(clippy::disallowed_methods, reason = "the floor is measured with a bare client")]
pub(crate) fn bare_client() -> reqwest::Client {
    reqwest::Client::builder().build().expect("a client can be built")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}
