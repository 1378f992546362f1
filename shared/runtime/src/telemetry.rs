//! Logs: JSON in a pod, readable on a terminal; to standard error, so that results on standard output stay clean.

use std::io::{self, IsTerminal, Write};

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
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let started = if json {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(io::stderr)).try_init()
    } else {
        let layer = fmt::layer().with_target(false);
        if io::stderr().is_terminal() {
            registry.with(layer.with_ansi(true).with_writer(|| OverBar(io::stderr()))).try_init()
        } else {
            registry.with(layer.with_ansi(false).with_writer(io::stderr)).try_init()
        }
    };
    started.map_err(|error| error.to_string())
}

/// Wipes the line of a progress bar before each log line takes its place; the bar draws itself again below.
struct OverBar<W>(W);

impl<W: Write> Write for OverBar<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(b"\r\x1b[2K")?;
        self.0.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_wipes_the_bar_and_stays_whole() {
        let mut screen = Vec::new();
        OverBar(&mut screen).write_all(b"said\n").unwrap();
        assert_eq!(screen, b"\r\x1b[2Ksaid\n");
    }
}
