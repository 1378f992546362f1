//! Webhooks after the Standard Webhooks specification: one signed POST for each event.
//!
//! An endpoint is told apart from an event that it does not like by looking at the others: see `chains`. Nothing of an
//! answer but its status and `Retry-After` is used, and nothing of the endpoint's address is ever shown.

mod addresses;
mod answer;
mod endpoint;
mod signature;

use std::{sync::Arc, time::Duration};

use reqwest::{Client, Response, StatusCode, header::CONTENT_TYPE};
use runtime::Clock;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::{OnceCell, Semaphore};

use self::addresses::{NameError, Resolver};
pub use self::{endpoint::Endpoint, signature::SigningKeys};
use crate::{
    Body, Event, Sink,
    blame::gone,
    causes::{causes, is_tls},
    chains::{self, End},
    sink::{Batch, Finding, Published, Rejection, SinkError, Verdict},
};

/// Calls at once, over all partitions: a small receiver queues a few connections and has a few dozen workers. Beyond that
/// calls wait there, and an event that had no answer in time would be blamed for it.
const CALLS: usize = 32;
/// Of a partition, each for another aggregate: half, so that one whose calls are slow leaves room for the others.
const WIDTH: usize = 16;
/// Longest time for a call.
const CALL: Duration = Duration::from_secs(10);
/// Longest time for the rest of an answer, once its status is known: reading it only keeps the connection usable.
const REST: Duration = Duration::from_secs(1);
/// Bytes of an answer that are read for that.
const MAX_REST: usize = 64 * 1024;

const USER_AGENT: &str = concat!("Rollcall/", env!("CARGO_PKG_VERSION"));

/// Posts events to an endpoint.
#[derive(Debug)]
pub struct WebhookSink {
    endpoint: Endpoint,
    keys: SigningKeys,
    clock: Clock,
    http: OnceCell<Client>,
    /// A permit for each call.
    permits: Semaphore,
}

/// What is posted.
#[derive(Serialize)]
struct Message<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
    data: Body<'a>,
}

impl WebhookSink {
    /// A sink that connects with its first event. `clock` stamps the attempts; receivers refuse stamps that are minutes
    /// off.
    pub fn new(endpoint: Endpoint, keys: SigningKeys, clock: Clock) -> Self {
        Self { endpoint, keys, clock, http: OnceCell::new(), permits: Semaphore::new(CALLS) }
    }

    async fn http(&self) -> Result<&Client, SinkError> {
        let build = async || {
            let allow_private = self.endpoint.allow_private;
            let builder = runtime::http::builder(USER_AGENT, CALL)
                // A proxy would resolve names by itself, behind our back.
                .no_proxy()
                .https_only(!allow_private)
                .dns_resolver(Arc::new(Resolver { allow_private }));
            builder.build().map_err(|_| SinkError::Refused("TLS cannot be set up for an HTTP client".to_owned()))
        };
        self.http.get_or_try_init(build).await
    }

    async fn attempt(&self, http: &Client, event: &Event) -> End {
        let message = Message { kind: &event.event_type, timestamp: event.occurred_at, data: Body::from(event) };
        let body = match serde_json::to_vec(&message) {
            Ok(body) => body,
            Err(error) => {
                let reason = format!("it cannot be written as JSON: {error}");
                return End::Refused(Rejection { reason, verdict: Verdict::ForGood, retry_after: None });
            }
        };
        let id = event.event_id.to_string();
        let timestamp = self.clock.now().unix_timestamp().to_string();
        let signature = self.keys.sign(&id, &timestamp, &body);
        let call = http
            .post(self.endpoint.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body);
        match call.send().await {
            Ok(response) => {
                let end = answer::judge(response.status(), response.headers(), self.clock.now());
                let _ = tokio::time::timeout(REST, read_rest(response)).await;
                end
            }
            Err(error) => unanswered(&error),
        }
    }
}

impl Sink for WebhookSink {
    async fn publish(&self, batch: Batch<'_>) -> Result<Published, SinkError> {
        let http = self.http().await?;
        // The time of a call begins when it has its permit.
        Ok(chains::publish_with(&self.permits, batch, WIDTH, async |event| self.attempt(http, event).await).await)
    }

    /// Connects and asks for the headers alone, since an endpoint is made to take events and nothing else: any answer
    /// proves that it is there, though one of 5xx hardly that it works.
    async fn check(&self) -> Vec<Finding> {
        let http = match self.http().await {
            Ok(http) => http,
            Err(error) => return vec![Finding::Bad(error)],
        };
        match http.head(self.endpoint.url.clone()).send().await {
            Ok(response) => {
                let status = response.status();
                let text = format!("the endpoint answers (HEAD: {})", status.as_u16());
                match answer::judge(status, response.headers(), self.clock.now()) {
                    End::Stop(error) => vec![Finding::Bad(error)],
                    End::Refused(Rejection { reason, verdict: Verdict::Limited, retry_after }) => {
                        vec![Finding::Bad(SinkError::Unavailable { reason, retry_after })]
                    }
                    End::Refused(Rejection { reason, verdict: Verdict::Gone, .. }) => vec![Finding::Bad(gone(&reason))],
                    // One that does not know the method need not: only events are posted.
                    _ if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => {
                        vec![Finding::Warning(format!("{text}: it may be ill"))]
                    }
                    _ => vec![Finding::Good(text)],
                }
            }
            Err(error) => match unanswered(&error) {
                End::Stop(error) => vec![Finding::Bad(error)],
                _ => vec![Finding::Bad(SinkError::unavailable("the endpoint does not answer"))],
            },
        }
    }
}

async fn read_rest(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read >= MAX_REST {
            return;
        }
    }
}

/// What a call without an answer means. The error's own text would name the address.
fn unanswered(error: &reqwest::Error) -> End {
    match causes(error).find_map(|cause| cause.downcast_ref::<NameError>()) {
        Some(problem @ NameError::PrivateOnly) => return End::Stop(SinkError::Refused(problem.to_string())),
        Some(problem @ NameError::Unresolved) => return End::Stop(SinkError::unavailable(problem)),
        None => {}
    }
    if error.is_builder() {
        return End::Stop(SinkError::Refused("the endpoint's address cannot be called".to_owned()));
    }
    if error.is_connect() {
        return End::Stop(SinkError::unavailable(if error.is_timeout() {
            "no connection to the endpoint within 5 s"
        } else if causes(error).any(is_tls) {
            "no TLS connection to the endpoint can be made: is its certificate valid?"
        } else {
            "the endpoint cannot be reached"
        }));
    }
    // In TLS 1.3 an endpoint may refuse a connection after the handshake is over for us. No event causes that.
    if causes(error).any(is_tls) {
        let reason = "the endpoint broke TLS off: does it ask for a client certificate?";
        return End::Stop(SinkError::unavailable(reason));
    }
    End::Silence(
        if error.is_timeout() {
            "the endpoint did not answer within 10 s"
        } else {
            "the endpoint ended the connection without an answer"
        }
        .to_owned(),
    )
}
