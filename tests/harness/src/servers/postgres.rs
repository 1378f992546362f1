//! PostgreSQL.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use nix::sys::signal::Signal;

use crate::{
    daemon::Daemon,
    ports::Port,
    programs::{self, ServerUser},
    reaper::home,
};

/// Whether a commit, or a write to Redis, survives a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// No fsync: fast, for tests.
    Off,
    /// As in production: for measurements, and for what must survive.
    On,
}

/// A private PostgreSQL server. Ended and removed when dropped.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    durability: Durability,
    port: Port,
    process: Mutex<Option<Daemon>>,
}

impl Postgres {
    /// Makes a new cluster and starts it. Everybody on the loopback interface is let in, as superuser `postgres`.
    pub fn start(durability: Durability) -> Self {
        let folder = home().folder("postgres");
        let user = ServerUser::find();
        user.own(&folder);
        let initdb = user
            .command(&programs::postgres_folder().join("initdb"))
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "-D"])
            .arg(folder.join("data"))
            .env_clear()
            .env("PATH", programs::path())
            .current_dir(&folder)
            .stdin(Stdio::null())
            .output()
            .expect("initdb can be run");
        assert!(initdb.status.success(), "initdb failed:\n{}", String::from_utf8_lossy(&initdb.stderr));
        let server = Self { folder, durability, port: Port::claim(), process: Mutex::new(None) };
        server.start_again();
        server
    }

    /// Where `database` is reached directly.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port())
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Stops all its processes where they stand: connections stay open and nobody answers.
    pub fn freeze(&self) {
        self.with_process(Daemon::freeze);
    }

    /// Lets it go on after [`Postgres::freeze`].
    pub fn thaw(&self) {
        self.with_process(Daemon::thaw);
    }

    /// Ends it, and with it all connections; the data stay.
    pub fn stop(&self) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        process.expect("PostgreSQL is already stopped").end(Signal::SIGINT);
    }

    /// Starts it after [`Postgres::stop`], on the same port and data.
    pub fn start_again(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(process.is_none(), "PostgreSQL already runs");
        let ready_file = self.folder.join("data/postmaster.pid");
        // The eighth line tells the state; the port answers before it is "ready".
        let ready = || {
            let text = std::fs::read_to_string(&ready_file).unwrap_or_default();
            text.lines().nth(7).is_some_and(|state| state.trim() == "ready")
        };
        // Immediate shutdown: gives back shared memory, writes nothing.
        *process = Some(Daemon::start("PostgreSQL", &mut self.command(), &self.folder, Signal::SIGQUIT, ready));
    }

    fn command(&self) -> Command {
        let mut command = ServerUser::find().command(&programs::postgres_folder().join("postgres"));
        command.arg("-D").arg(self.folder.join("data"));
        let mut set = |name: &str, value: &str| {
            command.arg("-c").arg(format!("{name}={value}"));
        };
        set("port", &self.port().to_string());
        set("listen_addresses", "127.0.0.1");
        set("unix_socket_directories", &self.folder.to_string_lossy());
        set("max_connections", "300");
        // Inside the data folder, since small containers have little /dev/shm.
        set("dynamic_shared_memory_type", "mmap");
        set("timezone", "UTC");
        if self.durability == Durability::Off {
            for name in ["fsync", "synchronous_commit", "full_page_writes"] {
                set(name, "off");
            }
        }
        command
    }

    fn with_process(&self, act: impl FnOnce(&Daemon)) {
        act(self.process.lock().unwrap_or_else(PoisonError::into_inner).as_ref().expect("PostgreSQL is stopped"));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.process.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
