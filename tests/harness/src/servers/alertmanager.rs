//! Alertmanager.

use std::{path::PathBuf, process::Command};

use nix::sys::signal::Signal;

use crate::{daemon::Daemon, http, ports::Port, programs, reaper::home};

/// A private Alertmanager that tells a webhook at once. Ended and removed when dropped.
#[derive(Debug)]
pub struct Alertmanager {
    folder: PathBuf,
    port: Port,
    process: Option<Daemon>,
}

impl Alertmanager {
    /// Starts one that posts each alert, and its end, to the address `webhook`. Alerts of different names or namespaces
    /// are told of apart.
    pub fn start(webhook: &str) -> Self {
        let folder = home().folder("alertmanager");
        let port = Port::claim();
        let settings = folder.join("alertmanager.yml");
        // JSON is YAML.
        let text = serde_json::json!({
            "route": {
                "receiver": "webhook",
                "group_by": ["alertname", "namespace"],
                "group_wait": "50ms",
                "group_interval": "200ms",
                "repeat_interval": "1h",
            },
            "receivers": [{ "name": "webhook", "webhook_configs": [{ "url": webhook, "send_resolved": true }] }],
        });
        std::fs::write(&settings, text.to_string()).expect("the folder is writable");
        let mut command = Command::new(find());
        command
            .arg(format!("--config.file={}", settings.display()))
            .arg(format!("--storage.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", port.number()))
            // Alone; else it would listen on every address for others of its kind.
            .arg("--cluster.listen-address=");
        let number = port.number();
        let ready = || http::get(number, "/-/ready").is_ok();
        let process = Daemon::start("Alertmanager", &mut command, &folder, Signal::SIGKILL, ready);
        Self { folder, port, process: Some(process) }
    }

    /// Host and port, as Prometheus names it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }
}

/// Debian's has a longer name.
fn find() -> PathBuf {
    const PACKAGE: &str = "prometheus-alertmanager";
    programs::on_path(PACKAGE).unwrap_or_else(|| programs::find("alertmanager", PACKAGE))
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        drop(self.process.take());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
