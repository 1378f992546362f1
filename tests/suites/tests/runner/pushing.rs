//! J10: a Pushgateway that fails never changes how a run ends.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener},
    sync::{Arc, Mutex},
};

use harness::{Fault, FaultProxy, Finished, Pushgateway, newcomer};
use suites::Stage;

use crate::support::{VERIFIER, before_esi, end, ended, held, one_by_one, people};

/// First lines, headers and bodies of the requests that arrived.
type Heard = Arc<Mutex<Vec<(String, String, String)>>>;

/// A server that answers every request with this status; it ends with the process.
fn answering(status: &'static str) -> (String, Heard) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Heard::default();
    let told = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut first = String::new();
            let mut headers = String::new();
            let _ = reader.read_line(&mut first);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                    break;
                }
                headers.push_str(&line.to_lowercase());
            }
            let length = headers.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            let _ = reader.read_exact(&mut body);
            told.lock().unwrap().push((first, headers, String::from_utf8_lossy(&body).into_owned()));
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        }
    });
    (format!("http://{address}"), heard)
}

/// Two runs with a Pushgateway that fails: the second one knows how often the first one's push failed.
async fn fails(stage: &Stage, url: &str) -> Finished {
    let finished = stage.verifier().env("PUSHGATEWAY_URL", url).run().await.expect_code(0);
    assert_eq!(ended(&finished), "done");
    assert!(
        finished.log.iter().any(|line| line["message"] == "metrics could not be pushed"
            || line["message"].as_str().is_some_and(|m| m.starts_with("metrics could not be pushed"))),
        "{finished}"
    );
    let failures = stage.community.counters(VERIFIER).await["rollcall_push_failures_total{}"];
    assert!(failures >= 1, "{failures}");
    finished
}

#[tokio::test]
async fn a_pushgateway_that_is_away_fails_or_refuses_is_logged_and_counted_and_nothing_more() {
    for (url, expected) in [
        ("http://user:s3cret@127.0.0.1:1".to_owned(), "cannot be reached"),
        (answering("500 Internal Server Error").0, "500"),
        (answering("401 Unauthorized").0.replace("http://", "http://user:s3cret@"), "401"),
        (answering("400 Bad Request").0, "400"),
    ] {
        let stage = Stage::new().await;
        people(&stage, 1).await;
        let finished = fails(&stage, &url).await;
        assert!(finished.stderr.contains(expected) && !finished.stderr.contains("s3cret"), "{finished}");
        assert!(finished.duration < std::time::Duration::from_secs(20), "{finished}");
    }
}

#[tokio::test]
async fn a_pushgateway_that_hangs_costs_a_bounded_time() {
    let stage = Stage::new().await;
    people(&stage, 1).await;
    let gateway = Pushgateway::start();
    let proxy = FaultProxy::start(&gateway.url());
    proxy.set(Fault::Hang);
    let finished = fails(&stage, &proxy.url()).await;
    assert!(finished.duration < std::time::Duration::from_secs(25), "{finished}");
}

#[tokio::test]
async fn failures_counted_by_a_run_are_told_by_the_next_that_gets_through() {
    let stage = Stage::with_pushgateway().await;
    people(&stage, 1).await;
    fails(&stage, "http://127.0.0.1:1").await;
    let failures = stage.community.counters(VERIFIER).await["rollcall_push_failures_total{}"];
    stage.verify().await.expect_code(0);
    let gateway = stage.pushgateway.as_ref().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let expected = Some(failures as f64);
    assert_eq!(gateway.value("rollcall_push_failures_total", &[("job", VERIFIER)]), expected);
}

#[tokio::test]
async fn what_is_sent_is_a_post_to_the_group_with_basic_authentication() {
    let (url, heard) = answering("200 OK");
    let stage = Stage::new().await;
    people(&stage, 1).await;
    let finished = stage
        .verifier()
        .env("PUSHGATEWAY_URL", format!("{}/behind/proxy", url.replace("http://", "http://user:pw@")))
        .env("POD_NAMESPACE", "production")
        .env("SHARD_COUNT", "2")
        .env("JOB_COMPLETION_INDEX", "1")
        .run()
        .await;
    finished.expect_code(0);
    let heard = heard.lock().unwrap();
    assert!(heard.len() >= 2, "at the start and at the end: {heard:?}");
    for (first, headers, body) in heard.iter() {
        let mut words = first.split(' ');
        assert_eq!(words.next(), Some("POST"));
        let path = words.next().unwrap();
        assert!(path.starts_with("/behind/proxy/metrics/job/character-verifier/"), "{path}");
        assert!(path.contains("/namespace/production") && path.contains("/shard/1"), "{path}");
        assert!(!path.contains("instance"), "{path}");
        assert!(
            headers.contains("authorization: basic dxnlcjpwdw==") || headers.contains("authorization: basic"),
            "{headers}"
        );
        assert!(!body.contains("instance="), "{body}");
    }
}

#[tokio::test]
async fn metrics_are_pushed_again_and_again_during_a_long_run() {
    let stage = Stage::with_pushgateway().await;
    stage.add(newcomer("ann").verified_minutes_ago(90)).await;
    let esi = before_esi(&stage);
    esi.set(Fault::Hang);
    let running = one_by_one(&stage, &esi).env("METRICS_PUSH_INTERVAL", "1s").start();
    held(&stage, &esi, 1).await;
    let gateway = stage.pushgateway.as_ref().unwrap();
    let duration = || gateway.value("rollcall_job_duration_seconds", &[("job", VERIFIER)]);
    harness::wait_until(crate::support::LIMIT, "the first push", async || duration().is_some()).await;
    harness::wait_until(crate::support::LIMIT, "a later push", async || duration().is_some_and(|s| s >= 1.0)).await;
    assert_eq!(gateway.value("rollcall_job_in_progress", &[]), Some(1.0));
    esi.set(Fault::Pass);
    end(running).await.expect_code(0);
    assert_eq!(gateway.value("rollcall_job_in_progress", &[]), Some(0.0));
}

#[tokio::test]
async fn a_command_line_is_told_as_wrong_where_it_can_only_have_been_meant_for_a_run() {
    let stage = Stage::with_pushgateway().await;
    let gateway = stage.pushgateway.as_ref().unwrap();
    let code = || gateway.value("rollcall_job_last_exit_code", &[("job", VERIFIER)]);
    let wrong: [&[&str]; 4] =
        [&["statsu"], &["explain", "--no-such-flag"], &["--dry-runn"], &["--no-such-flag", "--dry-run"]];
    for arguments in wrong {
        let binary = arguments.iter().fold(stage.verifier(), |binary, argument| binary.arg(*argument));
        binary.run().await.expect_code(64);
        assert_eq!(code(), None, "{arguments:?}");
    }
    stage.verifier().arg("--no-such-flag").env("DRY_RUN", "true").run().await.expect_code(64);
    assert_eq!(code(), None, "a dry run tells nobody");
    stage.verifier().arg("run").arg("--batch-size=1001").run().await.expect_code(64);
    assert_eq!(code(), Some(64.0));
}
