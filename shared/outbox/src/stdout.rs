//! Standard output: a JSON object a line. At least once: what is written and not deleted yet is written again after a
//! crash.

use std::{fs::File, os::fd::AsFd, os::unix::fs::MetadataExt};

use tokio::io::{AsyncWriteExt, Stdout};

use crate::{
    Body, Sink,
    sink::{Batch, Fate, Finding, Published, SinkError},
};

/// Standard output.
#[derive(Debug)]
pub struct StdoutSink(tokio::sync::Mutex<Lines>);

#[derive(Debug)]
struct Lines {
    stdout: Stdout,
    /// The last write did not come to its end: maybe in the middle of a line.
    is_torn: bool,
}

impl Default for StdoutSink {
    fn default() -> Self {
        Self(tokio::sync::Mutex::new(Lines { stdout: tokio::io::stdout(), is_torn: false }))
    }
}

impl StdoutSink {
    /// Whether nobody can read what is written: standard output is `/dev/null`, or was closed, which the standard library makes
    /// the same.
    pub fn leads_nowhere() -> bool {
        let device = |file: File| file.metadata().map(|file| file.rdev());
        let stdout = std::io::stdout().as_fd().try_clone_to_owned().map(File::from).and_then(device);
        let null = File::open("/dev/null").and_then(device);
        matches!((stdout, null), (Ok(stdout), Ok(null)) if stdout == null)
    }
}

impl Sink for StdoutSink {
    async fn publish(&self, batch: Batch<'_>) -> Result<Published, SinkError> {
        let mut text = Vec::new();
        for event in batch.events {
            let start = text.len();
            serde_json::to_writer(&mut text, &Body::from(event)).map_err(SinkError::unavailable)?;
            // A payload is kept to the letter, but for line breaks between its parts; none can stand inside a string.
            text[start..].iter_mut().filter(|byte| matches!(**byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
            text.push(b'\n');
        }
        let mut lines = self.0.lock().await;
        if std::mem::replace(&mut lines.is_torn, true) {
            text.insert(0, b'\n');
        }
        let written = async {
            lines.stdout.write_all(&text).await?;
            lines.stdout.flush().await
        };
        match written.await {
            Ok(()) => {
                lines.is_torn = false;
                Ok(Published { fates: vec![Fate::Published; batch.events.len()], last_number: None, trouble: None })
            }
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(SinkError::Closed),
            Err(error) => Err(SinkError::unavailable(format_args!("standard output: {error}"))),
        }
    }

    async fn check(&self) -> Vec<Finding> {
        vec![Finding::Good("standard output".to_owned())]
    }
}
