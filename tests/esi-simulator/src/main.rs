//! The simulator as a process, for benches and local clusters.

use std::io::{self, Write as _};
use std::net::SocketAddr;

use clap::Parser;
use esi_simulator::{Corporation, Generated, Simulator, World};
use tokio::signal::unix::{SignalKind, signal};

/// Serves simulated ESI and EVE SSO until SIGTERM or SIGINT; the first line of output is the address.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Milliseconds every answer takes at least.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// How many characters to generate.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    characters: i64,
    /// Id of the first generated character.
    #[arg(long, default_value_t = 90_000_001)]
    first_id: i64,
    /// Corporations the generated characters are dealt to.
    #[arg(long, value_delimiter = ',', default_value = "98000001")]
    corporations: Vec<i64>,
    /// Alliance those corporations are in, if any.
    #[arg(long)]
    alliance: Option<i64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let options = Options::parse();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let simulator = Simulator::start_on(options.listen, world(&options))?;
    simulator.settings(|settings| {
        settings.latency_ms = options.latency_ms;
        settings.record_ids = false;
    });
    writeln!(io::stdout(), "{}", simulator.address())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn world(options: &Options) -> World {
    let mut world = World::default();
    if let Some(id) = options.alliance {
        world.put_alliance(esi_simulator::Alliance::new(id));
    }
    for &id in &options.corporations {
        world.put_corporation(Corporation::new(id, options.alliance));
    }
    world.generate(Generated {
        first_id: options.first_id,
        count: options.characters,
        corporations: options.corporations.clone(),
    });
    world
}
