//! What is held back, and what people do with dead letters.

use serde_json::Value;

use crate::support::{Entry, Ground};

/// Gives up the event with this mark, as the drain does after its last try.
async fn kill(ground: &Ground, mark: i64, holds: bool) -> uuid::Uuid {
    ground
        .execute(&format!(
            "WITH gone AS (DELETE FROM outbox_events WHERE (payload ->> 'mark')::bigint = {mark} RETURNING *),
             held AS (
                INSERT INTO outbox_held (aggregate_type, aggregate_id, bucket, seq, attempts, error)
                SELECT aggregate_type, aggregate_id, bucket, seq, 10, 'refused' FROM gone WHERE {holds})
             INSERT INTO outbox_dead_letters (event_id, seq, aggregate_type, aggregate_id, aggregate_hash, brand_id,
                event_type, payload, occurred_at, attempts, error)
             SELECT event_id, seq, aggregate_type, aggregate_id, aggregate_hash, brand_id, event_type, payload,
                occurred_at, 10, 'refused' FROM gone"
        ))
        .await;
    sqlx::query_scalar("SELECT event_id FROM outbox_dead_letters WHERE (payload ->> 'mark')::bigint = $1")
        .bind(mark)
        .fetch_one(ground.db.pool())
        .await
        .unwrap()
}

async fn marks(ground: &Ground) -> Vec<i64> {
    ground.stream().await.iter().map(Entry::mark).collect()
}

/// Everything that a decision could change.
async fn everything(ground: &Ground) -> String {
    let sql = "SELECT json_build_array(
            (SELECT json_agg(dead ORDER BY seq) FROM outbox_dead_letters AS dead),
            (SELECT json_agg(event ORDER BY seq) FROM outbox_events AS event),
            (SELECT json_agg(held ORDER BY seq) FROM outbox_held AS held))::text";
    sqlx::query_scalar(sql).fetch_one(ground.db.pool()).await.unwrap()
}

#[tokio::test]
async fn a_redriven_event_goes_out_before_what_its_aggregate_has_held_back() {
    let ground = Ground::new().await;
    ground.enqueue(&["poor", "poor", "poor"], 1).await;
    ground.enqueue(&["rich"], 10).await;
    let event = kill(&ground, 2, true).await;
    // The first one is out already when the second dies.
    ground.execute("DELETE FROM outbox_events WHERE (payload ->> 'mark')::bigint = 1").await;
    let finished = ground.run().await;
    assert_eq!((marks(&ground).await, ground.backlog().await), (vec![10], 1), "{finished}");
    assert!(finished.last()["note"].as_str().unwrap().contains("1 aggregates are held back"), "{finished}");

    let listed = ground.asked(&["dead-letters", "list", "--output", "json"]).run().await;
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!((listed[0]["event_id"].as_str(), listed[0]["attempts"].as_i64()), (Some(&*event.to_string()), Some(10)));
    let shown = ground.asked(&["dead-letters", "show", &event.to_string()]).run().await;
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["payload"]["mark"], 2, "{shown}");
    let listed_whole =
        ground.asked(&["dead-letters", "show", &event.to_string(), "--output", "json"]).run().await.expect_code(0);
    assert_eq!(serde_json::from_str::<Value>(&listed_whole.stdout).unwrap(), serde_json::json!([shown]));

    let redriven = ground.asked(&["dead-letters", "redrive", "--event", &event.to_string()]).run().await;
    assert_eq!(redriven.code, Some(0), "{redriven}");
    ground.run().await;
    assert_eq!(marks(&ground).await, [10, 2, 3]);
    assert_eq!((ground.backlog().await, ground.number("SELECT count(*) FROM outbox_held").await), (0, 0));
    let again = ground.asked(&["dead-letters", "redrive", "--event", &event.to_string()]).run().await;
    assert_eq!(again.code, Some(65), "{again}");
}

#[tokio::test]
async fn after_a_discard_the_rest_of_the_aggregate_goes_on() {
    let ground = Ground::new().await;
    ground.enqueue(&["poor", "poor", "poor"], 1).await;
    kill(&ground, 1, true).await;
    ground.run().await;
    assert_eq!(marks(&ground).await, Vec::<i64>::new());
    let discarded = ground.asked(&["dead-letters", "discard", "--aggregate", "account:poor"]).run().await;
    assert_eq!(discarded.code, Some(0), "{discarded}");
    ground.run().await;
    assert_eq!(marks(&ground).await, [2, 3]);
    let left = "SELECT (SELECT count(*) FROM outbox_held) + (SELECT count(*) FROM outbox_dead_letters)";
    assert_eq!(ground.number(left).await, 0);
}

#[tokio::test]
async fn a_discard_of_the_last_event_leaves_nothing_held() {
    let ground = Ground::new().await;
    ground.enqueue(&["poor"], 1).await;
    kill(&ground, 1, true).await;
    ground.asked(&["dead-letters", "discard", "--aggregate", "account:poor"]).run().await;
    let finished = ground.run().await;
    assert_eq!(finished.last()["outcome"], "nothing_to_do", "{finished}");
    assert_eq!(ground.number("SELECT count(*) FROM outbox_held").await, 0);
    ground.enqueue(&["poor"], 2).await;
    ground.run().await;
    assert_eq!(marks(&ground).await, [2]);
}

#[tokio::test]
async fn a_worker_notices_a_redrive_by_itself() {
    let ground = Ground::new().await;
    ground.enqueue(&["poor", "poor"], 1001).await;
    let event = kill(&ground, 1001, true).await;
    let _worker = ground.asked(&["worker"]).start();
    ground.fill(500, 20).await;
    let out = async || ground.stream().await.len() == 500;
    harness::wait_until(crate::support::LIMIT, "the others are out", out).await;
    ground.asked(&["dead-letters", "redrive", "--event", &event.to_string()]).run().await;
    harness::wait_until(crate::support::LIMIT, "all are out", async || ground.backlog().await == 0).await;
    ground.assert_whole((1..=500).chain([1001, 1002])).await;
}

#[tokio::test]
async fn an_aggregate_that_goes_on_is_not_let_go_before_all_it_held_back_is_out() {
    let ground = Ground::new().await;
    ground.enqueue(&["poor", "poor", "poor", "poor"], 1001).await;
    let event = kill(&ground, 1001, true).await;
    ground.fill(500, 20).await;
    // The floor is above everything that is held back.
    ground.run().await;
    assert_eq!(ground.stream().await.len(), 500);
    ground.asked(&["dead-letters", "redrive", "--event", &event.to_string()]).run().await;
    for out in 1..=4 {
        // Each run ends after the first event that it meets.
        let finished = ground.drain().env("MAX_EVENTS", "1").run().await;
        assert_eq!(ground.stream().await.len(), 500 + out, "{finished}");
    }
    ground.run().await;
    ground.assert_whole((1..=500).chain(1001..=1004)).await;
    assert_eq!((ground.backlog().await, ground.number("SELECT count(*) FROM outbox_held").await), (0, 0));
}

#[tokio::test]
async fn a_redrive_beside_a_rejection_keeps_its_place() {
    let ground = Ground::new().await;
    ground.enqueue(&["poor", "poor"], 1).await;
    let event = kill(&ground, 1, false).await;
    let later = ground.number("SELECT max(seq) FROM outbox_events").await;
    let bucket = ground.number("SELECT max(bucket)::bigint FROM outbox_events").await;
    // A drain has read the later event, which nothing held back then; meanwhile the earlier one is redriven.
    ground.asked(&["dead-letters", "redrive", "--event", &event.to_string()]).run().await;
    let rejected = store::outbox::held::Rejected {
        aggregate_type: "account",
        aggregate_id: "poor",
        bucket: i16::try_from(bucket).unwrap(),
        seq: later,
        version: 0,
        reason: "refused",
        retry_after: 0.0,
    };
    let mut tx = ground.db.pool().begin().await.unwrap();
    assert_eq!(store::outbox::held::hold(&mut tx, &rejected).await.unwrap(), None);
    tx.commit().await.unwrap();
    ground.run().await;
    ground.assert_whole(1..=2).await;
}

#[tokio::test]
async fn of_two_who_decide_at_once_the_later_one_is_told_that_nothing_is_left() {
    let ground = Ground::new().await;
    for (mark, account, decision) in [(1, "poor", "redrive"), (2, "mean", "discard")] {
        ground.enqueue(&[account], mark).await;
        let event = kill(&ground, mark, true).await;
        let mut earlier = ground.db.pool().begin().await.unwrap();
        sqlx::query("DELETE FROM outbox_dead_letters WHERE event_id = $1")
            .bind(event)
            .execute(&mut *earlier)
            .await
            .unwrap();
        let later = ground.asked(&["dead-letters", decision, "--event", &event.to_string()]).start();
        let waiting = async || ground.is_anybody_waiting().await;
        harness::wait_until(crate::support::LIMIT, "it waits for the earlier one", waiting).await;
        earlier.commit().await.unwrap();
        let told = later.wait(crate::support::LIMIT).await.expect_code(65);
        assert!(!told.stdout.contains(&event.to_string()), "{told}");
    }
    assert_eq!(ground.backlog().await, 0);
}

#[tokio::test]
async fn a_dry_run_of_a_decision_says_what_it_would_do_and_leaves_everything_as_it_is() {
    let ground = Ground::new().await;
    ground.enqueue(&["poor", "poor"], 1).await;
    let event = kill(&ground, 1, true).await.to_string();
    let before = everything(&ground).await;
    for (words, told) in [
        (["dead-letters", "redrive", "--aggregate", "account:poor"], "would redrive"),
        (["dead-letters", "discard", "--event", event.as_str()], "would discard"),
    ] {
        for dry in [ground.asked(&words).arg("--dry-run"), ground.asked(&words).env("DRY_RUN", "true")] {
            let finished = dry.run().await.expect_code(0);
            assert_eq!(finished.stdout.trim_end(), format!("{told} {event} (TESTED of account:poor)"), "{finished}");
            assert_eq!(everything(&ground).await, before, "{finished}");
        }
    }
}

#[tokio::test]
async fn a_list_ends_at_its_own_limit_and_a_wrong_one_is_told_by_its_own_name() {
    let ground = Ground::new().await;
    for (mark, account) in (1..).zip(["a1", "a2", "a3", "a4", "a5"]) {
        ground.enqueue(&[account], mark).await;
        kill(&ground, mark, true).await;
    }
    let alone = ground.asked(&["dead-letters", "list", "--output=json"]);
    let beside = alone.clone().env("STATUS_LIMIT", "7");
    for list in [alone, beside] {
        let finished = list.clone().env("DEAD_LETTERS_LIMIT", "2").run().await.expect_code(0);
        let listed: Vec<Value> = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!(listed.len(), 2, "{finished}");
        let wrong = list.env("DEAD_LETTERS_LIMIT", "zzz").run().await.expect_code(78);
        assert!(wrong.stderr.contains("DEAD_LETTERS_LIMIT: "), "{wrong}");
        assert!(!wrong.stderr.contains("STATUS_LIMIT"), "{wrong}");
    }
}

#[tokio::test]
async fn which_ones_are_meant_can_be_said_in_several_ways_and_the_command_line_wins() {
    let ground = Ground::new().await;
    ground.enqueue(&["a1", "a2"], 1).await;
    let first = kill(&ground, 1, true).await.to_string();
    let second = kill(&ground, 2, true).await.to_string();
    let shows = [
        ground.asked(&["dead-letters", "show", first.as_str()]),
        ground.asked(&["dead-letters", "show", "--event", first.as_str()]),
        ground.asked(&["dead-letters", "show", "--aggregate", "account:a1"]),
        ground.asked(&["dead-letters", "show"]).env("DEAD_LETTERS_EVENT", &first),
    ];
    for show in shows {
        let finished = show.run().await.expect_code(0);
        let shown: Value = serde_json::from_str(&finished.stdout).unwrap();
        let told = (shown["event_id"].as_str(), shown["payload"]["mark"].as_i64());
        assert_eq!(told, (Some(first.as_str()), Some(1)), "{finished}");
    }
    let of_the_first = ground.asked(&["dead-letters", "redrive", "--aggregate", "account:a1"]);
    let redriven = of_the_first.env("DEAD_LETTERS_EVENT", &second).run().await.expect_code(0);
    assert!(redriven.stdout.contains(&first) && !redriven.stdout.contains(&second), "{redriven}");
    assert_eq!(ground.number("SELECT count(*) FROM outbox_dead_letters").await, 1);
    ground.asked(&["dead-letters", "redrive", second.as_str()]).run().await.expect_code(0);
    ground.run().await.expect_code(0);
    ground.assert_whole(1..=2).await;
}

#[tokio::test]
async fn an_earlier_dead_letter_is_not_redriven_past_the_one_for_which_later_events_wait() {
    let ground = Ground::new().await;
    ground.enqueue(&["poor", "poor", "poor", "poor"], 1).await;
    ground.enqueue(&["rich"], 10).await;
    // The aggregate went on without the first, and waits for a decision about the second.
    let first = kill(&ground, 1, false).await.to_string();
    let second = kill(&ground, 2, true).await.to_string();
    ground.run().await.expect_code(0);
    let before = everything(&ground).await;
    let refused = ground.asked(&["dead-letters", "redrive", "--event", first.as_str()]).run().await.expect_code(65);
    assert!(refused.stderr.contains(&second), "{refused}");
    assert_eq!(everything(&ground).await, before);

    let redriven = ground.asked(&["dead-letters", "redrive", "--aggregate", "account:poor"]).run().await.expect_code(0);
    assert!(redriven.stdout.contains(&first) && redriven.stdout.contains(&second), "{redriven}");
    ground.run().await.expect_code(0);
    assert_eq!(marks(&ground).await, [10, 1, 2, 3, 4]);
    assert_eq!((ground.backlog().await, ground.number("SELECT count(*) FROM outbox_held").await), (0, 0));
}
