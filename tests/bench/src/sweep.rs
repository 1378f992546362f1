//! A whole sweep: floor and job in turn, on the same data.

use std::time::Duration;

use crate::{
    floor,
    ground::{Ground, Run},
    job,
    load::Load,
    simulator::{Calls, Simulator},
    table::Table,
};

/// What a run took of its machine.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Time on processors.
    pub(crate) cpu: Duration,
    /// The most memory, in bytes.
    pub(crate) memory: u64,
}

impl Usage {
    /// The higher of each.
    pub(crate) fn max(self, other: Self) -> Self {
        Self { cpu: self.cpu.max(other.cpu), memory: self.memory.max(other.memory) }
    }
}

/// Measures one load and returns the most that the job used.
pub(crate) async fn measure(ground: &Ground, load: Load, rounds: usize, table: &mut Table) -> Usage {
    let characters = ground.crowd().len();
    let title = load.title(characters);
    let (mut floors, mut jobs) = (Vec::new(), Vec::new());
    let (mut used, mut calls) = (Usage::default(), None);
    for round in 1..=rounds {
        let floor = run_floor(ground, load).await;
        table.say(&format!("{title}: floor {round}: {floor:.1?}"));
        floors.push(floor);
        let (took, usage, asked) = run_job(ground, load).await;
        table.say(&format!("{title}: job {round}: {took:.1?}, ESI: {}", asked.describe()));
        jobs.push(took);
        used = used.max(usage);
        calls = Some(asked);
    }
    table.ratio(&title, characters, &floors, &jobs);
    table.calls(&title, characters, load, &calls.expect("there was a round"));
    used
}

/// Runs the job alone.
pub(crate) async fn usage(ground: &Ground) -> Usage {
    run_job(ground, Load::Changed).await.1
}

async fn run_floor(ground: &Ground, load: Load) -> Duration {
    let run = ground.fresh(load).await;
    let simulator = Simulator::start(0, &load.world(ground.crowd())).await;
    let took = floor::run(&run, simulator.url()).await;
    check(ground, &run, load).await;
    took
}

async fn run_job(ground: &Ground, load: Load) -> (Duration, Usage, Calls) {
    let run = ground.fresh(load).await;
    let simulator = Simulator::start(0, &load.world(ground.crowd())).await;
    let push = ground.pushgateway().await;
    let mut more = vec![("PUSHGATEWAY_URL", push.as_str())];
    if load == Load::Changed {
        // A thousand sessions are more than the safety cap lets go unasked.
        more.push(("APPROVE_MASS_INVALIDATION", "true"));
    }
    let finished = job::run(&run, simulator.url(), &more).await;
    check(ground, &run, load).await;
    let usage = Usage { cpu: finished.cpu, memory: finished.peak_memory };
    (finished.duration, usage, simulator.calls().await)
}

/// Both must have done all of the work.
async fn check(ground: &Ground, run: &Run, load: Load) {
    let characters = ground.crowd().len();
    let sqls = [
        (
            "characters left unverified",
            "SELECT count(*) FROM eve_characters WHERE last_verified_at < now() - interval '1 hour'",
            0,
        ),
        (
            "characters elsewhere",
            "SELECT count(*) FROM eve_characters WHERE corporation_id <> 98000001",
            load.moved(characters),
        ),
        ("candidates left", "SELECT count(*) FROM revocation_candidates", 0),
        ("decisions left", "SELECT count(*) FROM pending_invalidations", 0),
        (
            "audit rows",
            "SELECT count(*) FROM audit_logs WHERE action = 'session.invalidated'",
            load.leavers(characters),
        ),
        ("events", "SELECT count(*) FROM outbox_events", load.leavers(characters)),
    ];
    for (what, sql, expected) in sqls {
        assert_eq!(run.count(sql).await, i64::try_from(expected).expect("a small number"), "{what}");
    }
    assert_eq!(ground.sessions_left().await, 0, "sessions left");
}
