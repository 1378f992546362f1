//! Finding the servers' programs, and the user they run as.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use nix::unistd::{Gid, Uid, User};

/// Packages put some servers where an ordinary user's PATH does not look.
const SYSTEM_FOLDERS: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// The search path for programs and of the processes started here: ours, and the usual folders.
pub(crate) fn path() -> String {
    match std::env::var("PATH") {
        Ok(path) => format!("{path}:{SYSTEM_FOLDERS}"),
        Err(_) => SYSTEM_FOLDERS.to_owned(),
    }
}

/// A program by name. `package`: what to install when it is missing.
pub(crate) fn find(name: &str, package: &str) -> PathBuf {
    on_path(name).unwrap_or_else(|| {
        panic!("{name} is not installed: install {package}, for example by apt-get install {package}")
    })
}

/// A program by name, if it is installed.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&path()).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// The library by which a program is told another time than it is; distributions have it in folders of their own.
pub(crate) fn faketime() -> PathBuf {
    let folders = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    // Debian's is in one that is named after the machine's architecture.
    let inside = std::fs::read_dir("/usr/lib").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut libraries = inside.chain(folders).map(|folder| folder.join("faketime/libfaketime.so.1"));
    libraries
        .find(|library| library.is_file())
        .expect("libfaketime is not installed: install libfaketime, for example by apt-get install libfaketime")
}

/// The folder of PostgreSQL's server programs: what `pg_config` says, else the newest of Debian's, else by PATH. What
/// happens to be called `postgres` on PATH comes last, since it need not belong to the others.
pub(crate) fn postgres_folder() -> PathBuf {
    configured_folder()
        .or_else(newest_debian_folder)
        .or_else(|| on_path("postgres").and_then(|program| program.parent().map(Path::to_path_buf)))
        .filter(|folder| has_server(folder))
        .expect("PostgreSQL's server (initdb and postgres) is not installed: install postgresql, 15 or newer")
}

fn configured_folder() -> Option<PathBuf> {
    let output = Command::new(on_path("pg_config")?).arg("--bindir").output().ok()?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim())).filter(|folder| has_server(folder))
}

fn newest_debian_folder() -> Option<PathBuf> {
    std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, folder)| has_server(folder))
        .max()
        .map(|(_, folder)| folder)
}

fn has_server(folder: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file())
}

/// The user that servers which refuse to run as root run as: `postgres` when we are root, else ourselves.
pub(crate) struct ServerUser(Option<(Uid, Gid)>);

impl ServerUser {
    /// Looks the user up.
    pub(crate) fn find() -> Self {
        if !Uid::effective().is_root() {
            return Self(None);
        }
        let user = User::from_name("postgres")
            .ok()
            .flatten()
            .expect("as root, PostgreSQL runs as the user postgres, which does not exist: install postgresql");
        Self(Some((user.uid, user.gid)))
    }

    /// Makes `path` this user's.
    pub(crate) fn own(&self, path: &Path) {
        if let Some((uid, gid)) = self.0 {
            std::os::unix::fs::chown(path, Some(uid.as_raw()), Some(gid.as_raw())).expect("root may chown");
        }
    }

    /// A command that runs `program` as this user, without a process in between.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let Some((uid, gid)) = self.0 else { return Command::new(program) };
        let mut command = Command::new(find("setpriv", "util-linux"));
        command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).args(["--clear-groups", "--"]).arg(program);
        command
    }
}
