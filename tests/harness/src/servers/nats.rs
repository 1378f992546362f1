//! NATS with JetStream.

use std::{
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
};

use nix::sys::signal::Signal;

use crate::{daemon::Daemon, http::get, ports::Port, programs, reaper::home};

/// A private NATS whose streams are kept in files: they outlive [`Nats::stop`]. Ended and removed when dropped.
#[derive(Debug)]
pub struct Nats {
    folder: PathBuf,
    port: Port,
    monitor: Port,
    limits: NatsLimits,
    process: Mutex<Option<Daemon>>,
}

/// What the server permits.
#[derive(Debug, Clone, Default)]
pub struct NatsLimits {
    /// The only one who may log in, with a password.
    pub user: Option<(String, String)>,
    /// Or the token by which one may.
    pub token: Option<String>,
    /// Subjects that this user may not publish to.
    pub denied: Vec<String>,
    /// Largest message in bytes; the server's own limit is 1 MiB.
    pub max_payload: Option<u32>,
    /// Without JetStream there is no stream.
    pub without_jetstream: bool,
    /// A certificate and its key, in files: nothing but TLS is spoken.
    pub tls: Option<(PathBuf, PathBuf)>,
}

impl Nats {
    /// Starts one that permits everything.
    pub fn start() -> Self {
        Self::start_with(NatsLimits::default())
    }

    /// Starts one with limits.
    pub fn start_with(limits: NatsLimits) -> Self {
        let (port, monitor) = (Port::claim(), Port::claim());
        let server = Self { folder: home().folder("nats"), port, monitor, limits, process: Mutex::new(None) };
        server.start_again();
        server
    }

    /// Where it is reached, with the right to log in.
    pub fn url(&self) -> String {
        let scheme = if self.limits.tls.is_some() { "tls" } else { "nats" };
        let login = match (&self.limits.user, &self.limits.token) {
            (Some((user, password)), _) => format!("{user}:{password}@"),
            (None, Some(token)) => format!("{token}@"),
            (None, None) => String::new(),
        };
        format!("{scheme}://{login}127.0.0.1:{}", self.port.number())
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Stops the process where it stands: connections stay open and nobody answers.
    pub fn freeze(&self) {
        self.with_process(Daemon::freeze);
    }

    /// Lets it go on after [`Nats::freeze`].
    pub fn thaw(&self) {
        self.with_process(Daemon::thaw);
    }

    /// Ends it at once; what its streams hold stays.
    pub fn stop(&self) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        process.expect("NATS is already stopped").end(Signal::SIGKILL);
    }

    /// Starts it after [`Nats::stop`], on the same port, with what its streams held.
    pub fn start_again(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(process.is_none(), "NATS already runs");
        let config = self.folder.join("nats.conf");
        std::fs::write(&config, self.config()).expect("the folder is writable");
        let mut command = Command::new(programs::find("nats-server", "nats-server"));
        command.arg("--config").arg(&config);
        // Healthy means that the streams are recovered, too.
        let ready = || get(self.monitor.number(), "/healthz").is_ok_and(|body| body.contains("ok"));
        *process = Some(Daemon::start("NATS", &mut command, &self.folder, Signal::SIGKILL, ready));
    }

    fn config(&self) -> String {
        let mut lines = vec![
            format!("listen: \"127.0.0.1:{}\"", self.port.number()),
            format!("http: \"127.0.0.1:{}\"", self.monitor.number()),
        ];
        if !self.limits.without_jetstream {
            let store = self.folder.join("store");
            lines.push(format!("jetstream {{ store_dir: \"{}\", max_file: 1Gb, max_mem: 64Mb }}", store.display()));
        }
        let quoted: Vec<String> = self.limits.denied.iter().map(|subject| format!("\"{subject}\"")).collect();
        match (&self.limits.user, &self.limits.token) {
            (Some((user, password)), _) => lines.push(format!(
                "authorization {{ users: [ {{ user: \"{user}\", password: \"{password}\", permissions: {{ publish: {{ deny: [{}] }} }} }} ] }}",
                quoted.join(", ")
            )),
            (None, Some(token)) => lines.push(format!("authorization {{ token: \"{token}\" }}")),
            (None, None) => {}
        }
        if let Some((certificate, key)) = &self.limits.tls {
            lines.push(format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}", certificate.display(), key.display()));
        }
        lines.extend(self.limits.max_payload.map(|bytes| format!("max_payload: {bytes}")));
        lines.join("\n")
    }

    fn with_process(&self, act: impl FnOnce(&Daemon)) {
        act(self.process.lock().unwrap_or_else(PoisonError::into_inner).as_ref().expect("NATS is stopped"));
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        drop(self.process.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
