//! Processes of shipped binaries; a shell stands in for one.

use std::time::Duration;

use harness::{Binary, Finished, wait_until};
use nix::sys::signal::{Signal, kill};

use crate::LIMIT;

fn shell(script: &str) -> Binary {
    Binary::at("/bin/sh").arg("-c").arg(script)
}

fn is_ready(line: &serde_json::Value) -> bool {
    line["message"] == "ready"
}

const READY: &str = r#"echo '{"message":"ready"}' >&2"#;

#[tokio::test]
async fn code_output_and_log_are_told() {
    let script = r#"echo out; echo '{"n":1}' >&2; echo plain >&2; echo 5 >&2; printf '{"n":2}' >&2; exit 65"#;
    let finished = shell(script).run().await.expect_code(65);
    assert_eq!((finished.code, finished.signal), (Some(65), None));
    assert_eq!(finished.stdout, "out\n");
    assert!(finished.stderr.contains("plain\n5\n"));
    assert_eq!(finished.log.len(), 2);
    assert_eq!(finished.last()["n"], 2);
}

#[tokio::test]
async fn only_the_given_environment_is_seen() {
    let finished = shell("env").env("A", "1").env("B", "2").env("A", "3").run().await;
    let mut names: Vec<_> = finished.stdout.lines().filter(|line| !line.starts_with("PATH=")).collect();
    names.retain(|line| !line.starts_with("PWD=") && !line.starts_with("_="));
    names.sort_unstable();
    assert_eq!(names, ["A=3", "B=2"]);
}

#[tokio::test]
async fn a_signal_reaches_it_and_what_it_does_then_is_told() {
    let script = format!("trap 'echo stopping; exit 143' TERM; {READY}; while :; do sleep 0.01; done");
    let mut running = shell(&script).start();
    running.wait_for_log(LIMIT, is_ready).await;
    assert!(running.is_running());
    running.signal(Signal::SIGTERM);
    let finished = running.wait(LIMIT).await;
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(143), "stopping\n"));
}

#[tokio::test]
async fn a_killed_process_has_a_signal_and_no_code() {
    for binary in [
        shell(&format!("{READY}; exec tail -f /dev/null")),
        shell(&format!("{READY}; exec tail -f /dev/null")).as_pid1(),
    ] {
        let mut running = binary.start();
        running.wait_for_log(LIMIT, is_ready).await;
        running.kill();
        let Finished { code, signal, .. } = running.wait(LIMIT).await;
        assert_eq!((code, signal), (None, Some(9)));
    }
}

#[tokio::test]
async fn as_process_1_it_hears_only_the_signals_it_handles() {
    let script = format!("echo $$; trap 'exit 143' USR1; {READY}; while :; do sleep 0.01; done");
    let mut running = shell(&script).as_pid1().start();
    running.wait_for_log(LIMIT, is_ready).await;
    running.signal(Signal::SIGTERM);
    running.signal(Signal::SIGUSR1);
    let finished = running.wait(LIMIT).await;
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(143), "1\n"));
}

#[tokio::test]
async fn its_wall_clock_can_be_off() {
    let date = Binary::at("/bin/date").arg("+%s");
    let told = async |binary: &Binary| binary.run().await.expect_code(0).stdout.trim().parse::<i64>().unwrap();
    let slow = told(&date.clone().with_clock_off_by(-10)).await;
    let right = told(&date).await;
    let fast = told(&date.clone().with_clock_off_by(10)).await;
    // A little time has passed in between.
    assert!((600..660).contains(&(right - slow)) && (600..660).contains(&(fast - right)), "{slow} {right} {fast}");
}

#[tokio::test]
async fn what_a_false_clock_needs_is_removed_also_after_a_kill() {
    let mut running = shell(&format!("{READY}; exec tail -f /dev/null")).with_clock_off_by(10).start();
    let file = format!("/dev/shm/faketime_shm_{}", running.pid());
    running.wait_for_log(LIMIT, is_ready).await;
    assert!(std::path::Path::new(&file).exists());
    running.kill();
    running.wait(LIMIT).await;
    assert!(!std::path::Path::new(&file).exists());
}

#[tokio::test]
async fn a_dropped_process_is_killed() {
    for binary in [shell("exec tail -f /dev/null"), shell("exec tail -f /dev/null").as_pid1()] {
        let running = binary.start();
        let pid = running.pid();
        assert!(kill(pid, None).is_ok());
        drop(running);
        wait_until(LIMIT, "it is gone", async || !std::path::Path::new(&format!("/proc/{pid}/cwd")).exists()).await;
    }
}

#[tokio::test]
#[should_panic(expected = "last words")]
async fn a_process_that_hangs_fails_the_test_with_what_it_wrote() {
    let mut running = shell(&format!("echo last words; {READY}; exec tail -f /dev/null")).start();
    running.wait_for_log(LIMIT, is_ready).await;
    running.wait(Duration::from_millis(50)).await;
}

#[tokio::test]
#[should_panic(expected = "did not come")]
async fn waiting_for_a_log_line_ends_with_the_process() {
    shell("echo '{}' >&2").start().wait_for_log(LIMIT, is_ready).await;
}

#[tokio::test]
async fn peak_memory_is_near_what_was_used() {
    // The shell holds the text itself.
    let script = format!("x=$(head -c 50000000 /dev/zero | tr '\\0' x); {READY}; while :; do sleep 0.01; done");
    let mut running = shell(&script).start();
    running.wait_for_log(LIMIT, is_ready).await;
    running.kill();
    let finished = running.wait(LIMIT).await;
    assert!((50_000_000..1_000_000_000).contains(&finished.peak_memory), "{} bytes", finished.peak_memory);
}
