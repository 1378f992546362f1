//! Keeps access true: an EVE character that left the approved organisations loses its session within an hour of ESI
//! showing it.
//!
//! The story of a run: complete what an earlier run decided; see that ESI is up; check tokens; look again at what
//! earlier runs left open; sweep everybody who is due and write the verdicts; only then, with all verdicts standing,
//! ask whether so many sessions may go, confirm each by a second source, record the decision and carry it out.
//!
//! What it refuses to do: to take a session on an unknown answer, on one source, or in a crowd that nobody approved.

mod breaker;
mod check;
mod decide;
mod dry_run;
mod explain;
mod names;
mod observe;
mod options;
mod plan;
mod revoke;
mod run;
mod sweep;
mod take;
mod tokens;

use std::io::IsTerminal;

use clap::Subcommand;
use esi::EsiError;
use identity::codes::ExitCode;
use job::{
    CheckLine, Context, Ending, Job, JobError, Report, Setup,
    batches::{self, End, Sizer},
};
use metrics::verifier as metric;
use runtime::config::{Problems, SecretSpec};
use sessions::SessionError;
use store::lease::Slot;
use tracing::{info, warn};

use crate::{
    dry_run::Preview,
    observe::Cut,
    options::{Options, Settings},
    revoke::Ended,
    run::Run,
    sweep::{Pass, Sweep},
};

/// The job.
#[derive(Debug)]
pub struct CharacterVerifier;

/// Subcommands beyond the runner's.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Tell what is stored of a character, what ESI says, which rule matches and which session would go; changes
    /// nothing and refreshes no token
    Explain {
        /// Id in EVE Online, or our character id (a UUID)
        #[arg(long, env = "EXPLAIN_CHARACTER", value_name = "ID")]
        character: String,
    },
}

impl Job for CharacterVerifier {
    const NAME: &'static str = "character-verifier";
    const SECRETS: &'static [SecretSpec] = options::SECRETS;
    type Options = Options;
    type Command = Command;
    type Prepared = Settings;

    fn validate(options: &Options, setup: &Setup, problems: &mut Problems) -> Option<Settings> {
        options::validate(options, setup, problems)
    }

    async fn check(settings: &Settings, ctx: &Context) -> Vec<CheckLine> {
        check::lines(settings, ctx).await
    }

    async fn run(settings: &Settings, ctx: &Context) -> Result<Report, JobError> {
        let started = tokio::time::Instant::now();
        let run = Run::start(ctx, settings).await?;
        warn_at_start(settings);
        let report = verify(&run).await;
        run.collect_counts();
        ctx.gauge(&metric::DURATION, &[], started.elapsed().as_secs_f64());
        if report.is_ok() {
            match run.gauges().await {
                // Together with the age of the oldest verification, to which the time since is added. A run that fails stamps
                // nothing: however many do, it is known for how long nobody was verified.
                #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit a double")]
                Ok(()) => ctx.gauge(&metric::LAST_RUN, &[], ctx.clock.now().unix_timestamp() as f64),
                // What was done stands; a statistic that could not be had must not make a failure of it.
                Err(error) => warn!(%error, "gauges could not be read"),
            }
        }
        report
    }

    async fn command(settings: &Settings, ctx: &Context, command: Command) -> Result<ExitCode, JobError> {
        match command {
            Command::Explain { character } => explain::explain(settings, ctx, &character).await,
        }
    }
}

fn warn_at_start(settings: &Settings) {
    if settings.esi.user_agent_contact.is_none() {
        warn!("ESI_CONTACT is not set: CCP asks for a contact in the User-Agent and blocks clients it cannot reach");
    }
    if settings.token_checks > 0 && settings.esi.client.is_none() {
        info!("EVE_CLIENT_ID is not set: stored tokens are not checked, transfers of characters are not noticed");
    }
}

/// The run, from what an earlier one decided to the last session.
async fn verify(run: &Run<'_>) -> Result<Report, JobError> {
    let ctx = run.ctx;
    tokens::check_key(run).await?;
    let taken_first = if ctx.run.dry_run { 0 } else { take::pending(run).await? };
    if nothing_is_due(run).await? {
        run.swept.set(true);
        let ending = if taken_first > 0 { Ending::Done } else { Ending::NothingToDo };
        return Ok(Report::new(ending));
    }
    if let Some(reason) = esi_is_down(run).await? {
        return upstream_down(run, reason).await;
    }
    let tokens = tokens::check(run).await?;

    let preview = Preview::default();
    let (mut scanned, mut unknown, mut unlisted) = (0, 0, 0);
    let mut cut_short = None;
    for pass in [Pass::Kept, Pass::Due] {
        let sweep = Sweep::new(run, pass, &preview);
        if pass == Pass::Due {
            expect_total(run).await?;
        }
        let sizer = Sizer::new(run.settings.batch_size, run.settings.esi.concurrency, run.settings.delay);
        let end = batches::run(ctx, sizer, &sweep).await?;
        scanned += sweep.scanned.get();
        unknown += sweep.unknown.get();
        unlisted += sweep.unlisted.get();
        if ctx.stop.is_stopped() {
            return stopped(run).await;
        }
        let out_of_time = end == End::OutOfTime;
        cut_short = match sweep.cut.take() {
            Some(Cut::Down(reason)) => return upstream_down(run, reason).await,
            Some(Cut::Budget) => Some("the error budget of ESI was spent"),
            // Whatever is due here was found before: only ESI can have used up the time.
            cut if (cut == Some(Cut::OutOfTime) || out_of_time) && scanned + taken_first + tokens == 0 => {
                return upstream_down(run, "ESI answered nothing before MAX_RUNTIME was over".to_owned()).await;
            }
            Some(Cut::OutOfTime) => Some("MAX_RUNTIME is over"),
            None if out_of_time => Some("MAX_RUNTIME is over"),
            None if sweep.capped.get() => Some("MAX_CHARACTERS_PER_RUN is reached"),
            None => None,
        };
        if cut_short.is_some() {
            break;
        }
    }
    run.swept.set(cut_short.is_none());
    // A brand that nobody has configured yet must not look like an outage.
    if let Some(reason) = too_many_unknown(run, unknown, scanned - unlisted).await? {
        return upstream_down(run, reason).await;
    }
    if ctx.run.dry_run {
        return dry_run::report(run, &preview).await;
    }
    let mut report = match revoke::revoke(run).await? {
        Ended::Held(trip) => held(&trip),
        Ended::Down(reason) => return upstream_down(run, reason).await,
        Ended::Unfinished if ctx.stop.is_stopped() => return stopped(run).await,
        Ended::Unfinished => {
            let note = "some sessions could not be confirmed and stay until the next run";
            cut_short = cut_short.or(Some(note));
            Report { note: Some(note.to_owned()), ..Report::new(Ending::Done) }
        }
        Ended::Complete if scanned + taken_first + tokens == 0 && cut_short.is_none() => {
            Report::new(Ending::NothingToDo)
        }
        Ended::Complete => Report::new(Ending::Done),
    };
    names::repair(run).await?;
    forget_expired(run).await?;
    if let Some(why) = cut_short {
        report.remaining = remaining(run).await;
        if report.remaining > 0 && report.note.is_none() {
            report.note = Some(format!("{why}; the next run goes on"));
        }
    }
    Ok(report)
}

async fn nothing_is_due(run: &Run<'_>) -> Result<bool, JobError> {
    let tokens = run.settings.token_checks > 0 && run.settings.esi.client.is_some() && !run.ctx.run.dry_run;
    let dry = run.ctx.run.dry_run;
    let (terms, start) = (&run.terms, store::sweep::Place::START);
    if !dry {
        let orphans = async |db: &mut sqlx::PgConnection, _: &mut job::Delta| {
            store::candidates::drop_orphans(db, terms.part).await
        };
        run.ctx.checkpoint("drop orphaned candidates", orphans).await?;
    }
    Ok(run
        .ctx
        .db
        .transaction("look for work", async |db| {
            let due = store::sweep::due(db, terms, start, 1).await?.0.is_empty()
                && store::sweep::kept(db, terms, 0, 1).await?.0.is_empty();
            let never = (time::OffsetDateTime::UNIX_EPOCH, 0);
            Ok::<_, sqlx::Error>(
                due && (!tokens || store::eve_tokens::due(db, terms.part, terms.cutoff, never, 1).await?.is_empty()),
            )
        })
        .await?)
}

/// Says so where too many characters are unknown for any answer to be believed.
async fn too_many_unknown(run: &Run<'_>, unknown: u64, listed: u64) -> Result<Option<String>, JobError> {
    let ratio = run.settings.max_unknown_ratio;
    let too_many = |of: u64| unknown as f64 > of as f64 * ratio;
    if !too_many(listed) {
        return Ok(None);
    }
    // What an interrupted run left over, often just those that are always missing, must not look like an outage: they
    // count beside those whom that run has verified.
    let slot = Slot {
        job: CharacterVerifier::NAME,
        shard_count: run.terms.part.count,
        shard_index: i32::try_from(run.ctx.run.shard.index).unwrap_or(i32::MAX),
        shared: false,
    };
    let before = run
        .ctx
        .db
        .transaction("read interrupted runs", async |db| match store::ledger::goes_on_from(db, slot).await? {
            Some(since) => store::sweep::verified_since(db, &run.terms, since).await,
            None => Ok(0),
        })
        .await?;
    let of = listed + before;
    let reason = || format!("{unknown} of {of} characters are unknown, MAX_UNKNOWN_RATIO allows a share of {ratio}");
    Ok(too_many(of).then(reason))
}

/// Whether ESI as a whole is in no state to be believed.
pub(crate) async fn esi_is_down(run: &Run<'_>) -> Result<Option<String>, JobError> {
    match run.esi.status(run.ctx.budget.work_ends_at()).await {
        Ok(status) if status.vip => Ok(Some("ESI is in VIP mode".to_owned())),
        // A spent budget is no outage: the sweep finds out for itself how far it comes.
        Ok(_) | Err(EsiError::Stopped | EsiError::Budget { .. }) => Ok(None),
        Err(EsiError::Misconfigured(problem)) => Err(JobError::config(format!("ESI refuses this client: {problem}"))),
        Err(error) => Ok(Some(error.to_string())),
    }
}

async fn expect_total(run: &Run<'_>) -> Result<(), JobError> {
    if std::io::stderr().is_terminal() {
        let due = remaining(run).await;
        run.ctx.expect_total(run.settings.max_characters.map_or(due, |cap| due.min(cap)));
    }
    Ok(())
}

/// How many are still due; 0, with a warning, where even that cannot be had: a statistic changes no ending.
async fn remaining(run: &Run<'_>) -> u64 {
    let terms = &run.terms;
    let count = run.ctx.db.transaction("count due characters", async |db| store::sweep::count_due(db, terms).await);
    count.await.unwrap_or_else(|error| {
        warn!(%error, "due characters could not be counted");
        0
    })
}

async fn forget_expired(run: &Run<'_>) -> Result<(), JobError> {
    run.ctx
        .checkpoint("forget expired notes", async |db, _| store::unresolvable::forget_expired(db).await)
        .await
        .map(drop)
}

async fn upstream_down(run: &Run<'_>, reason: String) -> Result<Report, JobError> {
    warn!(reason, "upstream down: nothing further is done, the next run tries again");
    Ok(Report { ending: Ending::UpstreamDown, remaining: remaining(run).await, note: Some(reason) })
}

async fn stopped(run: &Run<'_>) -> Result<Report, JobError> {
    Ok(Report { ending: Ending::Stopped, remaining: remaining(run).await, note: None })
}

fn held(trip: &breaker::Trip) -> Report {
    let note = format!(
        "{trip}. No session was taken; the verdicts are held. See runbooks or `explain`; to act on them run once with \
         APPROVE_MASS_INVALIDATION=true, which confirms each again"
    );
    warn!(note, "circuit breaker open");
    Report { ending: Ending::Capped, remaining: 0, note: Some(note) }
}

/// What a failed step in Redis means for the run.
fn session_error(error: SessionError) -> JobError {
    match error {
        SessionError::Unavailable(error) => JobError::from(error),
        error => JobError::bug(error),
    }
}
