//! Shipped binaries as processes.

mod finished;
mod running;

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    time::Duration,
};

use nix::unistd::Uid;

pub use self::{finished::Finished, running::Running};
use crate::programs;

/// For [`Binary::run`]: far beyond any run of a test, so that only a hang reaches it.
const PATIENCE: Duration = Duration::from_mins(1);

/// A shipped binary, to be started. Its environment is empty but for PATH and what is given here.
#[derive(Debug, Clone)]
pub struct Binary {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    is_pid1: bool,
}

impl Binary {
    /// The binary `name` of this workspace, built in the same profile as the calling executable.
    ///
    /// # Panics
    /// It has not been built.
    pub fn new(name: &str) -> Self {
        let caller = std::env::current_exe().expect("an executable knows where it is");
        let mut folder = caller.parent().expect("an executable is in a folder");
        // Test executables are in target/<profile>/deps, binaries one above.
        if folder.file_name() == Some(OsStr::new("deps")) {
            folder = folder.parent().expect("deps is in a folder");
        }
        let program = folder.join(name);
        assert!(program.is_file(), "{} is missing: build it first, by cargo build --bins", program.display());
        Self::at(program)
    }

    /// Any other program.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        let program = program.into();
        Self { program, arguments: Vec::new(), environment: Vec::new(), is_pid1: false }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable; the last value of a name counts.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Lets it be process 1 of its own process namespace, as in a container, where a signal without a handler does
    /// nothing.
    #[must_use]
    pub fn as_pid1(mut self) -> Self {
        self.is_pid1 = true;
        self
    }

    /// Lets its wall clock be off by so many minutes, as another machine's is. The clock by which it waits stays true.
    ///
    /// # Panics
    /// libfaketime is not installed.
    #[must_use]
    pub fn with_clock_off_by(self, minutes: i32) -> Self {
        self.env("LD_PRELOAD", programs::faketime())
            .env("FAKETIME", format!("{minutes:+}m"))
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }

    /// Starts it.
    pub fn start(&self) -> Running {
        let mut command = if self.is_pid1 {
            let mut command = std::process::Command::new(programs::find("unshare", "util-linux"));
            command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
            if !Uid::effective().is_root() {
                command.arg("--map-root-user");
            }
            command.arg("--").arg(&self.program);
            command
        } else {
            std::process::Command::new(&self.program)
        };
        command.args(&self.arguments).env_clear().env("PATH", programs::path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Running::start(command, self.is_pid1)
    }

    /// Starts it and waits for its end.
    ///
    /// # Panics
    /// It has not ended after a minute; the message shows what it wrote.
    pub async fn run(&self) -> Finished {
        self.start().wait(PATIENCE).await
    }
}
