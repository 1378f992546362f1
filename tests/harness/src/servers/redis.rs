//! Redis.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
};

use nix::sys::signal::Signal;

use crate::{daemon::Daemon, ports::Port, programs, reaper::home};

/// How many numbered databases it has: as many tests can share it in one process.
pub(crate) const DATABASES: u32 = 4096;

/// A private Redis without persistence: stopping it loses everything. Ended and removed when dropped.
#[derive(Debug)]
pub struct Redis {
    folder: PathBuf,
    port: Port,
    process: Mutex<Option<Daemon>>,
}

impl Redis {
    /// Starts it.
    pub fn start() -> Self {
        let server = Self { folder: home().folder("redis"), port: Port::claim(), process: Mutex::new(None) };
        server.start_again();
        server
    }

    /// Where the numbered database is reached; 0 to 4095.
    pub fn url(&self, database: u32) -> String {
        format!("redis://127.0.0.1:{}/{database}", self.port.number())
    }

    /// Stops the process where it stands: connections stay open and nobody answers.
    pub fn freeze(&self) {
        self.with_process(Daemon::freeze);
    }

    /// Lets it go on after [`Redis::freeze`].
    pub fn thaw(&self) {
        self.with_process(Daemon::thaw);
    }

    /// Ends it and loses what it held.
    pub fn stop(&self) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        process.expect("Redis is already stopped").end(Signal::SIGKILL);
    }

    /// Starts it after [`Redis::stop`], on the same port, empty.
    pub fn start_again(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(process.is_none(), "Redis already runs");
        let mut command = Command::new(programs::find("redis-server", "redis-server"));
        command.args(["--bind", "127.0.0.1", "--port", &self.port.number().to_string()]);
        command.args(["--databases", &DATABASES.to_string(), "--save", "", "--appendonly", "no"]);
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
