//! Starts that have little or nothing to do, where start and end are what is paid.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    ground::Ground,
    job,
    load::Load,
    simulator::Simulator,
    table::{Table, milliseconds},
};

const TIMES: usize = 20;
const HELP: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_millis(100);

/// Measures `--help`, and an idle run right after a sweep of everybody.
pub(crate) async fn measure(ground: &Ground, table: &mut Table) {
    let run = ground.run();
    run.vacuum().await;
    let simulator = Simulator::start(0, &Load::Unchanged.world(ground.crowd())).await;
    let push = ground.pushgateway().await;

    let help = median(help_command, &[]);
    table.row("`--help`, median of 20", &format!("< {}", milliseconds(HELP)), &milliseconds(help), Some(help < HELP));

    let idle = median(|| Command::new(job::program()), &job::environment(&run, simulator.url(), &[]));
    let title = format!("idle run beside {} verified characters, median of 20", ground.crowd().len());
    table.row(&title, &format!("≤ {}", milliseconds(IDLE)), &milliseconds(idle), Some(idle <= IDLE));
    let environment = job::environment(&run, simulator.url(), &[("PUSHGATEWAY_URL", &push)]);
    let pushing = median(|| Command::new(job::program()), &environment);
    table.row("the same with its pushes", "", &milliseconds(pushing), None);

    assert_eq!(
        run.count("SELECT count(*) FROM job_runs WHERE outcome = 'nothing_to_do'").await,
        i64::try_from(2 * TIMES).expect("a small number"),
        "idle runs have nothing to do"
    );
    assert_eq!(simulator.calls().await.total(), 0, "an idle run asks ESI nothing");
}

/// Median time from start to end of processes that end well. Waits in the kernel, since polling would be too coarse.
fn median(make: impl Fn() -> Command, environment: &[(String, String)]) -> Duration {
    let mut times: Vec<Duration> = (0..TIMES)
        .map(|_| {
            let mut command = make();
            command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let started = Instant::now();
            let status = command.status().expect("the verifier starts");
            let took = started.elapsed();
            assert!(status.success(), "{command:?}: {status}");
            took
        })
        .collect();
    times.sort();
    times[TIMES / 2]
}

fn help_command() -> Command {
    let mut command = Command::new(job::program());
    command.arg("--help");
    command
}
