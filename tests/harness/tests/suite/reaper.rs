//! Nothing is left behind, however a test process ends.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use harness::{Binary, Durability, Servers, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sqlx::{Connection, PgConnection};

use crate::LIMIT;

const ENDING: &str = "HARNESS_TEST_ENDING";

/// Not a test: what [`start`] runs in a process of its own.
#[tokio::test]
#[ignore = "started by the other tests here"]
async fn process_with_servers() {
    let ending = std::env::var(ENDING).expect("started by a test");
    let servers = Servers::start(Durability::Off);
    let _binary = Binary::at("/bin/sh").arg("-c").arg("exec tail -f /dev/null").as_pid1().start();
    let mut connection = PgConnection::connect(&servers.postgres.url("postgres")).await.unwrap();
    let data: String = sqlx::query_scalar("-- tests\nSELECT current_setting('data_directory')")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    if ending == "frozen" {
        servers.postgres.freeze();
        servers.redis.freeze();
    }
    let mut output = std::io::stderr();
    writeln!(output, "data: {data}").unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
    assert!(ending != "panic", "as asked");
}

/// A process with servers and the folder in which they live.
fn start(ending: &str) -> (Child, PathBuf) {
    let mut child = Command::new(std::env::current_exe().expect("an executable"))
        .args(["--exact", "reaper::process_with_servers", "--ignored", "--nocapture"])
        .env(ENDING, ending)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this executable starts");
    let output = BufReader::new(child.stderr.take().expect("piped"));
    let line = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("data: ").map(PathBuf::from))
        .expect("the process tells its folder");
    // <folder>/postgres-1/data
    let folder = line.ancestors().nth(2).expect("three levels").to_owned();
    (child, folder)
}

fn inhabitants(folder: &Path) -> Vec<i32> {
    std::fs::read_dir("/proc")
        .expect("Linux")
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?.starts_with(folder).then_some(pid)
        })
        .collect()
}

async fn nothing_is_left(folder: &Path, processes: &[i32]) {
    wait_until(LIMIT, "processes and folder are gone", async || {
        let is_alive = |pid: &i32| Path::new(&format!("/proc/{pid}/cwd")).read_link().is_ok();
        !folder.exists() && !processes.iter().any(is_alive) && inhabitants(folder).is_empty()
    })
    .await;
}

#[tokio::test]
async fn nothing_is_left_after_a_kill() {
    let (mut child, folder) = start("killed");
    let processes = inhabitants(&folder);
    assert!(processes.len() > 8, "PostgreSQL with its children, PgBouncer, Redis, a binary: {processes:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    nothing_is_left(&folder, &processes).await;
}

#[tokio::test]
async fn nothing_is_left_after_a_kill_while_servers_are_frozen() {
    let (mut child, folder) = start("frozen");
    let processes = inhabitants(&folder);
    child.kill().unwrap();
    child.wait().unwrap();
    nothing_is_left(&folder, &processes).await;
}

#[tokio::test]
async fn nothing_is_left_after_an_interrupt() {
    let (mut child, folder) = start("interrupted");
    let processes = inhabitants(&folder);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    child.wait().unwrap();
    nothing_is_left(&folder, &processes).await;
}

#[tokio::test]
async fn nothing_is_left_after_a_panic_or_a_quiet_end() {
    for ending in ["panic", "quiet"] {
        let (mut child, folder) = start(ending);
        let processes = inhabitants(&folder);
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert_eq!(child.wait().unwrap().success(), ending == "quiet");
        nothing_is_left(&folder, &processes).await;
    }
}
