//! The way to the Pushgateway: time-out, authentication, what it answers, and one retry. `prometheus_push` knows the
//! protocol's paths and bodies and leaves all of this to its [`Push`].

use std::{error::Error, io, time::Duration};

use prometheus_push::{
    error::{PushMetricsError, Result as PushResult},
    non_blocking::Push,
};
use reqwest::{Client, Method, Response, StatusCode, header::CONTENT_TYPE};
use tokio::sync::OnceCell;
use url::Url;

/// Longest time for one push, its retry included: it happens while a pod is asked to go.
pub(crate) const TIME_OUT: Duration = Duration::from_secs(5);

/// Longest time to connect: short enough for a second try, since packets to a Service that is new to a node go astray, as may
/// those of a pod that has just started.
const CONNECT: Duration = Duration::from_secs(2);

/// Pause before the retry.
const PAUSE: Duration = Duration::from_millis(250);

/// How much of an answer is worth telling, in characters.
const BODY: usize = 300;

/// Why metrics did not arrive. None of them tells a user name or password.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// No answer in time.
    #[error("the Pushgateway did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The connection could not be made, or broke.
    #[error("the Pushgateway cannot be reached: {0}")]
    Connection(String),
    /// The Pushgateway answered with something else than success.
    #[error("the Pushgateway answered {status}: {body}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// Beginning of the answer, on one line.
        body: String,
    },
    /// Nothing was sent, because of a mistake on this side.
    #[error("metrics cannot be pushed: {0}")]
    Unsent(String),
}

impl PushError {
    fn is_worth_a_retry(&self) -> bool {
        match self {
            Self::Connection(_) => true,
            Self::Refused { status, .. } => status.is_server_error(),
            Self::TimedOut(_) | Self::Unsent(_) => false,
        }
    }
}

/// `prometheus_push` has no error for what a [`Push`] meets, so ours travels in its I/O error.
impl From<PushError> for PushMetricsError {
    fn from(error: PushError) -> Self {
        Self::Prometheus(prometheus::Error::Io(io::Error::other(error)))
    }
}

impl From<PushMetricsError> for PushError {
    fn from(error: PushMetricsError) -> Self {
        match error {
            PushMetricsError::Prometheus(prometheus::Error::Io(error)) => {
                error.downcast().unwrap_or_else(|error| Self::Unsent(error.to_string()))
            }
            error => Self::Unsent(error.to_string()),
        }
    }
}

/// Sends requests, each within the time-out as a whole: retry and answer included. The client is made with the first
/// one, so that a process that never pushes does not pay for TLS.
#[derive(Debug)]
pub(crate) struct Transport {
    client: OnceCell<Client>,
    time_out: Duration,
}

impl Transport {
    pub(crate) fn new(time_out: Duration) -> Self {
        Self { client: OnceCell::new(), time_out }
    }

    /// Sends a request and, if that fails for a reason that may pass, once more.
    pub(crate) async fn send(&self, method: Method, url: &Url, body: Option<(&str, Vec<u8>)>) -> Result<(), PushError> {
        let attempts = async {
            match self.attempt(&method, url, body.as_ref()).await {
                Err(error) if error.is_worth_a_retry() => {
                    tracing::debug!(%error, "the Pushgateway is asked once more");
                    tokio::time::sleep(PAUSE).await;
                    self.attempt(&method, url, body.as_ref()).await
                }
                result => result,
            }
        };
        tokio::time::timeout(self.time_out, attempts).await.unwrap_or(Err(PushError::TimedOut(self.time_out)))
    }

    async fn attempt(&self, method: &Method, url: &Url, body: Option<&(&str, Vec<u8>)>) -> Result<(), PushError> {
        let mut request = self.client().await?.request(method.clone(), url.clone());
        if let Some((content_type, body)) = body {
            request = request.header(CONTENT_TYPE, *content_type).body(body.clone());
        }
        let response = request.send().await.map_err(|error| self.failed(error))?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(PushError::Refused { status, body: beginning(response).await }),
        }
    }

    async fn client(&self) -> Result<&Client, PushError> {
        let user_agent = concat!("rollcall/", env!("CARGO_PKG_VERSION"));
        let make = async || runtime::http::builder(user_agent, TIME_OUT).connect_timeout(CONNECT).build();
        self.client.get_or_try_init(make).await.map_err(|error| PushError::Unsent(story(&error)))
    }

    fn failed(&self, error: reqwest::Error) -> PushError {
        if error.is_timeout() && !error.is_connect() {
            return PushError::TimedOut(self.time_out);
        }
        PushError::Connection(story(&error.without_url()))
    }
}

/// The user name and password of `url`, if any, are turned into Basic authentication by the HTTP client.
impl Push<Vec<u8>> for &Transport {
    async fn push_all(&self, _: &Url, _: Vec<u8>, _: &str) -> PushResult<()> {
        // PUT would wipe what this push does not hold, such as the last success when a run failed.
        Err(PushError::Unsent("metrics are never replaced as a whole".to_owned()).into())
    }

    async fn push_add(&self, url: &Url, body: Vec<u8>, content_type: &str) -> PushResult<()> {
        Ok(self.send(Method::POST, url, Some((content_type, body))).await?)
    }
}

/// The beginning of an answer, on one line.
async fn beginning(mut response: Response) -> String {
    let mut bytes = Vec::new();
    // A character takes at most four bytes.
    while bytes.len() < 4 * BODY {
        let Ok(Some(chunk)) = response.chunk().await else { break };
        bytes.extend_from_slice(&chunk);
    }
    let text = String::from_utf8_lossy(&bytes);
    let line = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line: String = line.collect::<Vec<_>>().join(" ").chars().take(BODY).collect();
    if line.is_empty() { "(no text)".to_owned() } else { line }
}

/// An error with what caused it, since the HTTP client's own words end at "error sending request".
fn story(error: &reqwest::Error) -> String {
    let mut story = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        story.push_str(": ");
        story.push_str(&error.to_string());
        cause = error.source();
    }
    story
}

#[cfg(test)]
mod tests;
