//! The temporary folder of this process, and the reaper that ends what runs in it.
//!
//! Destructors do not run in a process that is killed, nor for statics in one that ends in peace. So the cleaning up
//! is left to a small shell process (`reaper.sh`) that notices our end by the end of a pipe. It has a process group of
//! its own, out of reach of Ctrl-C, and ignores a hang-up.

use std::{
    fs::Permissions,
    io::Write,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use nix::sys::signal::Signal;

static HOME: OnceLock<Home> = OnceLock::new();

/// The temporary folder of this process, watched by the reaper.
pub(crate) struct Home {
    folder: PathBuf,
    /// The only write end. The standard library opens pipes close-on-exec, so no child inherits it.
    pipe: Mutex<ChildStdin>,
    next: AtomicUsize,
}

/// The folder of this process, made on first use.
pub(crate) fn home() -> &'static Home {
    HOME.get_or_init(Home::new)
}

impl Home {
    #[expect(clippy::zombie_processes, reason = "the reaper outlives this process by design")]
    fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("rollcall-")
            .tempdir()
            .and_then(|dir| dir.path().canonicalize().inspect(|_| drop(dir.keep())))
            .expect("a temporary folder is needed");
        // Servers that run as another user pass through; their own folders stay theirs.
        std::fs::set_permissions(&folder, Permissions::from_mode(0o711)).expect("the folder is ours");
        let mut reaper = Command::new("/bin/sh")
            .args(["-c", include_str!("reaper.sh"), "reaper"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .expect("/bin/sh is needed");
        let pipe = reaper.stdin.take().expect("standard input is piped");
        Self { folder, pipe: Mutex::new(pipe), next: AtomicUsize::new(1) }
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// A new, empty folder inside, whose name begins with `name`.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.join(format!("{name}-{}", self.next.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&folder).expect("the temporary folder is writable");
        folder
    }

    /// From now on the reaper would end this process group, politely with `signal`.
    pub(crate) fn watch(&self, pid: u32, signal: Signal) {
        let signal = signal.as_str().trim_start_matches("SIG");
        self.tell(&format!("start {pid} {signal}\n"));
    }

    /// The process is gone and its id may be given to another.
    pub(crate) fn forget(&self, pid: u32) {
        self.tell(&format!("end {pid}\n"));
    }

    fn tell(&self, line: &str) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        pipe.write_all(line.as_bytes()).expect("the reaper lives as long as this process");
    }
}
