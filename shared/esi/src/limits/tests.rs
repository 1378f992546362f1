use super::*;
use crate::headers::Bucket;

const SECOND: Duration = Duration::from_secs(1);

/// When the route may be called next; `None`: at once.
fn free_at(limits: &Limits, route: Route, now: Instant) -> Option<Instant> {
    limits.wait(route, now).map(|wait| match wait {
        Wait::Until(until) => until,
        Wait::Probe(_) => panic!("no call is under way"),
    })
}

fn errors(remain: u32, seconds: u32) -> Headers {
    Headers { errors: Some(ErrorLimit { remain, reset: SECOND * seconds }), ..Headers::default() }
}

fn bucket(remaining: u32) -> Headers {
    let bucket = Bucket { group: "g".into(), limit: 100, window: SECOND * 60, remaining, used: 2 };
    Headers { bucket: Some(bucket), ..Headers::default() }
}

#[test]
fn the_floor_of_the_error_limit_stops_every_route_until_the_window_ends() {
    let (mut limits, now) = (Limits::default(), Instant::now());
    let notice = limits.note(Route::Affiliation, 404, &errors(21, 30), 0, now);
    assert_eq!(notice.errors, Some(ErrorLimit { remain: 21, reset: SECOND * 30 }));
    assert_eq!(free_at(&limits, Route::Affiliation, now), None);
    limits.note(Route::Affiliation, 404, &errors(20, 30), 0, now);
    assert_eq!(free_at(&limits, Route::Status, now), Some(now + SECOND * 30));
    assert_eq!(free_at(&limits, Route::Status, now + SECOND * 30), None);
}

#[test]
fn a_late_answer_does_not_raise_what_is_left_and_a_new_window_does() {
    let (mut limits, now) = (Limits::default(), Instant::now());
    limits.note(Route::Status, 500, &errors(10, 30), 0, now);
    limits.note(Route::Status, 200, &errors(90, 30), 0, now);
    assert_eq!(free_at(&limits, Route::Status, now), Some(now + SECOND * 30));
    limits.note(Route::Status, 200, &errors(100, 60), 0, now + SECOND * 20);
    assert_eq!(free_at(&limits, Route::Status, now + SECOND * 20), None);
}

#[test]
fn errors_from_in_front_of_esi_are_counted_too() {
    let (mut limits, now) = (Limits::default(), Instant::now());
    limits.note(Route::Status, 200, &errors(22, 30), 0, now);
    for _ in 0..2 {
        assert_eq!(free_at(&limits, Route::Status, now), None);
        limits.note(Route::Status, 502, &Headers::default(), 0, now);
    }
    assert!(free_at(&limits, Route::Status, now).is_some());
}

#[test]
fn a_success_tells_others_nothing() {
    let notice = Limits::default().note(Route::Status, 200, &errors(99, 30), 0, Instant::now());
    assert_eq!(notice, Notice::default());
}

#[test]
fn four_twenty_pauses_everything_until_the_reset() {
    for (headers, wait) in [(errors(0, 7), SECOND * 7), (Headers::default(), ERROR_WINDOW)] {
        let (mut limits, now) = (Limits::default(), Instant::now());
        assert_eq!(limits.note(Route::Names, 420, &headers, 0, now).pause, Some(wait));
        assert_eq!(free_at(&limits, Route::Character, now), Some(now + wait));
    }
}

#[test]
fn four_twenty_nine_stops_its_group_and_without_a_group_everything() {
    let (mut limits, now) = (Limits::default(), Instant::now());
    let wait = Headers { retry_after: Some(SECOND * 5), ..bucket(90) };
    limits.note(Route::Character, 429, &wait, 0, now);
    assert_eq!(free_at(&limits, Route::Character, now), Some(now + SECOND * 5));
    assert_eq!(free_at(&limits, Route::Names, now), None);
    limits.note(Route::Names, 429, &Headers::default(), 0, now);
    assert_eq!(free_at(&limits, Route::Status, now), Some(now + UNSAID_429));
}

#[test]
fn a_tenth_of_a_bucket_is_kept_until_our_first_token_comes_back() {
    let (mut limits, start) = (Limits::default(), Instant::now());
    let notice = limits.note(Route::Character, 200, &bucket(98), 0, start);
    assert_eq!((notice.group.as_deref(), notice.blocked), (Some("g"), None));
    let later = start + SECOND * 10;
    let notice = limits.note(Route::Character, 200, &bucket(10), 0, later);
    assert_eq!((notice.group, notice.blocked), (None, Some(("g".to_owned(), SECOND * 50))));
    assert_eq!(free_at(&limits, Route::Character, later), Some(start + SECOND * 60));
    assert_eq!(free_at(&limits, Route::Character, start + SECOND * 60), None);
}

#[test]
fn calls_in_flight_count_as_the_dearest() {
    let now = Instant::now();
    assert!(Limits::default().note(Route::Character, 200, &bucket(20), 1, now).blocked.is_none());
    assert!(Limits::default().note(Route::Character, 200, &bucket(20), 2, now).blocked.is_some());
}

#[test]
fn what_another_process_saw_counts_here() {
    let (mut limits, now) = (Limits::default(), Instant::now());
    let seen = Notice {
        errors: Some(ErrorLimit { remain: 20, reset: SECOND }),
        group: Some("g".into()),
        blocked: Some(("g".into(), SECOND * 9)),
        ..Notice::default()
    };
    limits.absorb(Route::Character, seen, now);
    assert_eq!(free_at(&limits, Route::Status, now), Some(now + SECOND));
    assert_eq!(free_at(&limits, Route::Character, now), Some(now + SECOND * 9));
}

#[test]
fn a_wait_is_believed_as_far_as_its_status_allows() {
    let day = SECOND * 86_400;
    let asked = Headers { retry_after: Some(day), ..Headers::default() };
    let window = Headers { errors: Some(ErrorLimit { remain: 0, reset: day }), ..Headers::default() };
    for (status, headers, longest) in
        [(420, &asked, 60), (420, &window, 60), (429, &asked, 900), (500, &asked, 300), (503, &asked, 300)]
    {
        let (mut limits, now) = (Limits::default(), Instant::now());
        assert_eq!(limits.note(Route::Names, status, headers, 0, now).pause, Some(SECOND * longest), "{status}");
    }
    let (mut limits, now) = (Limits::default(), Instant::now());
    let throttled = Headers { retry_after: Some(day), ..bucket(90) };
    let notice = limits.note(Route::Names, 429, &throttled, 0, now);
    assert_eq!((notice.pause, notice.blocked), (None, Some(("g".to_owned(), SECOND * 60))));
}

#[test]
fn a_shorter_pause_is_put_up_as_long_as_the_one_that_holds() {
    let (mut limits, now) = (Limits::default(), Instant::now());
    let asked = |seconds| Headers { retry_after: Some(SECOND * seconds), ..Headers::default() };
    limits.note(Route::Names, 503, &asked(60), 0, now);
    assert_eq!(limits.note(Route::Names, 503, &asked(5), 0, now + SECOND).pause, Some(SECOND * 59));
}

#[test]
fn a_throttle_in_disguise_stops_its_group_too() {
    let (mut limits, now) = (Limits::default(), Instant::now());
    assert_eq!(limits.throttled(Route::Names, &Headers::default(), SECOND * 9, now).pause, Some(SECOND * 9));
    limits.note(Route::Character, 200, &bucket(90), 0, now);
    let notice = limits.throttled(Route::Character, &Headers::default(), SECOND * 9, now);
    assert_eq!(notice.blocked, Some(("g".to_owned(), SECOND * 9)));
}

/// Character's bucket, blocked until the moment that is returned.
fn blocked() -> (Limits, Instant) {
    let (mut limits, now) = (Limits::default(), Instant::now());
    limits.note(Route::Character, 200, &bucket(10), 0, now);
    (limits, now + SECOND * 60)
}

#[test]
fn after_a_block_one_call_goes_ahead_until_it_shows_how_the_bucket_stands() {
    let (mut limits, end) = blocked();
    assert!(limits.enter(Route::Character, end));
    assert!(matches!(limits.wait(Route::Character, end), Some(Wait::Probe(_))));
    assert!(!limits.enter(Route::Character, end));
    assert!(limits.enter(Route::Names, end), "another route does not wait");
    limits.note(Route::Character, 200, &bucket(90), 0, end);
    limits.leave(Route::Character);
    for _ in 0..3 {
        assert!(limits.enter(Route::Character, end));
    }
}

#[test]
fn a_first_call_that_shows_nothing_is_followed_by_another_single_one() {
    let (mut limits, end) = blocked();
    for answer in [None, Some(502)] {
        assert!(limits.enter(Route::Character, end));
        if let Some(status) = answer {
            limits.note(Route::Character, status, &Headers::default(), 0, end);
        }
        limits.leave(Route::Character);
        assert!(limits.enter(Route::Character, end));
        assert!(!limits.enter(Route::Character, end), "{answer:?}");
        limits.leave(Route::Character);
    }
    assert!(limits.enter(Route::Character, end));
    assert!(limits.enter(Route::Character, end + SECOND * 20), "a lost call is not waited for");
}
