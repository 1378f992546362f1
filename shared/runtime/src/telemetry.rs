//! Logs: JSON in a pod, readable on a terminal; to standard error, so that results on standard output stay clean.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Starts logging; call once. `filter` is the value of `RUST_LOG`, `info` when absent.
///
/// # Errors
/// The filter, where it cannot be read.
pub fn start(format: LogFormat, filter: Option<&str>) -> Result<(), String> {
    let filter = filter.filter(|filter| !filter.trim().is_empty()).unwrap_or("info");
    // The client library warns of unknown parameters of DATABASE_URL with their values; a mistyped password is one.
    let filter = EnvFilter::try_new(format!("{filter},sqlx_postgres::options=error")).map_err(|e| e.to_string())?;
    let json = match format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = if json {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
    } else {
        let colours = std::io::stderr().is_terminal();
        registry.with(fmt::layer().with_target(false).with_ansi(colours).with_writer(std::io::stderr)).try_init()
    };
    started.map_err(|error| error.to_string())
}
