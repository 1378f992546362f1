//! What ESI asks of its clients: checked on arrival, and written into the headers of the answer.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::SystemTime;

use axum::http::Method;
use time::format_description::FormatItem;
use time::macros::format_description;
use time::{Date, Duration, OffsetDateTime};

use crate::call::Call;
use crate::fault::{RetryAfterForm, Scope};
use crate::limits::{Buckets, ErrorWindow, cost, limit_text};
use crate::reply::Reply;
use crate::route::Route;
use crate::settings::{Settings, TokenBucket};

const DAY: &[FormatItem<'_>] = format_description!("[year]-[month]-[day]");
/// Hours into a UTC day at which ESI's day begins.
const DAY_STARTS_AT_HOUR: i64 = 11;

/// A `Retry-After` that was sent.
struct Wait {
    scope: Scope,
    sent: OffsetDateTime,
    until: OffsetDateTime,
}

pub(crate) struct Manners {
    window: ErrorWindow,
    buckets: Buckets,
    waits: Vec<Wait>,
    /// `Expires` of the last answer per path, Unix seconds.
    expires: HashMap<String, i64>,
}

impl Manners {
    pub(crate) fn starting(now: OffsetDateTime) -> Self {
        Self {
            window: ErrorWindow::starting(now),
            buckets: Buckets::default(),
            waits: Vec::new(),
            expires: HashMap::new(),
        }
    }

    /// The rules a call to ESI breaks, and the answer if it goes no further.
    pub(crate) fn admit(
        &mut self,
        settings: &Settings,
        now: OffsetDateTime,
        call: &Call,
    ) -> (Vec<String>, Option<Reply>) {
        let mut broken = Vec::new();
        let grace = Duration::milliseconds(settings.retry_after_grace_ms);
        self.waits.retain(|wait| wait.until > now);
        let waits = self.waits.iter().any(|wait| wait.scope.covers(call.route) && now >= wait.sent + grace);
        if waits {
            broken.push("called before Retry-After had passed".to_owned());
        }
        if call.header("user-agent").is_none_or(|agent| agent.trim().is_empty()) {
            broken.push("no User-Agent".to_owned());
        }
        let day = compatibility_day(call, now);
        broken.extend(day.as_ref().err().cloned());
        broken.extend(call.ids.as_ref().err().cloned());
        if call.route == Route::Unknown {
            broken.push("no such route".to_owned());
        }
        if call.method == Method::GET && self.expires.get(&call.path).is_some_and(|at| now.unix_timestamp() < *at) {
            broken.push("fetched again before Expires".to_owned());
        }
        if self.window.remaining(settings, now) == 0 {
            broken.push("called while the error limit was exhausted".to_owned());
            return (broken, Some(Reply::error(420, "This software has exceeded the error limit for ESI.")));
        }
        if let Some(refused) = self.refuse_by_bucket(settings, now, call.route) {
            return (broken, Some(refused));
        }
        let refused = match (&day, &call.ids) {
            (Err(text), _) if call.header("x-compatibility-date").is_some() => Some(Reply::error(400, text)),
            (_, Err(text)) => Some(Reply::error(400, text)),
            _ => None,
        };
        (broken, refused)
    }

    fn refuse_by_bucket(&mut self, settings: &Settings, now: OffsetDateTime, route: Route) -> Option<Reply> {
        let bucket = bucket_of(settings, route)?;
        if self.buckets.remaining(bucket, now) > 0 {
            return None;
        }
        let seconds = self.buckets.wait_seconds(bucket, now);
        let scope = Scope::Routes(bucket.routes.clone());
        Some(self.rate_limited(scope, now, seconds, RetryAfterForm::Seconds))
    }

    /// 429, and the promise that nobody in `scope` calls before it says so.
    pub(crate) fn rate_limited(
        &mut self,
        scope: Scope,
        now: OffsetDateTime,
        seconds: i64,
        form: RetryAfterForm,
    ) -> Reply {
        let mut reply = Reply::error(429, "Too many requests");
        let mut until = now + Duration::seconds(seconds);
        let text = match form {
            RetryAfterForm::Seconds => seconds.to_string(),
            RetryAfterForm::HttpDate => {
                until = until.replace_nanosecond(0).unwrap_or(until) + Duration::SECOND;
                http_date(until)
            }
        };
        reply.set("retry-after", text);
        self.waits.push(Wait { scope, sent: now, until });
        reply
    }

    /// Spends the error window, as a fault asks.
    pub(crate) fn exhaust(&mut self, settings: &Settings, now: OffsetDateTime, reset_seconds: Option<i64>) {
        self.window.exhaust(settings, now, reset_seconds);
    }

    /// Counts the answer and writes ESI's headers on it.
    pub(crate) fn settle(&mut self, settings: &Settings, now: OffsetDateTime, call: &Call, reply: &mut Reply) {
        if !reply.foreign {
            reply.set("date", http_date(now));
        }
        self.cache(settings, now, call, reply);
        let bucket = bucket_of(settings, call.route);
        if let Some(bucket) = bucket {
            let spent = cost(reply.status);
            self.buckets.spend(bucket, now, spent);
            if !reply.foreign {
                reply.set("x-ratelimit-group", bucket.group.clone());
                reply.set("x-ratelimit-limit", limit_text(bucket));
                reply.set("x-ratelimit-remaining", self.buckets.remaining(bucket, now).to_string());
                reply.set("x-ratelimit-used", spent.to_string());
            }
        } else if reply.status >= 400 && reply.status != 420 {
            self.window.count_error(settings, now);
        }
        // The two sets of headers exclude each other, except on the 420 that stops every route.
        if !reply.foreign && (bucket.is_none() || reply.status == 420) {
            reply.set("x-esi-error-limit-remain", self.window.remaining(settings, now).to_string());
            reply.set("x-esi-error-limit-reset", self.window.reset_seconds(settings, now).to_string());
        }
    }

    fn cache(&mut self, settings: &Settings, now: OffsetDateTime, call: &Call, reply: &mut Reply) {
        let Some(&seconds) = settings.cache_seconds.get(&call.route) else { return };
        if reply.status != 200 || reply.foreign {
            return;
        }
        let now = now.unix_timestamp();
        let mut expires = now + seconds;
        if call.method == Method::GET {
            // Until it expires, the cache in front of ESI keeps the first answer's time.
            expires = self.expires.get(&call.path).copied().filter(|at| *at > now).unwrap_or(expires);
            if !reply.damaged {
                self.expires.insert(call.path.clone(), expires);
            }
            let tag = entity_tag(&reply.body);
            if call.header("if-none-match") == Some(tag.as_str()) {
                reply.status = 304;
                reply.body.clear();
            }
            reply.set("etag", tag);
        }
        reply.set("cache-control", format!("public, max-age={}", expires - now));
        reply.set("expires", http_date_of_unix(expires));
        reply.set("last-modified", http_date_of_unix(expires - seconds));
    }
}

fn bucket_of(settings: &Settings, route: Route) -> Option<&TokenBucket> {
    settings.token_buckets.iter().find(|bucket| bucket.routes.contains(&route))
}

/// Absent, malformed and future dates are errors; ESI itself serves the first of them with its oldest behaviour.
fn compatibility_day(call: &Call, now: OffsetDateTime) -> Result<(), String> {
    let text = call.header("x-compatibility-date").ok_or("no X-Compatibility-Date")?;
    let day = Date::parse(text, DAY).map_err(|_| "X-Compatibility-Date must be written YYYY-MM-DD")?;
    let today = (now - Duration::hours(DAY_STARTS_AT_HOUR)).date();
    if day > today { Err("X-Compatibility-Date lies in the future".to_owned()) } else { Ok(()) }
}

fn entity_tag(body: &str) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

fn http_date(at: OffsetDateTime) -> String {
    httpdate::fmt_http_date(SystemTime::from(at))
}

fn http_date_of_unix(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds).map(http_date).unwrap_or_default()
}
