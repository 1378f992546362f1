//! What a lost session leaves behind: one row in the audit log and one event, and a mark.

use harness::{ALLIANCE, STRANGERS, SessionSpec, newcomer};
use serde_json::json;
use sessions::{EpochMillis, SessionError};
use suites::{ALLIED, Stage, field};

use crate::support::{client, lines, login, now, verify};

#[tokio::test]
async fn each_removed_session_leaves_one_audit_row_and_one_event_with_all_that_matters() {
    let stage = Stage::new().await;
    let newcomer = newcomer("leaver").corporation(ALLIED).alliance(ALLIANCE).verified_minutes_ago(60);
    let member = stage.add_in(STRANGERS, newcomer.session().session()).await;
    let hashes: Vec<String> =
        stage.community.sessions(member.account_id).await.into_iter().map(|row| row.hash).collect();
    let run = verify(&stage).await;
    assert_eq!(stage.community.sessions(member.account_id).await, []);

    let (audit, events) = (stage.community.audit().await, stage.community.events().await);
    assert_eq!((audit.len(), events.len()), (2, 2));
    let mut told = Vec::new();
    for (row, event) in audit.iter().zip(&events) {
        assert_eq!((row.action.as_str(), row.actor_id), ("session.invalidated", None));
        assert_eq!(row.brand_id, Some(member.brand_id));
        assert_eq!(row.account_id, Some(member.account_id));
        assert_eq!(row.character_id, Some(member.character_id));
        let details = &row.details;
        let expected = json!({
            "eve_character_id": member.eve_id, "corporation_id": STRANGERS, "alliance_id": null,
            "rule": "not_a_member", "reason": "disallowed", "acted_as": member.character_id, "client_type": "web",
            "session": details["session"], "invalidation_id": details["invalidation_id"],
        });
        assert_eq!(*details, expected);
        told.push(details["session"].as_str().unwrap().to_owned());

        assert_eq!((event.event_type.as_str(), event.aggregate_type.as_str()), ("SESSION_INVALIDATED", "account"));
        assert_eq!((&event.aggregate_id, event.brand_id), (&member.account_id.to_string(), member.brand_id));
        let mut payload = expected;
        payload["account_id"] = json!(member.account_id);
        payload["character_id"] = json!(member.character_id);
        payload["brand_id"] = json!(member.brand_id);
        assert_eq!(event.payload, payload);
    }
    told.sort();
    assert_eq!(told, hashes);
    assert_eq!(stage.community.pending().await, []);
    let log = lines(&run, "session taken");
    assert_eq!(log.len(), 2);
    assert_eq!(field(log[0], "account_id"), Some(&json!(member.account_id)));
    assert!(hashes.iter().all(|hash| !run.stderr.contains(hash)), "a log names no session: {run}");

    verify(&stage).await;
    assert_eq!((stage.community.audit().await, stage.community.events().await), (audit, events), "once");
}

#[tokio::test]
async fn who_had_no_session_leaves_no_trace_but_the_verdict() {
    let stage = Stage::new().await;
    let ended = SessionSpec { minutes_left: 0, ..SessionSpec::default() };
    let member = stage.add_in(STRANGERS, newcomer("leaver").verified_minutes_ago(60).session_like(ended)).await;
    verify(&stage).await;
    assert_eq!(stage.community.eve(member.eve_id).await.verdict.as_deref(), Some("disallowed"));
    assert!(stage.community.audit().await.is_empty() && stage.community.events().await.is_empty());
    assert_eq!(stage.community.candidates().await, []);
}

#[tokio::test]
async fn a_session_without_a_time_to_live_is_found_all_the_same() {
    let stage = Stage::new().await;
    let by_hand = SessionSpec { has_ttl: false, ..SessionSpec::default() };
    let member = stage.add_in(STRANGERS, newcomer("leaver").verified_minutes_ago(60).session_like(by_hand)).await;
    verify(&stage).await;
    assert!(!stage.community.has_session(member.session_token()).await);
    assert_eq!(stage.community.audit().await.len(), 1);
}

#[tokio::test]
async fn a_later_login_on_an_older_approval_is_refused_and_one_on_a_younger_passes() {
    let stage = Stage::new().await;
    let with = stage.add_in(STRANGERS, newcomer("with a session").verified_minutes_ago(60).session()).await;
    let without = stage.add_in(STRANGERS, newcomer("without").verified_minutes_ago(60)).await;
    let before = now(&stage.db).await;
    verify(&stage).await;
    let after = now(&stage.db).await;
    let sessions = client(&stage.db).await;
    for member in [&with, &without] {
        let refused = sessions.open(&login(member, before)).await;
        assert!(matches!(refused, Err(SessionError::Refused { .. })), "{}: {refused:?}", member.name);
        let token = sessions.open(&login(member, after)).await.expect("approved after the observation");
        assert!(sessions.validate(token.expose()).await.unwrap().is_some());
    }
    // Act-as is held to the same mark.
    let mut account = login(&with, after);
    account.character_id = None;
    let token = sessions.open(&account).await.unwrap();
    let refused = sessions.act_as(token.expose(), login(&with, before).character_id, before).await;
    assert!(matches!(refused, Err(SessionError::Refused { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_mark_owed_by_a_run_that_found_an_outage_is_set_by_the_next() {
    let stage = Stage::new().await;
    let member = stage.add_in(STRANGERS, newcomer("without a session").verified_minutes_ago(60)).await;
    let missing = stage.add(newcomer("missing")).await;
    let before = now(&stage.db).await;
    let fault = esi_simulator::Kind::MissingRows { ids: vec![missing.eve_id] };
    stage.sim.faults().add(esi_simulator::Fault::on(esi_simulator::Route::Affiliation, fault));
    crate::support::ends(&stage.verifier().env("MAX_UNKNOWN_RATIO", "0.1"), 0).await;
    assert!(stage.community.marks(member.account_id).await.is_empty());
    stage.sim.faults().clear();
    verify(&stage).await;
    let refused = client(&stage.db).await.open(&login(&member, before)).await;
    assert!(matches!(refused, Err(SessionError::Refused { .. })), "{refused:?}");
    assert_eq!(stage.community.candidates().await, []);
}

#[tokio::test]
async fn a_session_approved_after_the_observation_survives() {
    let stage = Stage::new().await;
    let younger = SessionSpec { approved_minutes_ago: -5, ..SessionSpec::default() };
    let member =
        stage.add_in(STRANGERS, newcomer("leaver").verified_minutes_ago(60).session_like(younger).session()).await;
    verify(&stage).await;
    assert!(stage.community.has_session(&member.session_tokens[0]).await);
    assert!(!stage.community.has_session(&member.session_tokens[1]).await);
    assert_eq!(stage.community.audit().await.len(), 1);
    let EpochMillis(now) = now(&stage.db).await;
    let mark = stage.community.marks(member.account_id).await[&member.character_id.to_string()];
    assert!((now - 30_000..=now).contains(&mark), "the mark is the observation's time");
}
