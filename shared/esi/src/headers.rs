//! What the headers of an answer say about limits and freshness.

use std::time::Duration;

use reqwest::header::HeaderMap;
use time::OffsetDateTime;

/// ESI counts in whole seconds; so much is added to a wait so that it is never too short.
const ROUNDING: Duration = Duration::from_millis(250);
/// Longest wait that is believed; a longer one is a fault of the server.
const LONGEST: Duration = Duration::from_hours(24);

/// Length of the window of the legacy error limit; a later end is a fault of the server.
pub(crate) const ERROR_WINDOW: Duration = Duration::from_mins(1);

/// What one answer said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Headers {
    /// ESI's clock.
    pub(crate) date: Option<OffsetDateTime>,
    /// `Expires` minus `Date`: how long the same question must not be asked again. At most a day.
    pub(crate) fresh_for: Option<Duration>,
    /// `Retry-After`, from either form.
    pub(crate) retry_after: Option<Duration>,
    /// The legacy error limit.
    pub(crate) errors: Option<ErrorLimit>,
    /// The token bucket the route draws from.
    pub(crate) bucket: Option<Bucket>,
}

/// `X-ESI-Error-Limit-*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ErrorLimit {
    /// Errors left in this window.
    pub(crate) remain: u32,
    /// Until the next window; at most [`ERROR_WINDOW`].
    pub(crate) reset: Duration,
}

/// `X-Ratelimit-*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) group: String,
    /// Tokens in a window.
    pub(crate) limit: u32,
    /// A token comes back so long after it was spent.
    pub(crate) window: Duration,
    pub(crate) remaining: u32,
    /// Tokens this call cost.
    pub(crate) used: u32,
}

impl Headers {
    /// Reads them; what is absent or malformed is `None`. `now` stands in for a missing `Date`.
    pub(crate) fn read(headers: &HeaderMap, now: OffsetDateTime) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let number = |name: &str| text(name).and_then(|text| text.parse::<u32>().ok());
        let date = text("date").and_then(http_date);
        let server_now = date.unwrap_or(now);
        let retry_after = text("retry-after").and_then(|text| retry_after(text, server_now));
        let expires = text("expires").and_then(http_date);
        let errors = number("x-esi-error-limit-remain").zip(number("x-esi-error-limit-reset"));
        let bucket = || {
            let (limit, window) = limit(text("x-ratelimit-limit")?)?;
            let remaining = number("x-ratelimit-remaining")?;
            let used = number("x-ratelimit-used").unwrap_or(0);
            let group = text("x-ratelimit-group").filter(|group| !group.is_empty() && group.len() <= 64)?;
            Some(Bucket { group: group.to_owned(), limit, window, remaining, used })
        };
        Self {
            date,
            fresh_for: expires.map(|at| until(at, server_now)).filter(|left| !left.is_zero()),
            retry_after,
            errors: errors
                .map(|(remain, seconds)| ErrorLimit { remain, reset: whole_seconds(seconds.into()).min(ERROR_WINDOW) }),
            bucket: bucket(),
        }
    }
}

fn http_date(text: &str) -> Option<OffsetDateTime> {
    httpdate::parse_http_date(text).ok().map(OffsetDateTime::from)
}

fn until(at: OffsetDateTime, now: OffsetDateTime) -> Duration {
    Duration::try_from(at - now).unwrap_or(Duration::ZERO).min(LONGEST)
}

fn whole_seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds).min(LONGEST) + ROUNDING
}

fn retry_after(text: &str, now: OffsetDateTime) -> Option<Duration> {
    match text.parse::<u64>() {
        Ok(seconds) => Some(whole_seconds(seconds)),
        Err(_) => http_date(text).map(|at| until(at, now) + ROUNDING),
    }
}

/// `150/15m`: tokens and window.
fn limit(text: &str) -> Option<(u32, Duration)> {
    let (tokens, window) = text.split_once('/')?;
    let unit = window.chars().last()?;
    let count: u64 = window.strip_suffix(unit)?.parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    let window = Duration::from_secs(count.checked_mul(seconds)?).min(LONGEST);
    Some((tokens.parse().ok()?, window)).filter(|_| !window.is_zero())
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};
    use runtime::Clock;
    use time::macros::datetime;

    use super::*;

    fn read(pairs: &[(&'static str, &'static str)]) -> Headers {
        let clock = Clock::fixed(datetime!(2026-11-22 11:00:00 UTC));
        let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Headers::read(&pairs.collect(), clock.now())
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let seven = Some(Duration::from_secs(7) + ROUNDING);
        assert_eq!(read(&[("retry-after", "7")]).retry_after, seven);
        assert_eq!(read(&[("retry-after", "Sun, 22 Nov 2026 11:00:07 GMT")]).retry_after, seven);
        assert_eq!(read(&[("retry-after", "soon")]).retry_after, None);
        assert_eq!(read(&[("retry-after", "Sun, 22 Nov 2026 10:00:00 GMT")]).retry_after, Some(ROUNDING));
        assert_eq!(read(&[("retry-after", "99999999999")]).retry_after, Some(LONGEST + ROUNDING));
    }

    #[test]
    fn dates_count_from_the_servers_clock() {
        let headers = read(&[
            ("date", "Sun, 22 Nov 2026 12:00:00 GMT"),
            ("expires", "Sun, 22 Nov 2026 12:00:30 GMT"),
            ("retry-after", "Sun, 22 Nov 2026 12:00:07 GMT"),
        ]);
        assert_eq!(headers.date, Some(datetime!(2026-11-22 12:00:00 UTC)));
        assert_eq!(headers.fresh_for, Some(Duration::from_secs(30)));
        assert_eq!(headers.retry_after, Some(Duration::from_secs(7) + ROUNDING));
        assert_eq!(read(&[("expires", "Sun, 22 Nov 2026 10:59:59 GMT")]).fresh_for, None);
    }

    #[test]
    fn the_error_limit_needs_both_of_its_headers() {
        let headers = read(&[("x-esi-error-limit-remain", "21"), ("x-esi-error-limit-reset", "42")]);
        assert_eq!(headers.errors, Some(ErrorLimit { remain: 21, reset: Duration::from_secs(42) + ROUNDING }));
        assert_eq!(read(&[("x-esi-error-limit-remain", "21")]).errors, None);
    }

    #[test]
    fn an_error_window_is_not_believed_to_be_longer_than_it_is() {
        let headers = read(&[("x-esi-error-limit-remain", "0"), ("x-esi-error-limit-reset", "86400")]);
        assert_eq!(headers.errors, Some(ErrorLimit { remain: 0, reset: ERROR_WINDOW }));
    }

    #[test]
    fn a_bucket_is_read_with_its_window() {
        let headers = read(&[
            ("x-ratelimit-group", "char-detail"),
            ("x-ratelimit-limit", "150/15m"),
            ("x-ratelimit-remaining", "148"),
            ("x-ratelimit-used", "2"),
        ]);
        let window = Duration::from_mins(15);
        let bucket = Bucket { group: "char-detail".into(), limit: 150, window, remaining: 148, used: 2 };
        assert_eq!(headers.bucket, Some(bucket));
        for (text, window) in [("1/10s", 10), ("1/2h", 7200)] {
            assert_eq!(limit(text), Some((1, Duration::from_secs(window))));
        }
        for text in ["150", "150/", "150/15", "150/15d", "150/0m", "x/15m", "150/ém"] {
            assert_eq!(limit(text), None, "{text}");
        }
    }
}
