//! A job's whole life: command line, configuration, logs, and then what was asked for.

use std::time::Duration;

use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand, value_parser};
use identity::codes::ExitCode;
use runtime::{
    Clock, Stop,
    config::{self, Problems, SecretSpec, Secrets},
};

use crate::{
    Common, Job, JobError, Outcome, Output, Setup, check,
    lease_guard::Part,
    options, process,
    push::Reporter,
    run::{self, context},
    setup::Settings,
    status,
};

/// Pause before a worker begins anew after a failure that may pass.
const AGAIN: Duration = Duration::from_secs(5);

/// The whole process of job `J`, from the command line to the exit code.
pub fn main<J: Job>() -> std::process::ExitCode {
    process::run(async |stop| live::<J>(&stop).await)
}

async fn live<J: Job>(stop: &Stop) -> ExitCode {
    let mut problems = Problems::default();
    let matches = match config::parse(&command::<J>(), std::env::args_os(), process::env, &mut problems) {
        Ok(matches) => matches,
        Err(error) => return unreadable::<J>(&error).await,
    };
    let asked = match Asked::<J>::read(&matches) {
        Ok(asked) => asked,
        Err(error) => return unreadable::<J>(&error).await,
    };
    process::start_logs(asked.common.log_format, process::env("RUST_LOG").as_deref(), &mut problems);
    if let Action::Status { limit } = asked.action {
        return exit(status::<J>(limit, asked.common.output, stop).await);
    }
    if let Action::Own(command) = &asked.action
        && let Some(ended) = J::alone(&asked.options, &Clock::System, command)
    {
        return exit(ended);
    }
    let (setup, mut settings) = set_up::<J>(asked.common, &mut problems);
    settings.is_worker = matches!(&asked.action, Action::Own(command) if J::is_worker(command));
    let prepared = J::validate(&asked.options, &setup, &mut problems);
    if let Action::Check = asked.action {
        let checked = stop.or(Box::pin(check::check::<J>(&setup, &settings, prepared.as_ref(), &problems, stop))).await;
        return checked.unwrap_or(ExitCode::Stopped);
    }
    let prepared = match prepared {
        Some(prepared) if problems.is_empty() => prepared,
        prepared => {
            if prepared.is_none() && problems.is_empty() {
                problems.add(J::NAME, "the settings were refused without a reason; this is a bug");
            }
            process::tell(&problems);
            if let (Action::Own(_), false) = (&asked.action, settings.is_worker) {
                return ExitCode::Configuration;
            }
            return refused::<J>(&setup, &settings, &problems).await;
        }
    };
    let command = if let Action::Own(command) = &asked.action { Some(command) } else { None };
    settings.needs_redis = J::needs_redis(&prepared, command);
    if let (Action::Own(command), false) = (asked.action, settings.is_worker) {
        return exit(own::<J>(&setup, &settings, &prepared, command, stop).await);
    }
    loop {
        let outcome = Box::pin(run::run::<J>(&asked.options, &setup, &settings, &prepared, stop)).await;
        let code = outcome.tell(setup.common.output);
        // A worker outlives what its servers do: a new process would come after ever longer pauses.
        if !settings.is_worker || code != ExitCode::Temporary {
            return code;
        }
        settings.is_retry = true;
        if !stop.sleep(AGAIN).await {
            return ExitCode::Stopped;
        }
    }
}

/// What the command line asks for.
struct Asked<J: Job> {
    action: Action<J::Command>,
    common: Common,
    options: J::Options,
}

enum Action<C> {
    Run,
    Check,
    Status { limit: u16 },
    Own(C),
}

impl<J: Job> Asked<J> {
    fn read(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let action = match matches.subcommand() {
            None | Some(("run", _)) => Action::Run,
            Some(("check", _)) => Action::Check,
            Some(("status", found)) => Action::Status { limit: found.get_one("limit").copied().unwrap_or(10) },
            Some(_) => Action::Own(J::Command::from_arg_matches(matches)?),
        };
        // Options may stand before and after the subcommand; the innermost sees both.
        let mut leaf = matches;
        while let Some((_, inner)) = leaf.subcommand() {
            leaf = inner;
        }
        Ok(Self { action, common: Common::from_arg_matches(leaf)?, options: J::Options::from_arg_matches(leaf)? })
    }
}

/// The command line of job `J`. The doc comment of its options is what `--help` says about it.
pub fn command<J: Job>() -> Command {
    let command = J::Command::augment_subcommands(Command::new(J::NAME));
    let command = Common::augment_args(command).next_help_heading(None::<&str>);
    let limit = clap::Arg::new("limit")
        .long("limit")
        .env("STATUS_LIMIT")
        .value_name("N")
        .default_value("10")
        .value_parser(value_parser!(u16).range(1..=1000))
        .help("How many");
    J::Options::augment_args(command)
        .mut_args(|argument| argument.global(true))
        .version(process::version())
        .subcommand(Command::new("run").about("Do the work once (default)"))
        .subcommand(Command::new("check").about("Validate the configuration and reach every dependency, one line each"))
        .subcommand(Command::new("status").about("Show the last runs").arg(limit))
        .subcommand_required(false)
        .max_term_width(100)
        .after_help(secrets_help(&secrets::<J>()))
}

fn set_up<J: Job>(common: Common, problems: &mut Problems) -> (Setup, Settings) {
    let secrets = Secrets::read(&secrets::<J>(), process::env, problems);
    let setup = Setup::new(common, secrets, problems);
    let settings = setup.settings(J::NAME, problems);
    (setup, settings)
}

fn secrets<J: Job>() -> Vec<SecretSpec> {
    options::SECRETS.iter().chain(J::SECRETS).copied().collect()
}

/// The section of `--help` about settings that are no flags.
pub fn secrets_help(secrets: &[SecretSpec]) -> String {
    let width = secrets.iter().map(|secret| secret.name.len()).max().unwrap_or(0);
    let mut lines = vec!["Secrets (environment only; NAME_FILE names a file that holds the value):".to_owned()];
    lines.extend(secrets.iter().map(|SecretSpec { name, help, required }| {
        let required = if *required { " (required)" } else { "" };
        format!("  {name:<width$}  {help}{required}")
    }));
    lines.push(String::new());
    lines.push("Logs go to standard error; RUST_LOG filters them (default: info).".to_owned());
    lines.join("\n")
}

/// A command line that nobody understands, or one that asks for help. If it can only have been meant for a run, the metrics
/// tell that it failed, by the settings of the environment.
async fn unreadable<J: Job>(error: &clap::Error) -> ExitCode {
    let code = process::usage(error);
    let words: Vec<String> = std::env::args().skip(1).collect();
    if code != ExitCode::Usage || !means_a_run(&words) {
        return code;
    }
    let mut problems = Problems::default();
    let alone = [J::NAME.into()];
    let Ok(matches) = config::parse(&command::<J>(), alone, process::env, &mut problems) else { return code };
    let Ok(asked) = Asked::<J>::read(&matches) else { return code };
    process::start_logs(asked.common.log_format, process::env("RUST_LOG").as_deref(), &mut problems);
    let (setup, settings) = set_up::<J>(asked.common, &mut problems);
    failed_early::<J>(&setup, &settings, &problems, JobError::usage("the command line cannot be read")).await;
    code
}

/// Whether nothing in the command line can be a subcommand or a dry run, misspelt.
fn means_a_run(words: &[String]) -> bool {
    let is_value = |word: &String| word.starts_with(|first: char| first.is_ascii_digit());
    words.iter().all(|word| {
        matches!(&**word, "run" | "worker") || is_value(word) || word.starts_with('-') && !word.contains("dry")
    })
}

/// Tells the metrics that a run failed before it began.
async fn failed_early<J: Job>(setup: &Setup, settings: &Settings, problems: &Problems, error: JobError) -> Outcome {
    let outcome = Outcome::blank(J::NAME, &settings.run_id, setup.common.dry_run).reported(Err(error));
    // A wrong DRY_RUN may have meant a dry run, which tells nobody.
    if !problems.lines().iter().any(|line| line.starts_with("DRY_RUN:")) {
        Reporter::new(J::NAME, setup, settings).failed_early(&outcome, setup.clock.now()).await;
    }
    outcome
}

/// A run whose configuration is wrong.
async fn refused<J: Job>(setup: &Setup, settings: &Settings, problems: &Problems) -> ExitCode {
    let error = JobError::config(format_args!("configuration: {problems}"));
    let outcome = failed_early::<J>(setup, settings, problems, error).await;
    outcome.tell(setup.common.output)
}

/// Whatever else is wrong with the configuration must not keep anybody from looking.
async fn status<J: Job>(limit: u16, output: Output, stop: &Stop) -> Result<ExitCode, JobError> {
    let mut problems = Problems::default();
    let specs = options::SECRETS.iter().filter(|secret| secret.name == "DATABASE_URL").copied().collect::<Vec<_>>();
    let secrets = Secrets::read(&specs, process::env, &mut problems);
    let database = secrets.get("DATABASE_URL").and_then(|url| {
        runtime::db::options(url, J::NAME).map_err(|problem| problems.add("DATABASE_URL", problem)).ok()
    });
    let Some(database) = database else { return Err(JobError::config(problems)) };
    match stop.or(Box::pin(status::status(J::NAME, &database, limit, output))).await {
        None => Ok(ExitCode::Stopped),
        Some(result) => result.map(|()| ExitCode::Done),
    }
}

async fn own<J: Job>(
    setup: &Setup,
    settings: &Settings,
    prepared: &J::Prepared,
    command: J::Command,
    stop: &Stop,
) -> Result<ExitCode, JobError> {
    let work = async {
        let connections = run::connect(setup, settings).await?;
        let now = connections.now;
        let ctx = context(setup, settings, connections, stop, Part::Bystander, now);
        let code = J::command(prepared, &ctx, command).await;
        ctx.db.close().await;
        code
    };
    stop.or(Box::pin(work)).await.unwrap_or(Ok(ExitCode::Stopped))
}

fn exit(result: Result<ExitCode, JobError>) -> ExitCode {
    result.unwrap_or_else(|error| {
        tracing::error!("{error}");
        error.exit_code()
    })
}
