//! The fault list of the simulator, case by case.

use esi_simulator::{AllianceShown, CharacterState, DOOMHEIM, Fault, Kind, RetryAfterForm, Route, Scope, TokenBucket};
use harness::{CORPORATION, STRANGERS};
use suites::ALLIED;
use time::{OffsetDateTime, Time};

use crate::{
    cast::{Cast, Mark, Who},
    table::{Case, case, play},
};

const SUBJECT: [Who; 1] = [Who::Subject];
const LEAVER: [Who; 1] = [Who::Leaver];
const BOTH: [Who; 2] = [Who::Leaver, Who::Subject];

fn subject() -> i64 {
    Cast::id(Who::Subject)
}

#[tokio::test]
async fn whatever_esi_answers_no_session_goes_on_half_knowledge_and_the_next_run_completes() {
    let mut cases = Vec::new();
    cases.extend(about_ids());
    cases.extend(about_limits());
    cases.extend(about_failures());
    cases.extend(about_answers());
    cases.extend(about_downtime());
    play(cases).await;
}

/// Ids that fail a whole call, and characters that are gone.
fn about_ids() -> Vec<Case> {
    let lost_for_good = |case: Case| {
        case.nobody_knows_the_subject()
            .marks(Mark::Attempted, &SUBJECT)
            .counts("battlescope_characters_verified_total{success}", 4)
            .counts("battlescope_characters_verified_total{failed}", 1)
            .after(|cast| remembered(cast, "not_found"))
    };
    let gone = |case: Case| {
        case.loses(&BOTH)
            .loses_later(&BOTH)
            .counts("battlescope_sessions_invalidated_total{gone}", 1)
            .counts("battlescope_sessions_invalidated_total{disallowed}", 1)
    };
    vec![
        case("fair weather")
            .counts("battlescope_characters_verified_total{success}", 5)
            .counts("battlescope_character_org_changes_total{corp}", 1)
            .counts("battlescope_character_org_changes_total{both}", 1)
            .counts("battlescope_sessions_invalidated_total{disallowed}", 1)
            .counts("rollcall_verifier_confirmations_total{confirmed}", 1),
        lost_for_good(case("a bad id as 404")).errors(&["404"]),
        lost_for_good(case("a bad id as 400"))
            .fault(Fault::on(Route::Affiliation, Kind::BadIdsAs400))
            .errors(&["400", "404"]),
        gone(case("Doomheim")).bend(|cast| cast.show_subject(|subject| subject.corporation_id = DOOMHEIM)),
        gone(case("deleted"))
            .bend(|cast| cast.show_subject(|subject| subject.state = CharacterState::Deleted))
            .errors(&["404"])
            .after(|cast| remembered(cast, "deleted")),
        case("an old id that only the bulk call refuses")
            .bend(|cast| cast.show_subject(|subject| subject.state = CharacterState::Old))
            .errors(&["404"])
            .counts("battlescope_characters_verified_total{success}", 5)
            .after(|cast| remembered(cast, "affiliation_refuses")),
        case("an old id that has left")
            .bend(|cast| {
                cast.show_subject(|subject| {
                    (subject.state, subject.corporation_id) = (CharacterState::Old, STRANGERS);
                });
            })
            .errors(&["404"])
            // There is one source only, and it does not confirm itself; the same answer in the next run does.
            .marks(Mark::Attempted, &SUBJECT)
            .loses_later(&BOTH)
            .counts("battlescope_sessions_invalidated_total{disallowed}", 1),
    ]
}

/// The subject's id is remembered for this reason, and not for ever.
fn remembered(cast: &Cast, reason: &'static str) -> crate::table::Checks {
    let pool = cast.stage.db.pool().clone();
    Box::pin(async move {
        let sql = "-- weather::remembered
            SELECT eve_id, reason, expires_at > now() + interval '1 day' AND expires_at < now() + interval '31 days'
            FROM unresolvable_ids";
        let found: Vec<(i64, String, bool)> = sqlx::query_as(sql).fetch_all(&pool).await.unwrap();
        assert_eq!(found, [(subject(), reason.to_owned(), true)]);
    })
}

/// Limits, in every form in which ESI tells them.
fn about_limits() -> Vec<Case> {
    let limited = |seconds, form| Kind::RateLimited { retry_after_seconds: seconds, form };
    let unfinished = |case: Case| case.env("MAX_RUNTIME", "8s");
    vec![
        case("420 and a window that ends soon")
            .fault(Fault::on(Route::Affiliation, Kind::ErrorLimited { reset_seconds: Some(1) }).first(1))
            .errors(&["420"]),
        unfinished(case("420 and a long window"))
            .fault(Fault::on(Route::Affiliation, Kind::ErrorLimited { reset_seconds: None }).first(1))
            .untouched()
            .errors(&["420"]),
        case("429 with seconds")
            .fault(Fault::on(Route::Affiliation, limited(1, RetryAfterForm::Seconds)).first(1))
            .errors(&["429"]),
        case("429 with a date")
            .fault(Fault::on(Route::Affiliation, limited(1, RetryAfterForm::HttpDate)).first(1))
            .errors(&["429"]),
        unfinished(case("429 for ten minutes"))
            .fault(Fault::on(Route::Affiliation, limited(600, RetryAfterForm::Seconds)))
            .untouched()
            .errors(&["429"]),
        unfinished(case("429 for ten minutes by date"))
            .fault(Fault::on(Route::Affiliation, limited(600, RetryAfterForm::HttpDate)))
            .untouched()
            .errors(&["429"]),
        unfinished(case("429 when it is about the session"))
            .fault(Fault::on(Route::Character, limited(600, RetryAfterForm::Seconds)))
            .marks(Mark::Attempted, &LEAVER)
            .loses(&[])
            .errors(&["429"]),
        case("a throttle in disguise, once")
            .fault(Fault::on(Route::Affiliation, Kind::DisguisedThrottle).first(1))
            .errors(&["500"]),
        unfinished(case("a throttle in disguise"))
            .fault(Fault::on(Route::Affiliation, Kind::DisguisedThrottle))
            .untouched()
            .errors(&["500"]),
        unfinished(case("a token bucket that runs out"))
            .env("BATCH_SIZE", "1")
            .env("ESI_CONCURRENCY", "1")
            .bend(|cast| {
                let bucket = TokenBucket {
                    group: "affiliation".into(),
                    routes: vec![Route::Affiliation],
                    tokens: 12,
                    window_seconds: 60,
                };
                cast.stage.sim.settings(|settings| settings.token_buckets = vec![bucket]);
            })
            .mend(|cast| cast.stage.sim.settings(|settings| settings.token_buckets.clear()))
            .marks(Mark::Untouched, &SUBJECT),
        unfinished(case("a small error limit"))
            .bend(|cast| {
                cast.stage.sim.settings(|settings| settings.error_limit = 21);
                cast.show_subject(|subject| subject.state = CharacterState::Old);
            })
            .mend(|cast| cast.stage.sim.settings(|settings| settings.error_limit = 100))
            .untouched()
            .errors(&["404"]),
    ]
}

/// Answers that do not come, or not whole.
fn about_failures() -> Vec<Case> {
    let everywhere = [
        ("500", Kind::InternalError, "500"),
        ("502 in HTML", Kind::BadGateway, "502"),
        ("503", Kind::Unavailable, "503"),
        ("504", Kind::GatewayTimeout, "504"),
        ("cut before the headers", Kind::CutBeforeHeaders, "connection"),
        ("cut in the middle of the body", Kind::CutMidBody, "body"),
        ("half the JSON", Kind::TruncatedJson, "body"),
    ];
    let mut cases = Vec::new();
    for (name, kind, code) in everywhere {
        let code: &[&'static str] = &[code];
        let titled = |what: &str| case(String::leak(format!("{name} {what}")));
        cases.push(titled("from everything").fault(Fault::on(Scope::AllEsi, kind.clone())).down().errors(code));
        cases.push(
            titled("from affiliation").fault(Fault::on(Route::Affiliation, kind.clone())).all_unknown().errors(code),
        );
        cases.push(titled("twice").fault(Fault::on(Route::Affiliation, kind.clone()).first(2)).errors(code));
        cases.push(
            titled("from the second source")
                .fault(Fault::on(Route::Character, kind))
                .marks(Mark::Attempted, &LEAVER)
                .loses(&[])
                .counts("rollcall_verifier_confirmations_total{unavailable}", 1)
                .counts("rollcall_verifier_unknown_total{unconfirmed}", 1)
                .errors(code),
        );
    }
    let hang = |name, scope: Scope| {
        case(name).env("MAX_RUNTIME", "8s").fault(Fault::on(scope, Kind::Hang)).errors(&["timeout"])
    };
    cases.extend([
        case("slow").fault(Fault::on(Scope::AllEsi, Kind::Slow { ms: 400 })),
        hang("nothing answers", Scope::AllEsi).down(),
        hang("affiliation hangs", Route::Affiliation.into()).down().any_errors(),
        hang("the second source hangs", Route::Character.into()).marks(Mark::Attempted, &LEAVER).loses(&[]),
        hang("the corporation hangs", Route::Corporation.into()).marks(Mark::Attempted, &LEAVER).loses(&[]),
        case("no names")
            .fault(Fault::on(Route::Names, Kind::Unavailable))
            .errors(&["503"])
            .after(|cast| named(cast, None)),
        case("names that are missing")
            .fault(Fault::on(Route::Names, Kind::MissingRows { ids: vec![] }))
            .after(|cast| named(cast, None)),
    ]);
    cases
}

/// Whether the mover has got the name of the new corporation.
fn named(cast: &Cast, name: Option<&'static str>) -> crate::table::Checks {
    let community = cast.stage.community.clone();
    Box::pin(async move {
        let row = community.eve(Cast::id(Who::Mover)).await;
        assert_eq!((row.corporation_id, row.corporation_name.as_deref()), (Some(ALLIED), name));
    })
}

/// Answers that are whole, and not the whole truth.
fn about_answers() -> Vec<Case> {
    let stale = |route: Route, who, corporation_id| {
        let kind = Kind::StaleOrganisation { character_id: Cast::id(who), corporation_id, alliance_id: None };
        Fault::on(route, kind)
    };
    let disputed = |case: Case, who: &[Who]| {
        case.marks(Mark::Attempted, who)
            .counts("rollcall_verifier_confirmations_total{disputed}", 1)
            .counts("rollcall_verifier_unknown_total{disputed}", 1)
    };
    vec![
        case("fields nobody knows").fault(Fault::on(Scope::AllEsi, Kind::ExtraFields)),
        case("a missing row")
            .fault(Fault::on(Route::Affiliation, Kind::MissingRows { ids: vec![subject()] }))
            .marks(Mark::Attempted, &SUBJECT)
            .counts("rollcall_verifier_unknown_total{missing}", 1)
            .counts("battlescope_characters_verified_total{skipped}", 1),
        case("no row at all")
            .fault(Fault::on(Route::Affiliation, Kind::MissingRows { ids: vec![] }))
            .all_unknown()
            .counts("rollcall_verifier_unknown_total{missing}", 5),
        disputed(case("affiliation is ahead of the character, wrongly"), &SUBJECT).fault(stale(
            Route::Affiliation,
            Who::Subject,
            STRANGERS,
        )),
        disputed(case("the character's sheet is stale"), &LEAVER)
            .fault(stale(Route::Character, Who::Leaver, CORPORATION))
            .loses(&[]),
        disputed(case("the alliance lags behind the corporation"), &SUBJECT)
            .bend(|cast| {
                cast.show_subject(|subject| {
                    (subject.corporation_id, subject.alliance) = (ALLIED, AllianceShown::None);
                });
            })
            .mend(|cast| cast.show_subject(|subject| subject.alliance = AllianceShown::OfCorporation)),
        case("404 Not found from everything").fault(Fault::on(Scope::AllEsi, Kind::NotFound)).down().errors(&["404"]),
        case("404 Not found from affiliation")
            .fault(Fault::on(Route::Affiliation, Kind::NotFound))
            .down()
            .errors(&["404"]),
        case("404 Not found from the second source")
            .fault(Fault::on(Route::Character, Kind::NotFound))
            .marks(Mark::Attempted, &LEAVER)
            .loses(&[])
            .counts("rollcall_verifier_confirmations_total{unavailable}", 1)
            .errors(&["404"]),
        case("affiliation refuses everybody")
            .fault(Fault::on(Route::Affiliation, Kind::CharacterNotFound))
            .down()
            .errors(&["404"])
            .after(nobody_remembered),
        case("VIP mode")
            .bend(|cast| cast.stage.sim.settings(|settings| settings.vip = true))
            .mend(|cast| cast.stage.sim.settings(|settings| settings.vip = false))
            .down(),
    ]
}

/// The daily downtime, by the simulated clock.
fn about_downtime() -> Vec<Case> {
    let downtime = Kind::Downtime { minutes: 10, not_found_minutes: 10 };
    vec![
        case("the daily downtime")
            .bend(|cast| set_eleven(cast, 5))
            .fault(Fault::on(Scope::AllEsi, downtime.clone()))
            .down()
            .errors(&["503"]),
        case("just after the daily downtime")
            .bend(|cast| set_eleven(cast, 12))
            .fault(Fault::on(Scope::AllEsi, downtime.clone()))
            .down()
            .errors(&["404"]),
        case("affiliation in the daily downtime")
            .bend(|cast| set_eleven(cast, 5))
            .fault(Fault::on(Route::Affiliation, downtime))
            .down()
            .errors(&["503"]),
        case("a 404 just after the daily downtime proves nothing")
            .bend(|cast| set_eleven(cast, 25))
            .nobody_knows_the_subject()
            .down()
            .errors(&["404"])
            .after(nobody_remembered),
        case("a second source in the daily downtime")
            .bend(|cast| set_eleven(cast, 25))
            .fault(Fault::on(Route::Character, Kind::CharacterNotFound))
            .marks(Mark::Attempted, &LEAVER)
            .loses(&[])
            .counts("rollcall_verifier_confirmations_total{unavailable}", 1)
            .errors(&["404"]),
    ]
}

fn set_eleven(cast: &Cast, minute: u8) {
    let day: OffsetDateTime = cast.stage.sim.now();
    cast.stage.sim.set_time(day.replace_time(Time::from_hms(11, minute, 0).unwrap()));
}

fn nobody_remembered(cast: &Cast) -> crate::table::Checks {
    let pool = cast.stage.db.pool().clone();
    Box::pin(async move {
        let sql = "-- weather::nobody_remembered\nSELECT count(*) FROM unresolvable_ids";
        let found: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
        assert_eq!(found, 0, "no tombstone on such an answer");
    })
}
