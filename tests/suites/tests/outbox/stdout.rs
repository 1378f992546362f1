//! Standard output as the sink.

use std::collections::BTreeSet;

use harness::{Binary, Finished};
use serde_json::Value;

use crate::support::{Ground, LIMIT};

/// A script in which `$0` is the drain with standard output as its sink.
fn in_bash(ground: &Ground, script: &str) -> Binary {
    let drain = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("outbox-drain");
    Binary::at("/bin/bash")
        .arg("-c")
        .arg(script)
        .arg(drain)
        .env("DATABASE_URL", ground.db.url())
        .env("REDIS_URL", ground.db.redis_url())
        .env("LOG_FORMAT", "json")
        .env("OUTBOX_SINK", "stdout")
}

#[tokio::test]
async fn a_line_that_a_full_disk_cut_off_spoils_no_other() {
    let ground = Ground::new().await;
    ground.fill(300, 50).await;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("events");
    // The limit of a file's size, in kilobytes; the signal that comes with it is ignored also by what bash becomes.
    let script = format!("trap '' XFSZ; ulimit -S -f 20; exec \"$0\" > '{}'", out.display());
    let mut run = in_bash(&ground, &script).env("BATCH_SIZE", "1").start();
    run.wait_for_log(LIMIT, |line| line["message"] == "the sink takes nothing").await;
    let freed = std::process::Command::new("prlimit")
        .args(["--pid", &run.pid().to_string(), "--fsize=unlimited:unlimited"])
        .status();
    assert!(freed.unwrap().success());
    run.wait(LIMIT).await.expect_code(0);
    let text = std::fs::read_to_string(out).unwrap();
    let lines: Vec<_> = text.lines().map(serde_json::from_str::<Value>).collect();
    assert_eq!(lines.iter().filter(|line| line.is_err()).count(), 1, "the one that was cut off");
    let ids: BTreeSet<_> = lines.iter().flatten().map(|line| line["event_id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), ground.backlog().await), (300, 0));
}

/// The ids of the events on standard output.
fn ids(finished: &Finished) -> Vec<String> {
    let event = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    finished.stdout.lines().map(|line| event(line)["event_id"].as_str().unwrap().to_owned()).collect()
}

/// What it has written is deleted, and the rest is there for the next one.
async fn ends_well_when_its_reader_goes(word: &str) {
    let ground = Ground::new().await;
    // Several times what a pipe holds.
    ground.fill(1000, 50).await;
    let script = format!("\"$0\" {word} | head -n 3; exit \"${{PIPESTATUS[0]}}\"");
    let ended = in_bash(&ground, &script).run().await.expect_code(0);
    let (last, left) = (ended.last(), ground.backlog().await);
    let note = last["note"].as_str().unwrap_or_default();
    assert!(last["outcome"] == "done" && note.starts_with("whoever read standard output has gone"), "{ended}");
    assert_eq!((last["changed"].as_i64(), left > 0), (Some(1000 - left), true), "{ended}");
    assert_eq!(ground.number("SELECT count(*) FROM outbox_held").await, 0, "no event is to blame");
    let rest = ground.drain().env("OUTBOX_SINK", "stdout").run().await.expect_code(0);
    let (read, rest) = (ids(&ended), ids(&rest));
    assert_eq!((read.len(), i64::try_from(rest.len()).unwrap()), (3, left));
    assert!(!read.iter().any(|id| rest.contains(id)), "what was read is not written again");
    assert_eq!(ground.backlog().await, 0);
}

#[tokio::test]
async fn a_run_whose_reader_goes_away_ends_well_and_the_rest_stays() {
    ends_well_when_its_reader_goes("run").await;
}

#[tokio::test]
async fn so_does_a_worker_whose_reader_goes_away() {
    ends_well_when_its_reader_goes("worker").await;
}

#[tokio::test]
async fn a_standard_output_that_leads_nowhere_takes_no_event() {
    let ground = Ground::new().await;
    ground.fill(20, 4).await;
    for end in ["> /dev/null", ">&-"] {
        for word in ["run", "worker"] {
            let run = in_bash(&ground, &format!("exec \"$0\" {word} {end}")).run().await.expect_code(78);
            assert!(
                run.last()["error"].as_str().unwrap().starts_with("OUTBOX_SINK: stdout, but standard output"),
                "{run}"
            );
        }
    }
    assert_eq!(ground.backlog().await, 20);
    // Whoever only asks has no use for it.
    in_bash(&ground, "exec \"$0\" check > /dev/null").run().await.expect_code(0);
}

#[tokio::test]
async fn the_outcome_does_not_stand_among_the_events() {
    let ground = Ground::new().await;
    ground.fill(20, 4).await;
    let stdout = ground.drain().env("OUTBOX_SINK", "stdout");
    let mixed = stdout.clone().arg("--output").arg("json").run().await.expect_code(78);
    assert!(mixed.last()["error"].as_str().unwrap().contains("--output json"), "{mixed}");
    assert_eq!(ground.backlog().await, 20);
    assert_eq!(ids(&stdout.run().await.expect_code(0)).len(), 20);
}
