//! PgBouncer.

use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::postgres::Postgres;
use crate::{
    daemon::Daemon,
    http::listens,
    ports::Port,
    programs::{self, ServerUser},
    reaper::home,
};

/// Few, so that clients really share server connections.
const POOL_SIZE: u32 = 5;

/// A private PgBouncer in transaction mode. Successive transactions of one client get different server connections,
/// so what wrongly relies on a session (advisory locks, SET, prepared statements) breaks here as it does in production.
#[derive(Debug)]
pub struct PgBouncer {
    folder: PathBuf,
    port: Port,
    process: Option<Daemon>,
}

impl PgBouncer {
    /// Starts it before `postgres`, for any of its databases, with 5 server connections to each.
    pub fn start(postgres: &Postgres) -> Self {
        let folder = home().folder("pgbouncer");
        let user = ServerUser::find();
        let port = Port::claim();
        let users = folder.join("users");
        let settings = folder.join("pgbouncer.ini");
        std::fs::write(&users, "\"postgres\" \"\"\n").expect("the folder is writable");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\n\
             pool_mode = transaction\ndefault_pool_size = {POOL_SIZE}\nserver_round_robin = 1\nmax_client_conn = 1000\n\
             server_idle_timeout = 10\nserver_login_retry = 0\nignore_startup_parameters = extra_float_digits\n",
            postgres.port(),
            port.number(),
            users.display(),
        );
        std::fs::write(&settings, text).expect("the folder is writable");
        for path in [&folder, &users, &settings] {
            user.own(path);
        }
        let mut command = user.command(&programs::find("pgbouncer", "pgbouncer"));
        command.arg(&settings);
        let number = port.number();
        let process = Daemon::start("PgBouncer", &mut command, &folder, Signal::SIGTERM, || listens(number));
        Self { folder, port, process: Some(process) }
    }

    /// Where `database` is reached through the pooler.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port.number())
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.process.take());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
