//! What an answer means for its event, and for the sink.

use std::time::Duration;

use reqwest::{
    StatusCode,
    header::{DATE, HeaderMap, RETRY_AFTER},
};
use time::OffsetDateTime;

use crate::{
    chains::End,
    sink::{Rejection, SinkError, Verdict},
};

/// Longest pause that is believed.
const LONGEST: Duration = Duration::from_hours(1);

/// Judges by status alone: a body may hold anything, secrets too.
pub(super) fn judge(status: StatusCode, headers: &HeaderMap, now: OffsetDateTime) -> End {
    let retry_after = retry_after(headers, now);
    let reason = format!("the endpoint answered {}", status.as_u16());
    match status.as_u16() {
        200..=299 => End::Taken,
        300..=399 => End::Stop(SinkError::Refused(format!(
            "{reason}, a redirect, and none is followed: set WEBHOOK_URL to where it leads"
        ))),
        // Not for good: an endpoint that goes away answers some of a page with 2xx before it is gone for all.
        410 => End::Refused(Rejection { reason, verdict: Verdict::Gone, retry_after }),
        413 => End::Refused(Rejection {
            reason: format!("{reason}: too large"),
            verdict: Verdict::ForGood,
            retry_after: None,
        }),
        429 => End::Refused(Rejection { reason, verdict: Verdict::Limited, retry_after }),
        // These judge the message; all others (who may call, where, and every 5xx) say nothing of it.
        400 | 406 | 409 | 415 | 422 => End::Refused(Rejection { reason, verdict: Verdict::Refused, retry_after }),
        _ => End::Refused(Rejection { reason, verdict: Verdict::Failed, retry_after }),
    }
}

/// Seconds, or a date by the server's own clock (by `now`, if it does not tell its own).
fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let date = |text| httpdate::parse_http_date(text).ok().map(OffsetDateTime::from);
    let asked = text(RETRY_AFTER)?;
    let pause = if !asked.is_empty() && asked.bytes().all(|letter| letter.is_ascii_digit()) {
        // More digits than fit is very long.
        asked.parse().map_or(LONGEST, Duration::from_secs)
    } else {
        let since = text(DATE).and_then(date).unwrap_or(now);
        Duration::try_from(date(asked)? - since).unwrap_or(Duration::ZERO)
    };
    Some(pause.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-22 11:00:00 UTC);

    fn pause(pairs: &[(&'static str, &'static str)]) -> Option<Duration> {
        let header = |(name, value): &(&'static str, &'static str)| {
            (reqwest::header::HeaderName::from_static(name), reqwest::header::HeaderValue::from_static(value))
        };
        retry_after(&pairs.iter().map(header).collect(), NOW)
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_bounded_to_an_hour() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(pause(&[("retry-after", "7")]), seconds(7));
        assert_eq!(pause(&[("retry-after", "Sun, 22 Nov 2026 11:00:07 GMT")]), seconds(7));
        let ahead = [("date", "Sun, 22 Nov 2026 12:00:00 GMT"), ("retry-after", "Sun, 22 Nov 2026 12:00:09 GMT")];
        assert_eq!(pause(&ahead), seconds(9));
        assert_eq!(pause(&[("retry-after", "Sun, 22 Nov 2026 10:00:00 GMT")]), seconds(0));
        for long in ["3601", "99999999999999999999999", "Mon, 23 Nov 2026 11:00:07 GMT"] {
            assert_eq!(pause(&[("retry-after", long)]), Some(LONGEST), "{long}");
        }
        for nothing in ["", "-1", "soon", "1.5"] {
            assert_eq!(pause(&[("retry-after", nothing)]), None, "{nothing}");
        }
    }
}
