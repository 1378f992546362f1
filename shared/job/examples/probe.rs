//! The smallest job, with a way to end in every manner: for the tests of the runner, and to read.

use std::{cell::Cell, time::Duration};

use identity::codes::ExitCode;
use job::{Batch, CheckLine, Context, Delta, Ending, Flow, Job, JobError, NoCommand, Report, Setup, Sizer, batches};
use runtime::config::{Problems, SecretSpec};

/// Counts to a number, in batches.
#[derive(Debug, clap::Args)]
struct Options {
    /// How far to count
    #[arg(long, env, default_value_t = 10)]
    items: u64,
    /// Items per batch
    #[arg(long, env, default_value_t = 4)]
    batch_size: usize,
    /// How the run ends
    #[arg(long, env, value_parser = ["done", "capped", "fails", "panics", "hangs"], default_value = "done")]
    ending: String,
    /// Pause between batches, in milliseconds
    #[arg(long, env, default_value_t = 0)]
    delay: u64,
}

struct Settings {
    items: u64,
    batch_size: usize,
    ending: String,
    delay: Duration,
}

struct Probe;

impl Job for Probe {
    const NAME: &'static str = "probe";
    const SECRETS: &'static [SecretSpec] = &[SecretSpec { name: "PROBE_KEY", help: "Opens nothing", required: false }];
    type Options = Options;
    type Command = NoCommand;
    type Prepared = Settings;

    fn validate(options: &Options, setup: &Setup, problems: &mut Problems) -> Option<Settings> {
        if setup.secrets.get("PROBE_KEY").is_some_and(|key| key.expose().len() < 4) {
            problems.add("PROBE_KEY", "shorter than 4 characters");
            return None;
        }
        let Options { items, batch_size, ending, delay } = options;
        let (ending, delay) = (ending.clone(), Duration::from_millis(*delay));
        Some(Settings { items: *items, batch_size: *batch_size, ending, delay })
    }

    async fn check(settings: &Settings, _: &Context) -> Vec<CheckLine> {
        vec![CheckLine::ok("items", settings.items.to_string())]
    }

    async fn run(settings: &Settings, ctx: &Context) -> Result<Report, JobError> {
        ctx.expect_total(settings.items);
        ctx.note_counters(|delta| delta.detail("starts", 1));
        let count = Count { ctx, settings, next: Cell::new(0) };
        let end = batches::run(ctx, Sizer::new(settings.batch_size, 2, settings.delay), &count).await?;
        match settings.ending.as_str() {
            "capped" => return Ok(Report::new(Ending::Capped)),
            "fails" => return Err(JobError::retry("told to fail")),
            "panics" => panic!("told to panic"),
            "hangs" => std::future::pending().await,
            _ => {}
        }
        let ending = match end {
            batches::End::Stopped => Ending::Stopped,
            _ if settings.items == 0 => Ending::NothingToDo,
            _ => Ending::Done,
        };
        let remaining = settings.items - count.next.get();
        Ok(Report { remaining, ..Report::new(ending) })
    }

    async fn command(_: &Settings, _: &Context, command: NoCommand) -> Result<ExitCode, JobError> {
        match command {}
    }
}

/// The numbers up to `settings.items`.
struct Count<'a> {
    ctx: &'a Context,
    settings: &'a Settings,
    next: Cell<u64>,
}

impl Batch for Count<'_> {
    type Claimed = u64;
    type Worked = u64;

    async fn claim(&self, size: usize) -> Result<Option<u64>, JobError> {
        let items = (size as u64).min(self.settings.items - self.next.get());
        self.next.set(self.next.get() + items);
        Ok((items > 0).then_some(items))
    }

    async fn work(&self, items: u64) -> Result<u64, JobError> {
        Ok(items)
    }

    async fn checkpoint(&self, batches: Vec<u64>) -> Result<Flow, JobError> {
        let items: u64 = batches.iter().sum();
        let count = |delta: &mut Delta| {
            delta.scanned += items;
            delta.detail("batches", batches.len() as u64);
        };
        if self.ctx.run.dry_run {
            let mut delta = Delta::default();
            count(&mut delta);
            self.ctx.count(delta);
        } else {
            self.ctx
                .checkpoint("count", async |_, delta| {
                    count(delta);
                    Ok::<_, sqlx::Error>(())
                })
                .await?;
        }
        for items in batches {
            tracing::info!(items, "counted a batch");
        }
        Ok(Flow::Continue)
    }
}

fn main() -> std::process::ExitCode {
    job::main::<Probe>()
}
