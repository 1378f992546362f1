//! Every key of an operation carries the account's hash tag, so that one cluster slot holds them all.

use identity::ids::AccountId;
use sessions::{Gate, Probe, Take};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::UnixStream,
};

use crate::{
    fixture::{Redis, account, at, character, open, write_by_hand},
    take::acting,
};

/// Opens the server's record of every command it runs, those of scripts among them.
async fn monitor(redis: &Redis) -> Lines<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(redis.socket()).await.expect("connection");
    stream.write_all(b"MONITOR\r\n").await.expect("MONITOR is sent");
    let mut lines = BufReader::new(stream).lines();
    assert_eq!(lines.next_line().await.expect("an answer").as_deref(), Some("+OK"));
    lines
}

/// Asserts that the commands up to the next marker touched keys of `account` only, from within a script where
/// `in_script`.
async fn assert_one_slot(
    redis: &Redis,
    commands: &mut Lines<BufReader<UnixStream>>,
    account: AccountId,
    operation: &str,
    in_script: bool,
) {
    redis.exec(&format!("ECHO {operation}")).await;
    let tag = format!("sess:{{{account}}}:");
    let mut keys_seen = 0;
    loop {
        let line = commands.next_line().await.expect("the record").expect("an open connection");
        if line.contains("\"ECHO\"") {
            assert!(line.contains(operation), "{line}");
            break;
        }
        for word in line.split('"').filter(|word| word.starts_with("sess:")) {
            assert!(word.starts_with(&tag), "{operation}: {line}");
            keys_seen += u32::from(!in_script || line.contains(" lua] "));
        }
    }
    assert!(keys_seen > 0, "{operation} touched no key");
}

#[tokio::test]
async fn the_keys_of_each_operation_share_a_slot() {
    let redis = Redis::start().await;
    let (sessions, account, left) = (redis.sessions(), account(), character());
    let token = sessions.open(&open(account, Some(left), 5)).await.unwrap();
    for hash in ["a", "b", "c"] {
        write_by_hand(&redis, account, &hash.repeat(64), &left.to_string(), 5).await;
    }
    let token = token.expose();
    let probe = Probe { account_id: account, gate: Gate::Acting, character_id: left, observed_at: at(7) };
    let take = Take { gate: Gate::Any, ..acting(account, left, 7) };
    let mut commands = monitor(&redis).await;

    macro_rules! assert_one_slot {
        ($operation:literal, $in_script:expr, $call:expr) => {
            $call.await.unwrap();
            assert_one_slot(&redis, &mut commands, account, $operation, $in_script).await;
        };
    }
    assert_one_slot!("open", true, sessions.open(&open(account, None, 5)));
    assert_one_slot!("validate", true, sessions.validate(token));
    assert_one_slot!("act_as", true, sessions.act_as(token, Some(left), at(6)));
    assert_one_slot!("list", true, sessions.list(account));
    assert_one_slot!("find_acting", true, sessions.find_acting(account, left));
    assert_one_slot!("find_all", true, sessions.find_all(account));
    let ticket = sessions.issue_ticket(token).await.unwrap().unwrap();
    assert_one_slot(&redis, &mut commands, account, "issue_ticket", true).await;
    assert_one_slot!("redeem_ticket", true, sessions.redeem_ticket(ticket.expose()));
    assert_one_slot!("probe", true, sessions.probe(&[probe]));
    assert_one_slot!("has_live_sessions", true, sessions.has_live_sessions(&[account]));
    assert_one_slot!("mark_and_probe", true, sessions.mark_and_probe(&[probe]));
    assert_one_slot!("end", true, sessions.end_one(account, &"a".repeat(64).parse().unwrap()));
    assert_one_slot!("end_others", true, sessions.end_others(token));
    assert_one_slot!("take", true, sessions.take(&[take]));
    assert_one_slot!("end_all", true, sessions.end_all(account));
    assert_one_slot!("forget_receipts", false, sessions.forget_receipts(&[(account, take.receipt)]));
}
