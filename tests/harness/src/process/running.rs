//! A process that runs.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::Value;

use super::Finished;
use crate::{
    daemon::{self, children},
    reaper::home,
    wait::{came_true, came_true_blocking},
};

const FORK: Duration = Duration::from_secs(5);

/// A started process. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    is_pid1: bool,
    started: Instant,
    peak_memory: u64,
    cpu: Duration,
    written: Arc<Mutex<Written>>,
    readers: Vec<JoinHandle<()>>,
}

/// What it has written so far.
#[derive(Debug, Default)]
struct Written {
    stdout: String,
    stderr: String,
    log: Vec<Value>,
}

impl Running {
    pub(super) fn start(mut command: Command, is_pid1: bool) -> Self {
        let mut child = command
            .current_dir(home().path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", command.get_program().display()));
        home().watch(child.id(), Signal::SIGKILL);
        let written = Arc::new(Mutex::new(Written::default()));
        let readers = vec![
            read(child.stdout.take(), &written, |written, line| written.stdout.push_str(line)),
            read(child.stderr.take(), &written, |written, line| {
                written.stderr.push_str(line);
                written.log.extend(serde_json::from_str(line).ok().filter(Value::is_object));
            }),
        ];
        Self { child, is_pid1, started: Instant::now(), peak_memory: 0, cpu: Duration::ZERO, written, readers }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It has not ended within `limit`: it is killed, and the message shows what it wrote.
    pub async fn wait(mut self, limit: Duration) -> Finished {
        let mut ended = None;
        came_true(limit, async || {
            ended = self.poll();
            ended.is_some()
        })
        .await;
        let duration = self.started.elapsed();
        let Some(status) = ended else { panic!("still running after {limit:?}{}", self.so_far()) };
        // What it left behind in its group would keep the pipes open.
        daemon::signal(Pid::from_raw(-daemon::pid(self.child.id()).as_raw()), Signal::SIGKILL);
        for reader in self.readers.drain(..) {
            reader.join().expect("readers do not panic");
        }
        let Written { stdout, stderr, log } = std::mem::take(&mut *self.written());
        Finished {
            code: status.code(),
            signal: status.signal(),
            stdout,
            stderr,
            log,
            duration,
            peak_memory: self.peak_memory,
            cpu: self.cpu,
        }
    }

    /// Waits for a log line (a JSON object on standard error) that `wanted` accepts, earlier ones included, and
    /// returns it.
    ///
    /// # Panics
    /// None came within `limit`, or the process ended without it; the message shows what it wrote.
    pub async fn wait_for_log(&mut self, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        came_true(limit, async || {
            // Asked before the log is read: what it wrote last must not be overlooked.
            let is_over = self.poll().is_some() && self.readers.iter().all(JoinHandle::is_finished);
            found = self.written().log.iter().find(|line| wanted(line)).cloned();
            found.is_some() || is_over
        })
        .await;
        found.unwrap_or_else(|| panic!("the log line waited for did not come{}", self.so_far()))
    }

    /// Sends it a signal; as process 1 it gets it from outside, as from a container's runtime.
    pub fn signal(&self, signal: Signal) {
        if signal == Signal::SIGKILL { self.kill() } else { daemon::signal(self.pid(), signal) }
    }

    /// Kills it at once; [`Running::wait`] then tells `signal: Some(9)`.
    pub fn kill(&self) {
        let child = daemon::pid(self.child.id());
        if self.is_pid1 {
            // `unshare` first, so that it neither starts its child just now nor reports that child's death its own way;
            // its own --kill-child takes effect only some time after the child's start.
            daemon::signal(child, Signal::SIGSTOP);
            for pid in daemon::descendants(child) {
                daemon::signal(pid, Signal::SIGKILL);
            }
        } else {
            daemon::signal(child, Signal::SIGKILL);
        }
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.poll().is_none()
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        let pid = daemon::pid(self.child.id());
        if !self.is_pid1 {
            return pid;
        }
        // `unshare` stays as its parent.
        let mut inner = None;
        came_true_blocking(FORK, || {
            inner = children(pid).first().copied();
            inner.is_some()
        });
        inner.unwrap_or_else(|| panic!("unshare has no child{}", self.so_far()))
    }

    fn poll(&mut self) -> Option<ExitStatus> {
        let pid = daemon::pid(self.child.id());
        let pid = if self.is_pid1 { children(pid).first().copied() } else { Some(pid) };
        self.peak_memory = self.peak_memory.max(pid.and_then(peak_memory).unwrap_or(0));
        self.cpu = self.cpu.max(pid.and_then(cpu).unwrap_or_default());
        self.child.try_wait().expect("a child can be waited for")
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn so_far(&self) -> String {
        let written = self.written();
        format!("\n--- stdout\n{}\n--- stderr\n{}", written.stdout, written.stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.kill();
            let _ = self.child.wait();
        }
        // What libfaketime keeps for children of the process, and cannot remove when that is killed.
        for name in ["faketime_shm", "sem.faketime_sem"] {
            let _ = std::fs::remove_file(format!("/dev/shm/{name}_{}", self.child.id()));
        }
        home().forget(self.child.id());
    }
}

/// Hands every line to `store`, on a thread of its own, so that the process never waits for us.
fn read(
    pipe: Option<impl Read + Send + 'static>,
    written: &Arc<Mutex<Written>>,
    store: impl Fn(&mut Written, &str) + Send + 'static,
) -> JoinHandle<()> {
    let mut pipe = BufReader::new(pipe.expect("output is piped"));
    let written = Arc::clone(written);
    std::thread::spawn(move || {
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
            store(&mut written, &String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

/// The most memory the process has held so far, in bytes; none when it has ended.
fn peak_memory(pid: Pid) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Processor time of the process so far, also when it has just ended.
fn cpu(pid: Pid) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Its name may hold blanks and parentheses; what follows does not. User and system time are fields 14 and 15.
    let mut times = stat.rsplit(')').next()?.split_whitespace().skip(11).map(str::parse::<u64>);
    let ticks = times.next()?.ok()? + times.next()?.ok()?;
    // Linux counts them in hundredths of a second for everybody, whatever its own clock.
    Some(Duration::from_millis(ticks * 10))
}
