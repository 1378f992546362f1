//! A private Redis server, and sessions to put into it.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use identity::ids::{AccountId, BrandId, CharacterId};
use redis::{
    Client, FromRedisValue,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use sessions::{EpochMillis, Open, SessionToken, Sessions, Settings};
use tempfile::TempDir;
use uuid::Uuid;

/// A Redis server on a socket in its own folder; killed when dropped, also by a panic.
pub(crate) struct Redis {
    process: Child,
    folder: TempDir,
    connection: ConnectionManager,
    _log: BufReader<ChildStdout>,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut process = Command::new("redis-server")
            .args(["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "no", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is installed");
        let mut log = BufReader::new(process.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        while !line.contains("ready to accept connections") {
            line.clear();
            assert!(log.read_line(&mut line).expect("log of redis-server") > 0, "redis-server ended at its start");
        }
        let connection = connect(&folder).await;
        Self { process, folder, connection, _log: log }
    }

    /// Kills the server and waits until it is gone.
    pub(crate) fn stop(&mut self) {
        self.process.kill().expect("kill redis-server");
        self.process.wait().expect("redis-server ends");
    }

    pub(crate) fn sessions(&self) -> Sessions {
        self.sessions_with(Settings::default())
    }

    pub(crate) fn sessions_with(&self, settings: Settings) -> Sessions {
        Sessions::new(self.connection.clone(), settings)
    }

    /// Where raw connections go.
    pub(crate) fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// Sends one command, words split at spaces; `_` stands for an empty word.
    pub(crate) async fn query<T: FromRedisValue>(&self, command: &str) -> T {
        let mut words = command.split(' ').map(|word| if word == "_" { "" } else { word });
        let mut cmd = redis::cmd(words.next().expect("a command"));
        for word in words {
            cmd.arg(word);
        }
        cmd.query_async(&mut self.connection.clone()).await.expect(command)
    }

    pub(crate) async fn exec(&self, command: &str) {
        self.query::<redis::Value>(command).await;
    }

    /// The server's time in milliseconds since the epoch.
    pub(crate) async fn now(&self) -> i64 {
        let (seconds, micros): (i64, i64) = self.query("TIME").await;
        seconds * 1000 + micros / 1000
    }

    /// Everything stored: each key with its serialised value and its end in milliseconds (negative: none).
    pub(crate) async fn contents(&self) -> Vec<(String, Vec<u8>, i64)> {
        let mut keys: Vec<String> = self.query("KEYS *").await;
        keys.sort();
        let mut contents = Vec::new();
        for key in keys {
            let dump = self.query(&format!("DUMP {key}")).await;
            let end = self.query(&format!("PEXPIRETIME {key}")).await;
            contents.push((key, dump, end));
        }
        contents
    }

    /// How many changes the server has made since its start.
    pub(crate) async fn changes(&self) -> u64 {
        let info: String = self.query("INFO persistence").await;
        let line = info.lines().find_map(|line| line.strip_prefix("rdb_changes_since_last_save:"));
        line.and_then(|count| count.trim().parse().ok()).expect("a count of changes")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Already gone is fine.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

async fn connect(folder: &TempDir) -> ConnectionManager {
    let address = format!("unix://{}/redis.sock", folder.path().display());
    // Long enough for a machine that builds beside the tests.
    let config =
        ConnectionManagerConfig::new().set_number_of_retries(0).set_response_timeout(Some(Duration::from_secs(30)));
    let client = Client::open(address).expect("an address");
    client.get_connection_manager_with_config(config).await.expect("a connection")
}

pub(crate) fn account() -> AccountId {
    AccountId(Uuid::new_v4())
}

pub(crate) fn character() -> CharacterId {
    CharacterId(Uuid::new_v4())
}

pub(crate) fn at(millis: i64) -> EpochMillis {
    EpochMillis(millis)
}

/// A session to open for `account`.
pub(crate) fn open(account: AccountId, character_id: Option<CharacterId>, approved_at: i64) -> Open {
    Open {
        account_id: account,
        brand_id: BrandId(Uuid::from_u128(7)),
        character_id,
        approved_at: at(approved_at),
        client_type: "web".to_owned(),
        role: "player".to_owned(),
    }
}

/// The key of the session of `token`.
pub(crate) fn key(account: AccountId, token: &SessionToken) -> String {
    format!("sess:{{{account}}}:{}", token.hash())
}

/// Writes a live session as another program would, without a time to live, and returns its key.
pub(crate) async fn write_by_hand(
    redis: &Redis,
    account: AccountId,
    hash: &str,
    acting: &str,
    approved_at: i64,
) -> String {
    let now = redis.now().await;
    let (expires_at, brand) = (now + 3_600_000, Uuid::from_u128(7));
    let key = format!("sess:{{{account}}}:{hash}");
    redis
        .exec(&format!(
            "HSET {key} account_id {account} brand_id {brand} character_id {acting} approved_at {approved_at} \
             created_at {now} last_seen_at {now} expires_at {expires_at} client_type desktop role player"
        ))
        .await;
    redis.exec(&format!("ZADD sess:{{{account}}}:index {expires_at} {hash}")).await;
    key
}
