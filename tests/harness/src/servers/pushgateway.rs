//! Pushgateway.

use std::{
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
};

use nix::sys::signal::Signal;

use crate::{
    daemon::Daemon,
    http::{self, Sample},
    ports::Port,
    programs,
    reaper::home,
};

/// A private Pushgateway without persistence: stopping it loses everything. Ended and removed when dropped.
#[derive(Debug)]
pub struct Pushgateway {
    folder: PathBuf,
    port: Port,
    process: Mutex<Option<Daemon>>,
}

impl Pushgateway {
    /// Starts it; fast enough for one in each test that reads it.
    pub fn start() -> Self {
        let server = Self { folder: home().folder("pushgateway"), port: Port::claim(), process: Mutex::new(None) };
        server.start_again();
        server
    }

    /// Where metrics are pushed to.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Host and port, as Prometheus names a target.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// All it holds now, its own metrics too.
    pub fn metrics(&self) -> Vec<Sample> {
        let text = http::get(self.port.number(), "/metrics").expect("the Pushgateway answers");
        http::samples(&text)
    }

    /// The value of the one series `name` that carries all of `labels`; none if there is no such series.
    ///
    /// # Panics
    /// Several series match: say more labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found: Vec<_> = self.metrics().into_iter().filter(|one| one.name == name && one.has(labels)).collect();
        assert!(found.len() < 2, "several series {name} carry {labels:?}: {found:#?}");
        found.pop().map(|sample| sample.value)
    }

    /// Ends it and loses what it held.
    pub fn stop(&self) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        process.expect("the Pushgateway is already stopped").end(Signal::SIGKILL);
    }

    /// Starts it after [`Pushgateway::stop`], on the same port, empty.
    pub fn start_again(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(process.is_none(), "the Pushgateway already runs");
        let mut command = Command::new(programs::find("prometheus-pushgateway", "prometheus-pushgateway"));
        // Debian's keeps what was pushed in a file of its own unless told otherwise.
        command.arg(format!("--web.listen-address={}", self.address())).arg("--persistence.file=");
        let ready = || http::get(self.port.number(), "/-/ready").is_ok();
        *process = Some(Daemon::start("Pushgateway", &mut command, &self.folder, Signal::SIGKILL, ready));
    }
}

impl Drop for Pushgateway {
    fn drop(&mut self) {
        drop(self.process.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
