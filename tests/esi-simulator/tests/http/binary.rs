//! The process: says where it listens, serves its generated world, ends when told.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::json;

use crate::client::{request, row, send};

/// Killed if the test panics before it has ended it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already when all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_binary_prints_its_address_serves_and_ends_on_sigterm() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_esi-simulator"));
    command.args(["--characters", "1000", "--first-id", "2112000000", "--latency-ms", "1", "--alliance", "99000001"]);
    let mut process = Process(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut address = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let base = format!("http://{}", address.trim());

    let answer = send(request(&base, Method::POST, "/characters/affiliation").json(&[2_112_000_999_i64])).await;
    assert_eq!(row(&answer, 2_112_000_999)["alliance_id"], json!(99_000_001));
    let settings = send(request(&base, Method::GET, "/_sim/settings")).await.json();
    assert_eq!((&settings["latency_ms"], &settings["record_ids"]), (&json!(1), &json!(false)));

    kill(Pid::from_raw(process.0.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(process.0.wait().unwrap().code(), Some(0));
}
