//! What every Rollcall process does at its edges: version, signals, panics, logs, configuration problems.

use std::{
    io::{Write, stderr},
    sync::LazyLock,
};

use identity::codes::ExitCode;
use runtime::{Clock, Random, Stop, config::Problems, telemetry::LogFormat};

/// The git revision, where the build knew it.
pub(crate) const REVISION: Option<&str> = option_env!("ROLLCALL_REVISION");

/// Version and git revision, such as `0.1.0 (3f2c1ab)`.
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| match REVISION {
        Some(revision) => format!("{} ({revision})", env!("CARGO_PKG_VERSION")),
        None => env!("CARGO_PKG_VERSION").to_owned(),
    });
    &VERSION
}

/// An id for a run that was given none: a UUIDv7.
pub fn new_run_id(clock: &Clock, random: &Random) -> String {
    let millis = u64::try_from(clock.now().unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random.bytes()).into_uuid().to_string()
}

/// Runs a process's whole life on one task. SIGTERM and SIGINT ask it to stop; a second one ends it at once.
pub fn run(life: impl AsyncFnOnce(Stop) -> ExitCode) -> std::process::ExitCode {
    tell_panics_in_the_log();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&format!("the asynchronous runtime cannot start: {error}")),
    };
    let code = runtime.block_on(async {
        let stop = match Stop::on_signals() {
            Ok(stop) => stop,
            Err(error) => return refuse(&format!("signals cannot be handled: {error}")),
        };
        tokio::select! {
            biased;
            () = stop.forced() => ExitCode::Stopped.into(),
            code = life(stop.clone()) => code.into(),
        }
    });
    // A look-up of a name may still hang in its thread.
    runtime.shutdown_background();
    code
}

/// Starts logging. A filter that cannot be read is a problem, and logging starts without it.
pub fn start_logs(format: LogFormat, filter: Option<&str>, problems: &mut Problems) {
    if let Err(problem) = runtime::telemetry::start(format, filter) {
        problems.add("RUST_LOG", problem);
        if let Err(error) = runtime::telemetry::start(format, None) {
            refuse(&format!("logging cannot start: {error}"));
        }
    }
}

/// Logs all problems of the configuration: together, for tools, and each on its line, for people.
pub fn tell(problems: &Problems) {
    let lines = problems.lines();
    tracing::error!(problems = serde_json::json!(lines).to_string(), count = lines.len(), "configuration");
    for line in lines {
        tracing::error!("configuration: {line}");
    }
}

/// Prints what clap has to say (help, version, or what is wrong with the command line) and maps it to an exit code.
pub fn usage(error: &clap::Error) -> ExitCode {
    // Nothing can be done when nobody reads it.
    let _ = error.print();
    if error.use_stderr() { ExitCode::Usage } else { ExitCode::Done }
}

/// An environment variable; none where it is not set or not text.
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn tell_panics_in_the_log() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if tracing::dispatcher::has_been_set() {
            let location = panic.location().map(ToString::to_string);
            let message = panic.payload_as_str().unwrap_or("no message");
            tracing::error!(location, "panicked: {message}");
        } else {
            default(panic);
        }
    }));
}

// Before or without logging, standard error is all there is.
fn refuse(message: &str) -> std::process::ExitCode {
    let _ = writeln!(stderr(), "{message}");
    ExitCode::Temporary.into()
}
