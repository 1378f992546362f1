//! EVE SSO: exchanging a refresh token, and reading whose it is from the access token that comes back.
//!
//! These are two steps, since SSO may rotate the refresh token with the first: whoever holds it must store the new one
//! (compare-and-swap against the old) before anything else can fail.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use identity::ids::EveCharacterId;
use reqwest::RequestBuilder;
use runtime::{
    Secret,
    retry::{Attempt, Policy, retry},
};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use crate::{
    call::{RETRIES, outcome_of, read_body},
    client::Esi,
    counts::{Outcome, Route},
    error::SsoError,
    headers::Headers,
    settings::{Deadline, SsoClient},
};

/// Longest time for one call to SSO.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Longest `Retry-After` of a 429 that is waited for; a longer one ends the attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What a refresh token was exchanged for.
#[derive(Debug)]
pub struct Refreshed {
    /// Present when SSO rotated the refresh token: the old one may be void already. Store it before anything else.
    pub new_refresh_token: Option<Secret>,
    /// For [`Esi::owner`]; lives 20 minutes. Empty in one case: SSO rotated the token and sent no access token, which
    /// [`Esi::owner`] then reports, after the rotated one is stored.
    pub access_token: Secret,
}

/// Names the owner of a character without saying who it is; another hash means another owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerHash(pub String);

/// What SSO answered.
pub(crate) struct SsoAnswer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// `Retry-After` of a 429.
    retry_after: Option<Duration>,
}

/// Why an exchange is worth another attempt, and when.
struct Again {
    error: SsoError,
    retry_after: Option<Duration>,
}

impl From<SsoError> for Again {
    fn from(error: SsoError) -> Self {
        Self { error, retry_after: None }
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
}

#[derive(Deserialize)]
struct OauthError {
    error: String,
}

impl Esi {
    /// Exchanges a refresh token, once SSO's keys are there: without them the access token would be worthless, and the
    /// refresh token rotated for nothing. An exchange under way when the process is asked to stop is waited for (10 s at
    /// most), since the token it may have rotated would be lost with it.
    ///
    /// # Errors
    /// See [`SsoError`]. After an attempt whose answer was lost, `invalid_grant` is [`SsoError::Unavailable`]: that
    /// attempt may have rotated the token.
    pub async fn refresh(
        &self,
        id: EveCharacterId,
        refresh_token: &Secret,
        deadline: Deadline,
    ) -> Result<Refreshed, SsoError> {
        let Some(client) = &self.settings.client else {
            return Err(SsoError::InvalidClient("no client id and secret are configured".to_owned()));
        };
        self.have_keys(deadline).await?;
        let (on_its_way, lost) = (AtomicBool::new(false), AtomicU32::new(0));
        let attempt = || async {
            if self.stop.is_stopped() {
                return Err(Attempt::permanent(stopping()));
            }
            let result = self.exchange_token(client, refresh_token, deadline, &on_its_way).await;
            on_its_way.store(false, Ordering::Relaxed);
            match result {
                Ok(Err(SsoError::InvalidGrant)) if lost.load(Ordering::Relaxed) > 0 => {
                    Err(Attempt::permanent(SsoError::Unavailable("invalid_grant after a lost answer".to_owned())))
                }
                Ok(result) => result.map_err(Attempt::permanent),
                Err(Again { error, retry_after }) => {
                    let again = lost.fetch_add(1, Ordering::Relaxed) < RETRIES && !self.stop.is_stopped();
                    Err(match retry_after {
                        _ if !again => Attempt::permanent(error),
                        None => Attempt::transient(error),
                        Some(wait) if wait <= LONGEST_WAIT && Instant::now() + wait < deadline => {
                            Attempt::retry_after(error, wait)
                        }
                        Some(_) => Attempt::permanent(error),
                    })
                }
            }
        };
        let work = retry(policy(deadline), attempt);
        tokio::pin!(work);
        let result = tokio::select! {
            biased;
            result = &mut work => result,
            () = self.stop.stopped() => {
                if on_its_way.load(Ordering::Relaxed) {
                    tokio::select! {
                        result = &mut work => result,
                        () = self.stop.forced() => Err(stopping()),
                    }
                } else {
                    Err(stopping())
                }
            }
        };
        if let Err(error) = &result {
            tracing::debug!(character = id.0, %error, "token not refreshed");
        }
        result
    }

    /// One exchange. The outer error is worth another attempt, the inner one is not.
    async fn exchange_token(
        &self,
        client: &SsoClient,
        refresh_token: &Secret,
        deadline: Deadline,
        on_its_way: &AtomicBool,
    ) -> Result<Result<Refreshed, SsoError>, Again> {
        let Some(_slot) = self.slot(deadline).await else {
            return Ok(Err(SsoError::Unavailable("no time left".to_owned())));
        };
        let http = self.http().await.map_err(|error| SsoError::Unavailable(error.to_string()))?;
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())];
        let request = http.post(self.sso_address("/v2/oauth/token")).form(&form);
        let request = request.basic_auth(&client.id, Some(client.secret.expose()));
        on_its_way.store(true, Ordering::Relaxed);
        // Not cut off at the deadline: what is rotated must come home.
        let answer = self.ask_sso(Route::SsoToken, request).await?;
        if answer.status >= 500 || answer.status == 429 {
            let error = SsoError::Unavailable(format!("status {}", answer.status));
            return Err(Again { error, retry_after: answer.retry_after });
        }
        Ok(read_answer(&answer, refresh_token))
    }

    /// One call to SSO.
    ///
    /// # Errors
    /// No answer arrived whole.
    pub(crate) async fn ask_sso(&self, route: Route, request: RequestBuilder) -> Result<SsoAnswer, SsoError> {
        let started = Instant::now();
        let whole = async {
            let response = request.timeout(TIMEOUT).send().await.map_err(|error| outcome_of(&error))?;
            let status = response.status().as_u16();
            let headers = Headers::read(response.headers(), self.clock.now());
            let body = read_body(response).await.map_err(|(outcome, _)| outcome)?;
            Ok(SsoAnswer { status, body, retry_after: headers.retry_after.filter(|_| status == 429) })
        };
        let answer: Result<SsoAnswer, Outcome> = whole.await;
        let outcome = answer.as_ref().map_or_else(|outcome| *outcome, |answer| Outcome::of_status(answer.status));
        self.counts.add(route, outcome, started.elapsed());
        answer.map_err(|outcome| SsoError::Unavailable(outcome.as_str().to_owned()))
    }

    /// The key set, from SSO; 30 s at most.
    pub(crate) async fn fetch_keys(&self, deadline: Deadline) -> Result<Vec<u8>, SsoError> {
        let deadline = deadline.min(Instant::now() + TIMEOUT * (RETRIES + 1));
        let failed = AtomicU32::new(0);
        let attempt = || async {
            let answer = async {
                let slot = self.slot(deadline).await;
                let _slot = slot.ok_or_else(|| SsoError::Unavailable("no time left".to_owned()))?;
                let http = self.http().await.map_err(|error| SsoError::Unavailable(error.to_string()))?;
                let answer = self.ask_sso(Route::SsoJwks, http.get(self.sso_address("/oauth/jwks"))).await?;
                if answer.status == 200 {
                    return Ok(answer.body);
                }
                Err(SsoError::Unavailable(format!("the key set answers status {}", answer.status)))
            };
            let last = failed.load(Ordering::Relaxed) >= RETRIES;
            failed.fetch_add(1, Ordering::Relaxed);
            answer.await.map_err(|error| if last { Attempt::permanent(error) } else { Attempt::transient(error) })
        };
        let work = timeout_at(deadline, retry(policy(deadline), attempt));
        match self.stop.or(work).await {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(SsoError::Unavailable("the key set took too long".to_owned())),
            None => Err(stopping()),
        }
    }

    fn sso_address(&self, path: &str) -> String {
        format!("{}{path}", self.settings.sso_url.as_str().trim_end_matches('/'))
    }
}

fn policy(deadline: Deadline) -> Policy {
    let total = deadline.saturating_duration_since(Instant::now());
    Policy { first: Duration::from_millis(300), longest: Duration::from_secs(3), total }
}

fn stopping() -> SsoError {
    SsoError::Unavailable("the process was asked to stop".to_owned())
}

/// What a whole answer means. Its text goes nowhere: it may repeat what was sent.
fn read_answer(answer: &SsoAnswer, old: &Secret) -> Result<Refreshed, SsoError> {
    if answer.status == 200 {
        let tokens: TokenAnswer = serde_json::from_slice(&answer.body)
            .map_err(|_| SsoError::Unavailable("an unreadable answer".to_owned()))?;
        let rotated = tokens.refresh_token.filter(|new| !new.is_empty() && new != old.expose()).map(Secret::new);
        let access_token = tokens.access_token.unwrap_or_default();
        if access_token.is_empty() && rotated.is_none() {
            return Err(SsoError::NoAccessToken);
        }
        return Ok(Refreshed { new_refresh_token: rotated, access_token: Secret::new(access_token) });
    }
    let code = serde_json::from_slice::<OauthError>(&answer.body).map(|body| body.error).unwrap_or_default();
    match (answer.status, code.as_str()) {
        (400 | 401, "invalid_grant") => Err(SsoError::InvalidGrant),
        (status, "invalid_client" | "unauthorized_client") => {
            Err(SsoError::InvalidClient(format!("status {status}; check the client id and its secret")))
        }
        // Also a 401 without these words: it may come from a box in front of SSO and must not end a run.
        (status, _) => Err(SsoError::Unavailable(format!("status {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, body: &str) -> SsoError {
        let answer = SsoAnswer { status, body: body.into(), retry_after: None };
        read_answer(&answer, &Secret::new("old")).unwrap_err()
    }

    #[test]
    fn only_the_words_for_it_are_about_the_application_or_the_token() {
        for code in ["invalid_client", "unauthorized_client"] {
            for status in [400, 401] {
                let error = error(status, &format!(r#"{{"error":"{code}"}}"#));
                assert!(matches!(error, SsoError::InvalidClient(_)), "{status} {code}: {error}");
            }
        }
        assert_eq!(error(400, r#"{"error":"invalid_grant"}"#), SsoError::InvalidGrant);
        for body in ["", "<html>401 Authorization Required</html>", r#"{"error":"Unauthorized"}"#, r#"{"error":5}"#] {
            assert_eq!(error(401, body), SsoError::Unavailable("status 401".to_owned()), "{body}");
        }
    }
}
