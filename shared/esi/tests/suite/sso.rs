//! Tokens: refreshing, rotation, and whom an access token is believed to be from.

use std::{
    fmt::Write as _,
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use esi::{Esi, SsoError};
use esi_simulator::{Audience, BadToken, Fault, Issuer, Kind, RetryAfterForm, Route, Simulator};
use identity::ids::EveCharacterId;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use runtime::Secret;
use tokio::time::{Instant, timeout};

use crate::support::{Bench, FIRST, nth, within};

fn token(bench: &Bench) -> Secret {
    Secret::new(bench.simulator.world(|world| world.issue_refresh_token(FIRST)))
}

async fn owner(esi: &Esi, refresh_token: &Secret) -> Result<String, SsoError> {
    let refreshed = esi.refresh(nth(0), refresh_token, within(20)).await?;
    esi.owner(nth(0), &refreshed.access_token, within(20)).await.map(|owner| owner.0)
}

#[tokio::test]
async fn a_token_is_refreshed_and_its_owner_read_whatever_the_form_of_the_claims() {
    let bench = Bench::start();
    let esi = bench.esi().await;
    let refresh_token = token(&bench);
    for issuer in [Issuer::Host, Issuer::Url, Issuer::UrlWithSlash] {
        for audience in [Audience::List, Audience::Single] {
            bench.simulator.settings(|settings| (settings.issuer, settings.audience) = (issuer, audience));
            assert_eq!(owner(&esi, &refresh_token).await, Ok(format!("owner-{FIRST}")), "{issuer:?} {audience:?}");
        }
    }
    assert_eq!(bench.simulator.counts().arrived(Route::Jwks), 1, "keys are kept");
    bench.well_behaved();
}

#[tokio::test]
async fn a_rotated_token_is_handed_over_and_an_unchanged_one_is_not() {
    let bench = Bench::start();
    let esi = bench.esi().await;
    let first = token(&bench);
    assert!(esi.refresh(nth(0), &first, within(20)).await.unwrap().new_refresh_token.is_none());
    bench.simulator.settings(|settings| settings.rotate_refresh_tokens = true);
    let second = esi.refresh(nth(0), &first, within(20)).await.unwrap().new_refresh_token.unwrap();
    assert_eq!(esi.refresh(nth(0), &first, within(20)).await.unwrap_err(), SsoError::InvalidGrant);
    // Even when no access token comes with it, it must not be lost.
    bench.simulator.faults().add(Fault::on(Route::Token, Kind::NoAccessToken));
    let refreshed = esi.refresh(nth(0), &second, within(20)).await.unwrap();
    assert!(refreshed.new_refresh_token.is_some());
    assert_eq!(esi.owner(nth(0), &refreshed.access_token, within(20)).await, Err(SsoError::NoAccessToken));
}

#[tokio::test]
async fn refusals_are_told_apart_and_not_retried() {
    let bench = Bench::start();
    let esi = bench.esi().await;
    let refresh_token = token(&bench);
    for (kind, expected) in [
        (Kind::InvalidGrant, "invalid_grant"),
        (Kind::InvalidClient, "application"),
        (Kind::NoAccessToken, "no access token"),
    ] {
        bench.simulator.faults().clear();
        bench.simulator.clear_requests();
        bench.simulator.faults().add(Fault::on(Route::Token, kind));
        let error = owner(&esi, &refresh_token).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(bench.simulator.counts().arrived(Route::Token), 1);
    }
    let stranger = bench.esi_with(|settings, _| settings.client = None).await;
    assert!(matches!(owner(&stranger, &refresh_token).await, Err(SsoError::InvalidClient(_))));
}

#[tokio::test]
async fn trouble_is_retried_twice_and_then_nothing_is_known() {
    let bench = Bench::start();
    let esi = bench.esi().await;
    let refresh_token = token(&bench);
    bench.simulator.faults().add(Fault::on(Route::Token, Kind::SsoUnavailable).first(2));
    assert_eq!(owner(&esi, &refresh_token).await, Ok(format!("owner-{FIRST}")));
    bench.simulator.faults().clear();
    bench.simulator.clear_requests();
    bench.simulator.faults().add(Fault::on(Route::Token, Kind::SsoUnavailable));
    assert!(matches!(owner(&esi, &refresh_token).await, Err(SsoError::Unavailable(_))));
    assert_eq!(bench.simulator.counts().arrived(Route::Token), 3);
}

#[tokio::test]
async fn invalid_grant_after_a_lost_answer_does_not_count_as_revoked() {
    let bench = Bench::start();
    bench.simulator.settings(|settings| settings.rotate_refresh_tokens = true);
    bench.simulator.faults().add(Fault::on(Route::Token, Kind::CutMidBody).first(1));
    let error = bench.esi().await.refresh(nth(0), &token(&bench), within(20)).await.unwrap_err();
    assert!(matches!(error, SsoError::Unavailable(_)), "{error}");
    assert_eq!(bench.simulator.counts().answered(Route::Token, 400), 1);
}

#[tokio::test]
async fn an_access_token_that_is_not_as_it_must_be_is_refused() {
    let bench = Bench::start();
    let esi = bench.esi().await;
    let refresh_token = token(&bench);
    for (bad, expected) in [
        (BadToken::Garbage, "not a signed token"),
        (BadToken::WrongSignature, "wrong signature"),
        (BadToken::WrongSubject, "another character"),
        (BadToken::WrongIssuer, "another issuer"),
        (BadToken::WrongAudience, "another application"),
        (BadToken::Expired, "expired"),
    ] {
        bench.simulator.faults().clear();
        bench.simulator.faults().add(Fault::on(Route::Token, Kind::BadToken(bad)));
        match owner(&esi, &refresh_token).await {
            Err(SsoError::BadAccessToken(text)) => assert!(text.contains(expected), "{bad:?}: {text}"),
            other => panic!("{bad:?}: {other:?}"),
        }
    }
}

/// A token with claims that are as they must be, signed as `header` says.
fn forged(header: &Header, key: &EncodingKey) -> Secret {
    let claims = serde_json::json!({
        "sub": format!("CHARACTER:EVE:{FIRST}"), "iss": "https://login.eveonline.com",
        "aud": ["sim-client", "EVE Online"], "exp": 4_000_000_000_i64, "owner": "mine",
    });
    Secret::new(encode(header, &claims, key).unwrap())
}

#[tokio::test]
async fn another_algorithm_or_an_unknown_key_is_refused() {
    let bench = Bench::start();
    let esi = bench.esi().await;
    let kid = Some("JWT-Signature-Key".to_owned());
    let symmetric = forged(&Header { kid, ..Header::new(Algorithm::HS256) }, &EncodingKey::from_secret(b"public key"));
    let refused = |text: &str| Err(SsoError::BadAccessToken(text.to_owned()));
    assert_eq!(esi.owner(nth(0), &symmetric, within(20)).await, refused("not signed with RS256"));
    let unsigned = "eyJhbGciOiJub25lIn0.e30.";
    assert_eq!(esi.owner(nth(0), &Secret::new(unsigned), within(20)).await, refused("not a signed token"));

    // The machine's own key, under an id that SSO does not know: the set is fetched once more, and not at each token.
    owner(&esi, &token(&bench)).await.unwrap();
    let key =
        EncodingKey::from_rsa_pem(include_bytes!("../../../../tests/esi-simulator/src/keys/foreign.pem")).unwrap();
    let unknown = forged(&Header { kid: Some("new".into()), ..Header::new(Algorithm::RS256) }, &key);
    for _ in 0..3 {
        assert_eq!(esi.owner(nth(0), &unknown, within(20)).await, refused("unknown key id"));
    }
    assert_eq!(bench.simulator.counts().arrived(Route::Jwks), 2);
    let without = forged(&Header::new(Algorithm::RS256), &key);
    assert_eq!(esi.owner(nth(0), &without, within(20)).await, refused("no key id"));
}

#[tokio::test]
async fn a_changed_owner_is_seen() {
    let bench = Bench::start();
    let esi = bench.esi().await;
    let refresh_token = token(&bench);
    bench.simulator.faults().add(Fault::on(Route::Token, Kind::OwnerChanged { owner_hash: "buyer".into() }));
    assert_eq!(owner(&esi, &refresh_token).await.as_deref(), Ok("buyer"));
}

/// Collects what this process logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_in_any_error_or_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
    let subscriber = subscriber.with_writer(move || writer.clone()).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let bench = Bench::start();
    let esi = bench.esi().await;
    let refresh_token = token(&bench);
    let mut shown = format!("{esi:?}");
    let kinds = [
        Kind::InvalidGrant,
        Kind::InvalidClient,
        Kind::SsoUnavailable,
        Kind::NoAccessToken,
        Kind::CutMidBody,
        Kind::TruncatedJson,
        Kind::BadToken(BadToken::Garbage),
        Kind::BadToken(BadToken::WrongSubject),
    ];
    for kind in kinds {
        bench.simulator.faults().clear();
        bench.simulator.faults().add(Fault::on(Route::Token, kind));
        let error = owner(&esi, &refresh_token).await.unwrap_err();
        write!(shown, "{error} {error:?}").unwrap();
    }
    bench.simulator.faults().clear();
    write!(shown, "{:?}", esi.refresh(nth(0), &refresh_token, within(20)).await).unwrap();
    unreachable_sso(&bench, &refresh_token, &mut shown).await;
    shown += &String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(shown.contains("ESI error"), "something was logged");
    for secret in [refresh_token.expose(), "sim-secret", "this-is-not-a-jwt", "eyJ"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

async fn unreachable_sso(bench: &Bench, refresh_token: &Secret, shown: &mut String) {
    let address = Simulator::start(esi_simulator::World::default()).sso_url();
    let esi = bench.esi_with(|settings, _| settings.sso_url = address.parse().unwrap()).await;
    let error = esi.refresh(EveCharacterId(1), refresh_token, within(3)).await.unwrap_err();
    write!(shown, "{error} {error:?}").unwrap();
}

/// Ends in the test's time, though the endpoint hangs.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(8), work).await.expect("it does not wait for the key set")
}

#[tokio::test]
async fn a_key_set_that_hangs_holds_up_one_call_and_no_token_is_exchanged() {
    let bench = Bench::start();
    bench.simulator.settings(|settings| settings.rotate_refresh_tokens = true);
    bench.simulator.faults().add(Fault::on(Route::Jwks, Kind::Hang));
    let esi = bench.esi().await;
    let refresh_token = token(&bench);
    let refresh = || esi.refresh(nth(0), &refresh_token, within(1));
    let (a, b, c) = soon(Box::pin(async { tokio::join!(refresh(), refresh(), refresh()) })).await;
    let later = soon(esi.refresh(nth(0), &refresh_token, within(60))).await;
    for result in [a, b, c, later] {
        assert!(matches!(result, Err(SsoError::Unavailable(_))), "{result:?}");
    }
    let kid = Some("JWT-Signature-Key".to_owned());
    let key =
        EncodingKey::from_rsa_pem(include_bytes!("../../../../tests/esi-simulator/src/keys/foreign.pem")).unwrap();
    let access_token = forged(&Header { kid, ..Header::new(Algorithm::RS256) }, &key);
    let owner = soon(esi.owner(nth(0), &access_token, within(60))).await;
    assert!(matches!(owner, Err(SsoError::Unavailable(_))), "{owner:?}");
    assert_eq!(bench.simulator.counts().arrived(Route::Jwks), 1);
    assert_eq!(bench.simulator.counts().arrived(Route::Token), 0);
}

#[tokio::test]
async fn the_deadline_ends_the_fetch_of_keys_for_an_owner() {
    let bench = Bench::start();
    bench.simulator.faults().add(Fault::on(Route::Jwks, Kind::Hang));
    let key =
        EncodingKey::from_rsa_pem(include_bytes!("../../../../tests/esi-simulator/src/keys/foreign.pem")).unwrap();
    let access_token = forged(&Header { kid: Some("any".into()), ..Header::new(Algorithm::RS256) }, &key);
    let esi = bench.esi().await;
    let owner = soon(esi.owner(nth(0), &access_token, within(1))).await;
    assert!(matches!(owner, Err(SsoError::Unavailable(_))), "{owner:?}");
}

#[tokio::test]
async fn a_key_set_without_a_key_is_not_fetched_for_every_token() {
    let bench = Bench::start();
    bench.simulator.faults().add(Fault::on(Route::Jwks, Kind::TruncatedJson));
    let esi = bench.esi().await;
    for _ in 0..3 {
        assert!(matches!(owner(&esi, &token(&bench)).await, Err(SsoError::Unavailable(_))));
    }
    assert_eq!(bench.simulator.counts().arrived(Route::Jwks), 1);
    assert_eq!(bench.simulator.counts().arrived(Route::Token), 0);
}

#[tokio::test]
async fn a_short_wait_that_sso_asks_for_is_waited_and_a_long_one_is_not() {
    let bench = Bench::start();
    let esi = bench.esi().await;
    let refresh_token = token(&bench);
    let limited = |seconds| Kind::RateLimited { retry_after_seconds: seconds, form: RetryAfterForm::Seconds };
    bench.simulator.faults().add(Fault::on(Route::Token, limited(2)).first(1));
    let started = Instant::now();
    assert_eq!(owner(&esi, &refresh_token).await, Ok(format!("owner-{FIRST}")));
    assert!(started.elapsed() >= Duration::from_secs(2));
    assert_eq!(bench.simulator.counts().arrived(Route::Token), 2);
    for (seconds, deadline) in [(600, within(60)), (5, within(3))] {
        bench.simulator.faults().clear();
        bench.simulator.clear_requests();
        bench.simulator.faults().add(Fault::on(Route::Token, limited(seconds)));
        let result = soon(esi.refresh(nth(0), &refresh_token, deadline)).await;
        assert!(matches!(result, Err(SsoError::Unavailable(_))), "{result:?}");
        assert_eq!(bench.simulator.counts().arrived(Route::Token), 1);
    }
}
