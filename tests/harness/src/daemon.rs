//! One server process.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{programs, reaper::home, wait::came_true_blocking};

/// Generous: a cold machine that builds something else at the same time.
const START: Duration = Duration::from_mins(1);
const END: Duration = Duration::from_secs(10);

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
    end: Signal,
}

impl Daemon {
    /// Starts `command` inside `folder`, its output in `folder/log`, and waits until `ready`. `end` is the signal on
    /// which it ends at once without leaving anything behind.
    pub(crate) fn start(
        name: &'static str,
        command: &mut Command,
        folder: &Path,
        end: Signal,
        ready: impl FnMut() -> bool,
    ) -> Self {
        let log = folder.join("log");
        let output = File::options().create(true).append(true).open(&log).expect("the folder is writable");
        let child = command
            .env_clear()
            .env("PATH", programs::path())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file can be shared"))
            .stderr(output)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        home().watch(child.id(), end);
        let mut daemon = Self { name, child, log, end };
        daemon.wait_until(ready);
        daemon
    }

    fn wait_until(&mut self, mut ready: impl FnMut() -> bool) {
        let mut ended = None;
        let came = came_true_blocking(START, || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some() || ready()
        });
        match ended {
            Some(status) => panic!("{} ended at its start ({status}); it said:\n{}", self.name, self.said()),
            None => assert!(came, "{} is not ready after {START:?}; it said:\n{}", self.name, self.said()),
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Stops the process and its descendants where they stand, as a hung server does.
    pub(crate) fn freeze(&self) {
        // The parent before its children are looked up, so that it starts no further one meanwhile.
        signal(self.pid(), Signal::SIGSTOP);
        for pid in descendants(self.pid()) {
            signal(pid, Signal::SIGSTOP);
        }
        // A thread that is running on another core stops a little later, and could answer until then.
        let stand = || descendants(self.pid()).into_iter().all(stands);
        assert!(came_true_blocking(END, stand), "{} does not stop", self.name);
    }

    /// Undoes [`Daemon::freeze`].
    pub(crate) fn thaw(&self) {
        for pid in descendants(self.pid()) {
            signal(pid, Signal::SIGCONT);
        }
    }

    /// Ends the process with `with`, or by force when it does not listen.
    pub(crate) fn end(&mut self, with: Signal) -> Option<ExitStatus> {
        self.thaw();
        signal(self.pid(), with);
        let mut status = None;
        let ended = came_true_blocking(END, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        if !ended {
            for pid in descendants(self.pid()) {
                signal(pid, Signal::SIGKILL);
            }
            status = self.child.wait().ok();
        }
        status
    }

    /// The process's id.
    pub(crate) fn pid(&self) -> Pid {
        pid(self.child.id())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.end(self.end);
        }
        home().forget(self.child.id());
    }
}

/// A process id as signals take it.
pub(crate) fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("process ids are small"))
}

/// Sends a signal; a process that is gone does not mind.
pub(crate) fn signal(pid: Pid, signal: Signal) {
    let _ = kill(pid, signal);
}

/// The process and all its descendants, parents first.
pub(crate) fn descendants(pid: Pid) -> Vec<Pid> {
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(children(parent));
        next += 1;
    }
    family
}

/// Whether all threads of a process are stopped.
fn stands(pid: Pid) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok())
        // The name before the state is in parentheses and may hold anything; a zombie answers nobody either.
        .all(|stat| stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with(['T', 't', 'Z', 'X'])))
}

/// The processes that `pid` started and that still run.
pub(crate) fn children(pid: Pid) -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace().filter_map(|id| id.parse().ok().map(Pid::from_raw)).collect::<Vec<_>>()
        })
        .collect()
}
