//! What each answer of an endpoint means.

use std::time::Duration;

use harness::{Answer, WebhookReceiver};
use outbox::sink::{Fate, Published, SinkError};

use crate::{
    events::{events, fates, is_refused, is_unavailable, publish},
    webhook::sink,
};

/// Publishes to an endpoint that answers `answer` about the aggregate `x` and 204 about others.
async fn about_x(answer: Answer, batch: &str) -> (Published, WebhookReceiver) {
    let receiver = WebhookReceiver::start();
    receiver.answer_about("x", [answer]);
    let published = publish(&sink(&receiver.url()), &events(batch)).await.unwrap();
    (published, receiver)
}

#[tokio::test]
async fn every_2xx_is_a_publication() {
    for status in [200, 201, 202, 204, 299] {
        let (published, _) = about_x(Answer::status(status), "xx").await;
        assert_eq!((fates(&published).as_str(), published.trouble), ("pp", None), "{status}");
    }
}

#[tokio::test]
async fn a_redirect_is_refused_and_not_followed() {
    let elsewhere = WebhookReceiver::start();
    for status in [301, 302, 303, 307, 308] {
        let (published, receiver) = about_x(Answer::status(status).header("location", elsewhere.url()), "xx").await;
        assert_eq!(fates(&published), "--", "{status}");
        let error = published.trouble.unwrap();
        assert!(is_refused(&error) && error.to_string().contains("redirect"), "{error}");
        assert_eq!(receiver.received().len(), 1);
    }
    assert!(elsewhere.received().is_empty());
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_refused() {
    let (published, _) = about_x(Answer::status(410), "xx").await;
    assert_eq!(fates(&published), "--");
    let error = published.trouble.unwrap();
    assert!(is_refused(&error) && error.to_string().contains("gone for good"), "{error}");
}

#[tokio::test]
async fn what_is_too_large_is_given_up_and_others_go_on() {
    let (published, _) = about_x(Answer::status(413), "xaxb").await;
    assert_eq!((fates(&published).as_str(), published.trouble), ("gp-p", None));
    // Even when nobody else is there: it is not an outage.
    let receiver = WebhookReceiver::start();
    receiver.answer(Answer::status(413));
    let published = publish(&sink(&receiver.url()), &events("abcd")).await.unwrap();
    assert_eq!((fates(&published).as_str(), published.trouble), ("gggg", None));
}

#[tokio::test]
async fn an_overloaded_endpoint_is_left_alone_as_long_as_it_asks() {
    for status in [429, 503] {
        let date = ("Sun, 22 Nov 2026 12:00:00 GMT", "Sun, 22 Nov 2026 12:01:30 GMT");
        for (answer, expected) in [
            (Answer::status(status), None),
            (Answer::status(status).header("retry-after", "7"), Some(7)),
            (Answer::status(status).header("date", date.0).header("retry-after", date.1), Some(90)),
            (Answer::status(status).header("retry-after", "86400"), Some(3600)),
        ] {
            let (published, receiver) = about_x(answer, "xx").await;
            assert_eq!(fates(&published), "--", "{status}");
            let Some(SinkError::Unavailable { retry_after, .. }) = published.trouble else { panic!("{published:?}") };
            assert_eq!(retry_after, expected.map(Duration::from_secs), "{status}");
            assert_eq!(receiver.received().len(), 1);
        }
    }
}

#[tokio::test]
async fn any_other_answer_is_the_events_as_long_as_others_are_taken() {
    for status in [400, 401, 403, 404, 408, 409, 410, 422, 451, 500, 501, 502, 503, 504] {
        let (published, receiver) = about_x(Answer::status(status).header("retry-after", "9"), "xaxb").await;
        assert_eq!((fates(&published).as_str(), &published.trouble), ("rp-p", &None), "{status}");
        let Fate::Rejected(rejection) = &published.fates[0] else { unreachable!("see above") };
        assert!(rejection.reason.contains(&status.to_string()));
        assert_eq!(rejection.retry_after, Some(Duration::from_secs(9)));
        assert_eq!(receiver.received().len(), 3);
    }
}

#[tokio::test]
async fn three_aggregates_that_are_refused_and_nothing_else_is_an_outage() {
    for status in [400, 406, 409, 415, 422] {
        let receiver = WebhookReceiver::start();
        receiver.answer(Answer::status(status));
        let sink = sink(&receiver.url());
        let published = publish(&sink, &events("abab")).await.unwrap();
        assert_eq!((fates(&published).as_str(), published.trouble), ("rr--", None), "{status}");
        let published = publish(&sink, &events("abcab")).await.unwrap();
        assert_eq!(fates(&published), "-----");
        let error = published.trouble.unwrap();
        assert!(is_unavailable(&error) && error.to_string().contains(&status.to_string()), "{error}");
        receiver.answer_about("d", [Answer::status(200)]);
        let published = publish(&sink, &events("abcd")).await.unwrap();
        assert_eq!((fates(&published).as_str(), published.trouble), ("rrrp", None));
    }
}

#[tokio::test]
async fn one_failure_and_nothing_that_is_taken_is_an_outage() {
    for status in [401, 404, 408, 500, 502, 503] {
        let receiver = WebhookReceiver::start();
        receiver.answer(Answer::status(status).header("retry-after", "9"));
        let sink = sink(&receiver.url());
        let published = publish(&sink, &events("aa")).await.unwrap();
        assert_eq!(fates(&published), "--", "{status}");
        let error = published.trouble.unwrap();
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        let SinkError::Unavailable { retry_after, .. } = error else { panic!("{error:?}") };
        assert_eq!(retry_after, Some(Duration::from_secs(9)));
        // Also beside one that is refused, which says nothing of the sink.
        receiver.answer_about("b", [Answer::status(422)]);
        let published = publish(&sink, &events("ab")).await.unwrap();
        assert_eq!((fates(&published).as_str(), published.trouble.is_some()), ("--", true), "{status}");
        receiver.answer_about("c", [Answer::status(200)]);
        let published = publish(&sink, &events("abc")).await.unwrap();
        assert_eq!((fates(&published).as_str(), published.trouble), ("rrp", None), "{status}");
    }
}

#[tokio::test]
async fn an_event_that_is_taken_at_its_second_try_goes_on() {
    let receiver = WebhookReceiver::start();
    receiver.answer_about("x", [Answer::status(422), Answer::status(204)]);
    let sink = sink(&receiver.url());
    assert_eq!(fates(&publish(&sink, &events("xx")).await.unwrap()), "r-");
    assert_eq!(fates(&publish(&sink, &events("xx")).await.unwrap()), "pp");
    let ids: Vec<_> = receiver.received().iter().map(|request| request.data("seq").as_i64().unwrap()).collect();
    assert_eq!(ids, [1, 1, 2]);
}
