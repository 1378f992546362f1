//! The faults of the SSO, case by case: whatever it answers, public affiliation decides, and only a changed owner costs
//! a session.

use esi_simulator::{BadToken, Fault, Kind, Route, Scope};

use crate::{
    cast::{Cast, Who, refresh_token},
    table::{Case, Checks, case, play},
};

#[tokio::test]
async fn whatever_the_sso_answers_only_a_changed_owner_costs_a_session() {
    play(cases()).await;
}

fn cases() -> Vec<Case> {
    let subject = Cast::id(Who::Subject);
    let checks = |name, kind| case(name).with_tokens().fault(Fault::on(Route::Token, kind).containing([subject]));
    let unusable = |case: Case| {
        case.counts("rollcall_verifier_token_checks_total{unavailable}", 1)
            .counts("rollcall_verifier_token_checks_total{valid}", 1)
    };
    let both = [Who::Leaver, Who::Subject];
    let mut cases = vec![
        case("tokens in fair weather").with_tokens().counts("rollcall_verifier_token_checks_total{valid}", 2),
        case("tokens that rotate")
            .with_tokens()
            .bend(|cast| cast.stage.sim.settings(|settings| settings.rotate_refresh_tokens = true))
            .counts("rollcall_verifier_token_checks_total{rotated}", 2)
            .after(the_stored_tokens_are_good),
        checks("a changed owner", Kind::OwnerChanged { owner_hash: "somebody else".into() })
            .loses(&both)
            .loses_later(&both)
            .counts("battlescope_sessions_invalidated_total{transferred}", 1)
            .counts("rollcall_verifier_token_checks_total{transferred}", 1),
        checks("invalid_grant", Kind::InvalidGrant)
            .errors(&["400"])
            .counts("rollcall_verifier_token_checks_total{invalid_grant}", 1)
            .counts("rollcall_verifier_token_checks_total{valid}", 1),
        checks("invalid_client", Kind::InvalidClient).ends(78, "failed").untouched().errors(&["401"]),
        unusable(checks("no access token", Kind::NoAccessToken)),
        case("the SSO is down")
            .with_tokens()
            .fault(Fault::on(Scope::Sso, Kind::SsoUnavailable))
            .errors(&["503"])
            .counts("rollcall_verifier_token_checks_total{unavailable}", 2),
        case("the key set is down")
            .with_tokens()
            .fault(Fault::on(Route::Jwks, Kind::BadGateway))
            .errors(&["502"])
            .counts("rollcall_verifier_token_checks_total{unavailable}", 2),
    ];
    for (name, bad) in [
        ("garbage for an access token", BadToken::Garbage),
        ("a foreign signature", BadToken::WrongSignature),
        ("the access token of somebody else", BadToken::WrongSubject),
        ("a strange issuer", BadToken::WrongIssuer),
        ("the access token of another application", BadToken::WrongAudience),
        ("an expired access token", BadToken::Expired),
    ] {
        cases.push(unusable(checks(name, Kind::BadToken(bad))));
    }
    cases
}

/// SSO knows the tokens that are stored, and no longer those before.
fn the_stored_tokens_are_good(cast: &Cast) -> Checks {
    let community = cast.stage.community.clone();
    let world = cast.stage.sim.world(|world| world.clone());
    Box::pin(async move {
        for who in [Who::Stayer, Who::Subject] {
            assert_eq!(world.refresh_token_holder(&refresh_token(who)), None);
            let stored = community.refresh_token(Cast::id(who)).await;
            assert_eq!(world.refresh_token_holder(&stored), Some(Cast::id(who)));
        }
    })
}
