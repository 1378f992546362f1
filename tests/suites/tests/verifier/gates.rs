//! Which sessions a character takes along.

use harness::{Member, STRANGERS, SessionSpec, newcomer};
use suites::Stage;

use crate::support::{ends, verify};

struct Account {
    /// Its first and primary character, with a session that acts as it and one that acts as nobody.
    primary: Member,
    /// Another, with a session that acts as it.
    alt: Member,
}

async fn account(stage: &Stage, name: &str) -> Account {
    let of_the_account = SessionSpec { is_acting: false, ..SessionSpec::default() };
    let newcomer_ = newcomer(name).verified_minutes_ago(60).session().session_like(of_the_account);
    let primary = stage.add(newcomer_).await;
    let alt = newcomer(format!("{name}'s alt")).alt_of(&primary).verified_minutes_ago(60).session();
    Account { alt: stage.add(alt).await, primary }
}

/// Whether the sessions live that act as the primary, as nobody, and as the alt.
async fn alive(stage: &Stage, account: &Account) -> [bool; 3] {
    let [acting, nobody] = account.primary.session_tokens.as_slice() else { panic!("two sessions") };
    let community = &stage.community;
    [
        community.has_session(acting).await,
        community.has_session(nobody).await,
        community.has_session(account.alt.session_token()).await,
    ]
}

#[tokio::test]
async fn by_default_only_sessions_that_act_as_the_character_go() {
    let stage = Stage::new().await;
    let (one, two) = (account(&stage, "one").await, account(&stage, "two").await);
    stage.show(one.primary.eve_id, STRANGERS);
    stage.show(two.alt.eve_id, STRANGERS);
    verify(&stage).await;
    assert_eq!(alive(&stage, &one).await, [false, true, true]);
    assert_eq!(alive(&stage, &two).await, [true, true, false]);
    assert_eq!(stage.community.audit().await.len(), 2);
}

#[tokio::test]
async fn with_the_gate_any_every_character_takes_all_sessions_of_its_account() {
    let stage = Stage::new().await;
    let (one, two) = (account(&stage, "one").await, account(&stage, "two").await);
    stage.show(one.alt.eve_id, STRANGERS);
    ends(&stage.verifier().env("GATE", "any"), 0).await;
    assert_eq!(alive(&stage, &one).await, [false, false, false]);
    assert_eq!(alive(&stage, &two).await, [true, true, true]);
    let audit = stage.community.audit().await;
    assert_eq!(audit.len(), 3);
    assert!(audit.iter().all(|row| row.character_id == Some(one.alt.character_id)), "the one that left is named");
    let acted: Vec<_> = audit.iter().filter(|row| row.details["acted_as"].is_null()).collect();
    assert_eq!(acted.len(), 1);
    assert!(stage.community.marks(one.primary.account_id).await.contains_key("*"));
}

#[tokio::test]
async fn with_the_gate_any_two_leavers_of_one_account_are_one_account_and_no_session_is_told_twice() {
    let stage = Stage::new().await;
    let one = account(&stage, "one").await;
    stage.show(one.primary.eve_id, STRANGERS);
    stage.show(one.alt.eve_id, STRANGERS);
    ends(&stage.verifier().env("GATE", "any").env("MAX_INVALIDATIONS_PER_RUN", "1"), 0).await;
    assert_eq!(alive(&stage, &one).await, [false, false, false]);
    assert_eq!((stage.community.audit().await.len(), stage.community.events().await.len()), (3, 3));
}

#[tokio::test]
async fn with_the_gate_primary_only_the_primary_character_counts() {
    let stage = Stage::new().await;
    let (one, two) = (account(&stage, "one").await, account(&stage, "two").await);
    stage.show(one.primary.eve_id, STRANGERS);
    stage.show(two.alt.eve_id, STRANGERS);
    ends(&stage.verifier().env("GATE", "primary"), 0).await;
    assert_eq!(alive(&stage, &one).await, [false, false, false]);
    assert_eq!(alive(&stage, &two).await, [true, true, true]);
    assert_eq!(stage.community.eve(two.alt.eve_id).await.verdict.as_deref(), Some("disallowed"));
}

#[tokio::test]
async fn an_unknown_gate_is_refused() {
    let stage = Stage::new().await;
    let run = ends(&stage.verifier().env("GATE", "everyone"), 78).await;
    assert!(run.stderr.contains("GATE") && run.stderr.contains("acting"), "{run}");
}
