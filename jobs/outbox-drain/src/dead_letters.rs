//! Events that were given up: looking at them, sending them again, dropping them.

use clap::{Args, Subcommand};
use identity::codes::ExitCode;
use job::{Context, JobError, Output, screen};
use store::outbox::dead_letters::{self, DeadLetter, Which};
use time::{UtcOffset, macros::format_description};
use uuid::Uuid;

/// What to do with dead letters.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Show dead letters, oldest first
    List {
        /// Only those of this aggregate, TYPE:ID
        #[arg(long, env = "DEAD_LETTERS_AGGREGATE", value_name = "TYPE:ID", value_parser = aggregate)]
        aggregate: Option<Which>,
        /// How many
        #[arg(id = "dead_letters_limit", long = "limit", env = "DEAD_LETTERS_LIMIT", default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Show one with its payload, or all of an aggregate
    Show(Chosen),
    /// Send them again, before what their aggregate has held back
    Redrive(Chosen),
    /// Drop them for good; what their aggregate has held back goes on
    Discard(Chosen),
}

/// Which ones.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct Chosen {
    /// The one with this event_id
    #[arg(value_name = "EVENT")]
    id: Option<Uuid>,
    /// The same
    #[arg(long, env = "DEAD_LETTERS_EVENT", value_name = "EVENT")]
    event: Option<Uuid>,
    /// All of this aggregate, TYPE:ID
    #[arg(long, env = "DEAD_LETTERS_AGGREGATE", value_name = "TYPE:ID", value_parser = aggregate)]
    aggregate: Option<Which>,
}

fn aggregate(text: &str) -> Result<Which, String> {
    match text.split_once(':') {
        Some((kind, id)) if !kind.is_empty() && !id.is_empty() => {
            Ok(Which::Aggregate { kind: kind.to_owned(), id: id.to_owned() })
        }
        _ => Err("give type and id with a colon between, such as account:0193…".to_owned()),
    }
}

/// Does it.
pub(crate) async fn command(ctx: &Context, command: &Command) -> Result<ExitCode, JobError> {
    match command {
        Command::List { aggregate, limit } => list(ctx, aggregate.as_ref(), *limit).await,
        Command::Show(chosen) => show(ctx, &chosen.which()?).await,
        Command::Redrive(chosen) => {
            let which = chosen.which()?;
            let dry_run = ctx.run.dry_run;
            let redriving = async |tx: &mut sqlx::PgConnection| {
                Ok::<_, sqlx::Error>(match dead_letters::holder(tx, &which).await? {
                    Some(holder) => Err(holder),
                    None if dry_run => Ok(dead_letters::list(tx, Some(&which), i64::MAX).await?),
                    None => Ok(dead_letters::redrive(tx, &which).await?),
                })
            };
            match ctx.db.transaction("redrive dead letters", redriving).await? {
                Ok(letters) => told(ctx, if dry_run { "would redrive" } else { "redriven" }, &letters),
                Err(holder) => Err(JobError::data(format_args!(
                    "later events of its aggregate wait for dead letter {holder} and would overtake that; decide about {holder} \
                     first, or redrive the whole aggregate with --aggregate"
                ))),
            }
        }
        Command::Discard(chosen) => {
            let which = chosen.which()?;
            let dry_run = ctx.run.dry_run;
            let discarding = async |tx: &mut sqlx::PgConnection| {
                if dry_run {
                    return dead_letters::list(tx, Some(&which), i64::MAX).await;
                }
                dead_letters::discard(tx, &which).await
            };
            let letters = ctx.db.transaction("discard dead letters", discarding).await?;
            told(ctx, if dry_run { "would discard" } else { "discarded" }, &letters)
        }
    }
}

impl Chosen {
    fn which(&self) -> Result<Which, JobError> {
        let event = self.id.or(self.event).map(Which::Event);
        event.or_else(|| self.aggregate.clone()).ok_or_else(|| JobError::bug("clap asks for one of the two"))
    }
}

fn told(ctx: &Context, what: &str, letters: &[DeadLetter]) -> Result<ExitCode, JobError> {
    if letters.is_empty() {
        return Err(none());
    }
    if ctx.run.output == Output::Json {
        screen::line(&serde_json::json!(letters).to_string());
    } else {
        for letter in letters {
            screen::line(&format!(
                "{what} {} ({} of {}:{})",
                letter.event_id, letter.event_type, letter.aggregate_type, letter.aggregate_id
            ));
        }
    }
    Ok(ExitCode::Done)
}

async fn list(ctx: &Context, which: Option<&Which>, limit: u32) -> Result<ExitCode, JobError> {
    let what = "read dead letters";
    let letters = ctx.db.transaction(what, async |tx| dead_letters::list(tx, which, limit.into()).await).await?;
    if ctx.run.output == Output::Json {
        screen::line(&serde_json::json!(letters).to_string());
    } else if letters.is_empty() {
        screen::line("no dead letters");
    } else {
        let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
        let rows: Vec<Vec<String>> = letters
            .iter()
            .map(|letter| {
                vec![
                    letter.dead_at.to_offset(UtcOffset::UTC).format(format).unwrap_or_default(),
                    letter.event_id.to_string(),
                    format!("{}:{}", letter.aggregate_type, letter.aggregate_id),
                    letter.event_type.clone(),
                    letter.attempts.to_string(),
                    letter.error.clone(),
                ]
            })
            .collect();
        screen::line(&screen::table(&["DEAD SINCE (UTC)", "EVENT", "AGGREGATE", "TYPE", "TRIES", "REASON"], &rows));
    }
    Ok(ExitCode::Done)
}

async fn show(ctx: &Context, which: &Which) -> Result<ExitCode, JobError> {
    let found = ctx
        .db
        .transaction("read dead letters", async |tx| {
            let mut found = Vec::new();
            for letter in dead_letters::list(tx, Some(which), i64::MAX).await? {
                if let Some(payload) = dead_letters::payload(tx, letter.event_id).await? {
                    found.push((letter, payload));
                }
            }
            Ok::<_, sqlx::Error>(found)
        })
        .await?;
    if found.is_empty() {
        return Err(none());
    }
    let is_json = ctx.run.output == Output::Json;
    let mut all = Vec::new();
    for (letter, payload) in found {
        let text = if is_json { serde_json::to_string(&letter) } else { serde_json::to_string_pretty(&letter) };
        let text = text.map_err(JobError::bug)?;
        let text = text.trim_end_matches('}').trim_end();
        // To the letter: a number beyond 2^53 must not be rounded by us.
        let payload =
            if is_json { format!("\"payload\":{payload}}}") } else { format!("\n  \"payload\": {payload}\n}}") };
        all.push(format!("{text},{payload}"));
    }
    screen::line(&if is_json { format!("[{}]", all.join(",")) } else { all.join("\n") });
    Ok(ExitCode::Done)
}

fn none() -> JobError {
    JobError::data("there is no such dead letter; see dead-letters list")
}
