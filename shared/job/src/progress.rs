//! How far a run is: a bar on a terminal, else a log line every 10 s.

use std::{convert::Infallible, io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use tokio::time::Instant;

use crate::Context;

/// Time between two log lines.
const LINE: Duration = Duration::from_secs(10);
/// Time between two looks at the numbers for the bar.
const TICK: Duration = Duration::from_millis(250);

/// Shows progress until it is dropped.
pub(crate) async fn show(ctx: &Context, began: Instant) -> Infallible {
    if std::io::stderr().is_terminal() { bar(ctx).await } else { lines(ctx, began).await }
}

async fn lines(ctx: &Context, began: Instant) -> Infallible {
    let mut before = ctx.tally().scanned;
    loop {
        tokio::time::sleep(LINE).await;
        let tally = ctx.tally();
        let rate = (tally.scanned.saturating_sub(before)) as f64 / LINE.as_secs_f64();
        before = tally.scanned;
        tracing::info!(
            scanned = tally.scanned,
            changed = tally.changed,
            rate_per_second = rate,
            expected = ctx.expected(),
            elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "progress"
        );
    }
}

async fn bar(ctx: &Context) -> Infallible {
    let bar = Cleared(ProgressBar::no_length());
    let mut with_length = false;
    bar.0.set_style(style("{spinner} {pos} scanned, {msg}, {rate}, {elapsed}"));
    loop {
        if let Some(expected) = ctx.expected() {
            if !with_length {
                bar.0.set_style(style("{bar:40} {pos}/{len}, {msg}, {rate}, {eta} left"));
                with_length = true;
            }
            bar.0.set_length(expected);
        }
        let tally = ctx.tally();
        bar.0.set_position(tally.scanned);
        bar.0.set_message(format!("{} changed", tally.changed));
        bar.0.tick();
        tokio::time::sleep(TICK).await;
    }
}

fn style(template: &str) -> ProgressStyle {
    let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        // A bar that cannot be drawn is no reason to stop.
        let _ = write!(out, "{:.0}/s", state.per_sec());
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("rate", rate)
}

/// Takes the bar off the screen when the run ends, however it ends.
struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
