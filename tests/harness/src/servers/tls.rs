//! Certificates that nobody trusts, and a server that shows one.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::signal::Signal;

use crate::{daemon::Daemon, http::listens, ports::Port, programs, reaper::home};

/// An authority of the test's own, and its certificate for 127.0.0.1. Removed when dropped.
#[derive(Debug)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes them.
    pub fn make() -> Self {
        let folder = home().folder("certificates");
        openssl(&folder, "authority", &["-subj", "/CN=authority"]);
        let for_us = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
        let no_authority = ["-addext", "basicConstraints=critical,CA:FALSE"];
        let signed = ["-CA", "authority.pem", "-CAkey", "authority.key"];
        openssl(&folder, "server", &[for_us.as_slice(), &no_authority, &signed].concat());
        Self { folder }
    }

    /// The authority's certificate, for whoever is to trust it.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// The server's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("server.pem")
    }

    /// Its key.
    pub fn key(&self) -> PathBuf {
        self.folder.join("server.key")
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn openssl(folder: &Path, name: &str, arguments: &[&str]) {
    let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
    let made = Command::new(programs::find("openssl", "openssl"))
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2"])
        .args(["-out", &certificate, "-keyout", &key])
        .args(arguments)
        .env_clear()
        .env("PATH", programs::path())
        .current_dir(folder)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "openssl makes no certificate: {}", String::from_utf8_lossy(&made.stderr));
}

/// An HTTPS server that shows a certificate. Ended when dropped.
#[derive(Debug)]
pub struct TlsServer {
    port: Port,
    _process: Daemon,
}

impl TlsServer {
    /// Starts one with this certificate.
    pub fn start(certificates: &Certificates) -> Self {
        let port = Port::claim();
        let folder = home().folder("tls");
        let mut command = Command::new(programs::find("openssl", "openssl"));
        command.args(["s_server", "-www", "-accept", &format!("127.0.0.1:{}", port.number())]);
        command.arg("-cert").arg(certificates.certificate()).arg("-key").arg(certificates.key());
        let number = port.number();
        let process = Daemon::start("openssl", &mut command, &folder, Signal::SIGKILL, || listens(number));
        Self { port, _process: process }
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}/hook", self.port.number())
    }
}
