//! One call to ESI: the exchange, what its end means, and whether to try again.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use reqwest::{Response, header};
use runtime::retry::{Attempt, Policy, retry};
use tokio::time::{Instant, timeout_at};

use crate::{
    client::Esi,
    counts::{Outcome, Route},
    error::{EsiError, excerpt},
    headers::Headers,
    settings::Deadline,
    wire::error_text,
};

/// Attempts after the first; each may cost an error of the window.
pub(crate) const RETRIES: u32 = 2;
/// Throttled answers to one call after which it is given up, however short the waits.
const MAX_THROTTLED: u32 = 10;
/// Longest body that is read; a full answer of affiliation has some 90 KiB.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// Pause after a throttle in disguise, which as a rule has no `Retry-After`.
const DISGUISED: Duration = Duration::from_secs(10);

/// What to ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) route: Route,
    /// Path, with its leading slash.
    pub(crate) path: &'a str,
    /// JSON to POST; `None`: a GET.
    pub(crate) body: Option<&'a str>,
}

/// An answer that means something to whoever asked.
#[derive(Debug)]
pub(crate) enum Reply<T> {
    /// 2xx, and how long it is fresh.
    Answer(T, Option<Duration>),
    /// 400 or 404.
    Refused(Refusal),
}

/// A 400 or 404, outside the downtime.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// `error` of its body; `None` if that is not ESI's JSON.
    pub(crate) text: Option<String>,
    pub(crate) fresh_for: Option<Duration>,
}

impl Refusal {
    /// `404 Not found`, to be shown.
    pub(crate) fn describe(&self) -> String {
        format!("{} {}", self.status, self.text.as_deref().unwrap_or("without a reason"))
    }

    /// It is about the route, not about an id: what ESI answers to everybody when it is in trouble.
    pub(crate) fn is_route_wide(&self) -> bool {
        match &self.text {
            Some(text) => text.trim().eq_ignore_ascii_case("not found"),
            None => self.status == 404,
        }
    }
}

/// Why an exchange came to nothing.
enum Failure {
    /// Another attempt may do.
    Transient(String),
    /// ESI asked for a pause, which is noted.
    Throttled,
    /// No other attempt will do.
    Final(EsiError),
}

/// How often a call was tried.
#[derive(Default)]
struct Tries {
    failed: AtomicU32,
    throttled: AtomicU32,
}

impl Esi {
    /// Asks until there is an answer that means something, or none can be had before the deadline. `parse` reads the
    /// body of a 2xx; a body it cannot read counts as cut off.
    pub(crate) async fn call<T>(
        &self,
        request: Request<'_>,
        deadline: Deadline,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Reply<T>, EsiError> {
        let total = deadline.saturating_duration_since(Instant::now());
        let policy = Policy { first: Duration::from_millis(300), longest: Duration::from_secs(3), total };
        let tries = Tries::default();
        let work = retry(policy, || self.attempt(request, deadline, &parse, &tries));
        self.stop.or(work).await.unwrap_or(Err(EsiError::Stopped))
    }

    async fn attempt<T>(
        &self,
        request: Request<'_>,
        deadline: Deadline,
        parse: impl Fn(&[u8]) -> Option<T>,
        tries: &Tries,
    ) -> Result<Reply<T>, Attempt<EsiError>> {
        let _slot = self.admit(request.route, deadline).await.map_err(Attempt::permanent)?;
        let end = self.exchange(request, deadline, parse).await;
        self.leave(request.route);
        match end {
            Ok(reply) => Ok(reply),
            Err(Failure::Final(error)) => Err(Attempt::permanent(error)),
            Err(Failure::Throttled) => {
                let again = tries.throttled.fetch_add(1, Ordering::Relaxed) < MAX_THROTTLED;
                let budget = self.out_of_time(Instant::now());
                // The gate knows how long to wait.
                Err(if again { Attempt::retry_after(budget, Duration::ZERO) } else { Attempt::permanent(budget) })
            }
            Err(Failure::Transient(text)) => {
                if self.in_downtime() {
                    let reason = format!("{text}, in the daily downtime");
                    return Err(Attempt::permanent(EsiError::Down { reason }));
                }
                let again = tries.failed.fetch_add(1, Ordering::Relaxed) < RETRIES;
                let error = EsiError::Unavailable(text);
                Err(if again { Attempt::transient(error) } else { Attempt::permanent(error) })
            }
        }
    }

    async fn exchange<T>(
        &self,
        request: Request<'_>,
        deadline: Deadline,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Reply<T>, Failure> {
        let url = format!("{}{}", self.settings.base_url.as_str().trim_end_matches('/'), request.path);
        let client = self.http().await.map_err(Failure::Final)?;
        let call = match request.body {
            Some(body) => client.post(url).header(header::CONTENT_TYPE, "application/json").body(body.to_owned()),
            None => client.get(url),
        };
        let call = call
            .header(header::ACCEPT, "application/json")
            .header("x-compatibility-date", &self.settings.compatibility_date)
            .header("x-tenant", "tranquility");
        let started = Instant::now();
        let end = |outcome| self.counts.add(request.route, outcome, started.elapsed());
        let response = match timeout_at(deadline, call.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                end(outcome_of(&error));
                return Err(failure_of(&error));
            }
            Err(_) => {
                end(Outcome::TIMEOUT);
                return Err(Failure::Final(self.out_of_time(deadline)));
            }
        };
        let status = response.status().as_u16();
        let headers = Headers::read(response.headers(), self.clock.now());
        if let Some(date) = headers.date.filter(|_| is_json(&response)) {
            self.set_esi_clock(date);
        }
        let others = self.settings.concurrency.saturating_sub(self.slots.available_permits() + 1);
        let others = u32::try_from(others).unwrap_or(u32::MAX);
        let notice = self.limits().note(request.route, status, &headers, others, Instant::now());
        self.board.put_up(request.route, &notice).await;
        let Ok(body) = timeout_at(deadline, read_body(response)).await else {
            end(Outcome::TIMEOUT);
            return Err(Failure::Final(self.out_of_time(deadline)));
        };
        if !(200..300).contains(&status) {
            end(Outcome::of_status(status));
            let body = body.unwrap_or_default();
            if status == 500 && is_disguised_throttle(&body) {
                let notice = self.limits().throttled(request.route, &headers, DISGUISED, Instant::now());
                self.board.put_up(request.route, &notice).await;
                return Err(Failure::Throttled);
            }
            return self.refusal(status, &body, headers.fresh_for).map(Reply::Refused);
        }
        let answer = match body {
            Ok(body) => parse(&body).ok_or((Outcome::BODY, "an unreadable body".to_owned())),
            Err(problem) => Err(problem),
        };
        match answer {
            Ok(answer) => {
                end(Outcome::OK);
                Ok(Reply::Answer(answer, headers.fresh_for))
            }
            Err((outcome, text)) => {
                end(outcome);
                Err(Failure::Transient(text))
            }
        }
    }

    fn refusal(&self, status: u16, body: &[u8], fresh_for: Option<Duration>) -> Result<Refusal, Failure> {
        let text = error_text(body);
        let shown = format!("{status} {}", text.clone().unwrap_or_else(|| excerpt(&String::from_utf8_lossy(body))));
        match status {
            420 | 429 => Err(Failure::Throttled),
            401 | 403 => Err(Failure::Final(EsiError::Misconfigured(shown))),
            400 if shown.to_ascii_lowercase().contains("compatibility") => {
                Err(Failure::Final(EsiError::Misconfigured(shown)))
            }
            400 | 404 if self.in_downtime() => {
                let reason = format!("{shown}, which proves nothing in the daily downtime");
                Err(Failure::Final(EsiError::Down { reason }))
            }
            400 | 404 => Ok(Refusal { status, text, fresh_for }),
            500.. => Err(Failure::Transient(shown)),
            _ => Err(Failure::Final(EsiError::Unavailable(shown))),
        }
    }
}

/// A 429 that ESI passes on as a 500, in words alone.
fn is_disguised_throttle(body: &[u8]) -> bool {
    error_text(body).is_some_and(|text| text.starts_with("Undefined 429 response"))
}

/// What is not JSON comes from a box in front of ESI, whose clock is its own.
fn is_json(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
}

/// Reads a body up to the cap.
pub(crate) async fn read_body(mut response: Response) -> Result<Vec<u8>, (Outcome, String)> {
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    if announced > MAX_BODY {
        return Err((Outcome::BODY, "a body that is too long".to_owned()));
    }
    let mut body = Vec::with_capacity(announced);
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_BODY => {
                return Err((Outcome::BODY, "a body that is too long".to_owned()));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) if error.is_timeout() => return Err((Outcome::TIMEOUT, "timeout".to_owned())),
            Err(_) => return Err((Outcome::BODY, "a body that was cut off".to_owned())),
        }
    }
}

/// How to count a call that got no answer.
pub(crate) fn outcome_of(error: &reqwest::Error) -> Outcome {
    if error.is_timeout() { Outcome::TIMEOUT } else { Outcome::CONNECTION }
}

fn failure_of(error: &reqwest::Error) -> Failure {
    if error.is_builder() {
        return Failure::Final(EsiError::Misconfigured("the address or a header cannot be sent".to_owned()));
    }
    Failure::Transient(if error.is_timeout() { "timeout" } else { "no connection, or one that was cut" }.to_owned())
}
