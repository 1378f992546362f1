//! How a process ends: the exit codes that Kubernetes' `podFailurePolicy`, alerts and operators rely on.

/// One exit code of every Rollcall binary. The numbers are those of `sysexits.h` where it has one, and 128 + 15 for
/// SIGTERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitCode {
    /// Done, or nothing to do, or another run is at it.
    Done = 0,
    /// The command line is wrong.
    Usage = 64,
    /// Bad data that needs a person.
    Data = 65,
    /// A bug.
    Bug = 70,
    /// Temporary; a retry helps.
    Temporary = 75,
    /// A safety cap refused to act.
    Capped = 77,
    /// The configuration is wrong.
    Configuration = 78,
    /// Stopped by SIGTERM after a clean checkpoint.
    Stopped = 143,
}

impl ExitCode {
    /// Every code, ascending.
    pub const ALL: [Self; 8] = [
        Self::Done,
        Self::Usage,
        Self::Data,
        Self::Bug,
        Self::Temporary,
        Self::Capped,
        Self::Configuration,
        Self::Stopped,
    ];

    /// Whether starting the same run again may help without anybody doing anything. What is `false` here must be a
    /// `FailJob` rule in the manifests.
    pub fn retry_helps(self) -> bool {
        matches!(self, Self::Temporary | Self::Stopped)
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
