//! Redis.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
};

use nix::sys::signal::Signal;

use super::postgres::Durability;
use crate::{daemon::Daemon, ports::Port, programs, reaper::home};

/// How many numbered databases it has: as many tests can share it in one process.
pub(crate) const DATABASES: u32 = 4096;

/// A private Redis. Ended and removed when dropped.
#[derive(Debug)]
pub struct Redis {
    folder: PathBuf,
    durability: Durability,
    port: Port,
    process: Mutex<Option<Daemon>>,
}

impl Redis {
    /// Starts one without persistence: stopping it loses everything.
    pub fn start() -> Self {
        Self::start_with(Durability::Off)
    }

    /// Starts one that answers a write when it is on the disk: stopping it loses nothing that was answered.
    pub fn durable() -> Self {
        Self::start_with(Durability::On)
    }

    fn start_with(durability: Durability) -> Self {
        let folder = home().folder("redis");
        let server = Self { folder, durability, port: Port::claim(), process: Mutex::new(None) };
        server.start_again();
        server
    }

    /// Where the numbered database is reached; 0 to 4095.
    pub fn url(&self, database: u32) -> String {
        format!("redis://{}/{database}", self.address())
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Stops the process where it stands: connections stay open and nobody answers.
    pub fn freeze(&self) {
        self.with_process(Daemon::freeze);
    }

    /// Lets it go on after [`Redis::freeze`].
    pub fn thaw(&self) {
        self.with_process(Daemon::thaw);
    }

    /// Ends it at once; what it held is lost, unless it is durable.
    pub fn stop(&self) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        process.expect("Redis is already stopped").end(Signal::SIGKILL);
    }

    /// Starts it after [`Redis::stop`], on the same port, empty unless it is durable.
    pub fn start_again(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(process.is_none(), "Redis already runs");
        let mut command = Command::new(programs::find("redis-server", "redis-server"));
        command.args(["--bind", "127.0.0.1", "--port", &self.port.number().to_string()]);
        command.args(["--databases", &DATABASES.to_string(), "--save", ""]);
        match self.durability {
            Durability::Off => command.args(["--appendonly", "no"]),
            Durability::On => command.args(["--appendonly", "yes", "--appendfsync", "always"]),
        };
        // Until its data are loaded it answers otherwise.
        let ready = || ping(self.port.number()).unwrap_or(false);
        *process = Some(Daemon::start("Redis", &mut command, &self.folder, Signal::SIGKILL, ready));
    }

    fn with_process(&self, act: impl FnOnce(&Daemon)) {
        act(self.process.lock().unwrap_or_else(PoisonError::into_inner).as_ref().expect("Redis is stopped"));
    }
}

fn ping(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    Ok(&answer == b"+PONG")
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.process.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
