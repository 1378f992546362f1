//! J5: the ledger and `status`.

use harness::{Binary, newcomer};
use serde_json::Value;
use suites::{Stage, outcome};

use crate::support::{FIXED, VERIFIER, before_esi, end, execute, held, json, last_run, one_by_one, people};

fn status(stage: &Stage) -> Binary {
    // Nothing but the database: neither Redis, ESI nor the key.
    Binary::new(VERIFIER).arg("status").env("DATABASE_URL", stage.db.url())
}

#[tokio::test]
async fn the_last_runs_are_shown_newest_first_with_the_fixed_fields() {
    let stage = Stage::new().await;
    stage.add(newcomer("ann").verified_minutes_ago(90)).await;
    stage.verifier().env("RUN_ID", "one").env("DRY_RUN", "true").run().await.expect_code(0);
    stage.verifier().env("RUN_ID", "two").run().await.expect_code(0);
    stage.verifier().env("RUN_ID", "three").run().await.expect_code(0);
    // A dry run tells nobody what ESI answered, so that the next one asked again.
    stage.forgive();

    let runs = json(&status(&stage).arg("--output=json").run().await.expect_code(0));
    let runs = runs.as_array().unwrap();
    let column = |name: &str| runs.iter().map(|run| run[name].clone()).collect::<Vec<Value>>();
    assert_eq!(column("run_id"), ["three", "two", "one"]);
    assert_eq!(column("outcome"), ["nothing_to_do", "done", "done"]);
    assert_eq!(column("dry_run"), [false, false, true]);
    assert_eq!(column("scanned"), [0, 1, 1]);
    for name in FIXED {
        assert!(runs.iter().all(|run| run.get(name).is_some_and(|value| !value.is_null())), "{name}: {runs:#?}");
    }

    let limited = json(&status(&stage).arg("--limit").arg("1").arg("--output").arg("json").run().await.expect_code(0));
    assert_eq!(limited.as_array().unwrap().len(), 1);

    let text = status(&stage).run().await.expect_code(0).stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].starts_with("STARTED (UTC)"), "{text}");
    for (line, words) in lines[1..].iter().zip([["nothing_to_do", "local"], ["done", "local"], ["done (dry)", "local"]])
    {
        assert!(words.iter().all(|word| line.contains(word)), "{words:?} in {text}");
    }
}

#[tokio::test]
async fn a_job_that_never_ran_says_so() {
    let stage = Stage::new().await;
    assert_eq!(status(&stage).run().await.expect_code(0).stdout, "character-verifier has not run yet\n");
    assert_eq!(json(&status(&stage).arg("--output=json").run().await.expect_code(0)), serde_json::json!([]));
}

#[tokio::test]
async fn a_run_under_way_is_shown_without_an_outcome() {
    let stage = Stage::new().await;
    people(&stage, 1).await;
    let esi = before_esi(&stage);
    esi.set(harness::Fault::Hang);
    let running = one_by_one(&stage, &esi).start();
    held(&stage, &esi, 1).await;
    let runs = json(&status(&stage).arg("--output=json").run().await.expect_code(0));
    assert_eq!(runs[0]["outcome"], Value::Null);
    assert!(status(&stage).run().await.expect_code(0).stdout.contains("running"));
    esi.set(harness::Fault::Pass);
    end(running).await.expect_code(0);
}

#[tokio::test]
async fn other_problems_of_the_configuration_do_not_keep_anybody_from_looking() {
    let stage = Stage::new().await;
    let looked = status(&stage).env("BATCH_SIZE", "many").env("GATE", "all").env("ENCRYPTION_KEY", "short").run().await;
    assert_eq!(looked.expect_code(0).stdout, "character-verifier has not run yet\n");
}

#[tokio::test]
async fn status_without_a_usable_database_says_why() {
    let missing = Binary::new(VERIFIER).arg("status").run().await.expect_code(78);
    assert!(missing.stderr.contains("DATABASE_URL: missing"), "{missing}");
    let away = Binary::new(VERIFIER).arg("status").env("DATABASE_URL", "postgres://postgres@127.0.0.1:1/a").run().await;
    assert!(away.expect_code(75).stderr.contains("PostgreSQL is not available"));
}

#[tokio::test]
async fn the_trigger_is_told_from_the_name_of_the_job_unless_given() {
    let stage = Stage::new().await;
    for (name, given, expected) in [
        ("", "", "local"),
        ("character-verifier-29371440", "", "schedule"),
        ("character-verifier-manual", "", "manual"),
        ("manual-29371440x", "", "manual"),
        ("character-verifier-29371440", "manual", "manual"),
        ("", "schedule", "schedule"),
    ] {
        stage.verifier().env("JOB_NAME", name).env("RUN_TRIGGER", given).run().await.expect_code(0);
        assert_eq!(last_run(&stage).await.unwrap().trigger, expected, "{name} {given}");
    }
}

#[tokio::test]
async fn the_run_id_is_kept_and_two_tries_may_share_one() {
    let stage = Stage::new().await;
    for _ in 0..2 {
        let finished = stage.verifier().env("RUN_ID", "job-uid-1").run().await.expect_code(0);
        assert_eq!(outcome(&finished)["run_id"], "job-uid-1");
    }
    let own = stage.verify().await.expect_code(0);
    let runs: Vec<String> = stage.community.runs().await.into_iter().map(|run| run.run_id).collect();
    assert_eq!(runs[..2], ["job-uid-1", "job-uid-1"]);
    assert_eq!(outcome(&own)["run_id"], runs[2].as_str());
    let id: uuid::Uuid = runs[2].parse().unwrap();
    assert_eq!(id.get_version_num(), 7);
}

#[tokio::test]
async fn another_jobs_runs_are_not_shown() {
    let stage = Stage::new().await;
    execute(
        &stage,
        "INSERT INTO job_runs (run_id, job, shard_count, shard_index, trigger, dry_run, version)
         VALUES ('x', 'guest-cleanup', 1, 0, 'local', false, '0')",
    )
    .await;
    assert_eq!(status(&stage).run().await.expect_code(0).stdout, "character-verifier has not run yet\n");
}
