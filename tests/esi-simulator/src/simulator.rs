//! A running simulator, as its owner sees it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::runtime::{Builder, Runtime};

use crate::control;
use crate::fault::Fault;
use crate::log::{Counts, Recorded};
use crate::script::FaultId;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::token::Signer;
use crate::wire::{Scissors, Wire};
use crate::world::World;

/// Requests are short; more threads would only compete with the client under test.
const WORKER_THREADS: usize = 2;

/// A simulator that serves on its own threads until it is dropped; usable from blocking and asynchronous code.
pub struct Simulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Taken by `drop`.
    runtime: Option<Runtime>,
}

impl Simulator {
    /// Serves `world` on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// If there is no port or no thread to be had: a test can do nothing about it.
    pub fn start(world: World) -> Self {
        Self::start_on((Ipv4Addr::LOCALHOST, 0).into(), world).expect("the simulator finds a port and threads")
    }

    /// Serves `world` on this address; port 0 takes a free one.
    ///
    /// # Errors
    /// The address cannot be bound, or threads cannot be started.
    pub fn start_on(address: SocketAddr, world: World) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(world, Signer::new().map_err(io::Error::other)?));
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .thread_name("esi-simulator")
            .enable_all()
            .build()?;
        let wire = {
            let _entered = runtime.enter();
            Wire(tokio::net::TcpListener::from_std(listener)?)
        };
        let service = control::router(Arc::clone(&shared)).into_make_service_with_connect_info::<Scissors>();
        // It ends with the runtime that `drop` shuts down, and never by itself.
        runtime.spawn(async move { axum::serve(wire, service).await });
        Ok(Self { shared, address, runtime: Some(runtime) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Base of the ESI routes, without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Base of the SSO routes, without a trailing slash.
    pub fn sso_url(&self) -> String {
        self.url()
    }

    /// Reads or changes the world; requests see it before or after, never between.
    pub fn world<R>(&self, change: impl FnOnce(&mut World) -> R) -> R {
        change(&mut self.shared.world_mut())
    }

    /// Reads or changes the settings.
    pub fn settings<R>(&self, change: impl FnOnce(&mut Settings) -> R) -> R {
        self.shared.change_settings(change)
    }

    /// The faults in force.
    pub fn faults(&self) -> Faults<'_> {
        Faults { shared: &self.shared }
    }

    /// The simulated time: `Date`, `Expires`, limits and downtime follow it. SSO's tokens follow the machine's clock,
    /// for that is what the libraries that check them look at.
    pub fn now(&self) -> OffsetDateTime {
        self.shared.now()
    }

    /// Sets the simulated clock, which runs on from there. Error window, buckets, waits and caches start anew.
    pub fn set_time(&self, to: OffsetDateTime) {
        self.shared.set_time(to);
    }

    /// Moves the simulated clock on; what was limited or cached for less than that is free again.
    pub fn advance(&self, by: Duration) {
        self.shared.advance(time::Duration::try_from(by).unwrap_or(time::Duration::MAX));
    }

    /// The last 100,000 requests to ESI and SSO, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.log().entries()
    }

    /// Totals by route and status.
    pub fn counts(&self) -> Counts {
        self.shared.log().counts.clone()
    }

    /// The rules clients broke, oldest first, at most 1000: `POST /characters/affiliation: no User-Agent`.
    pub fn violations(&self) -> Vec<String> {
        self.shared.log().violations.clone()
    }

    /// Forgets requests, counts and violations.
    pub fn clear_requests(&self) {
        self.shared.log().clear();
    }

    /// Waits until the counts satisfy `wanted`; false if they do not within `limit`. For blocking code see
    /// [`Simulator::wait_for_blocking`].
    pub async fn wait_for(&self, limit: Duration, wanted: impl Fn(&Counts) -> bool) -> bool {
        let mut changes = self.shared.changes.subscribe();
        let seen = async {
            while !wanted(&self.shared.log().counts) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, seen).await.is_ok()
    }

    /// [`Simulator::wait_for`] for code outside an asynchronous runtime.
    ///
    /// # Panics
    /// Inside an asynchronous runtime.
    pub fn wait_for_blocking(&self, limit: Duration, wanted: impl Fn(&Counts) -> bool) -> bool {
        self.runtime.as_ref().is_some_and(|runtime| runtime.block_on(self.wait_for(limit, wanted)))
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for the threads is forbidden inside an asynchronous test.
            runtime.shutdown_background();
        }
    }
}

/// The faults in force; see [`Simulator::faults`].
pub struct Faults<'a> {
    shared: &'a Shared,
}

impl Faults<'_> {
    /// Adds a fault; it holds from the next request on.
    pub fn add(&self, fault: Fault) -> FaultId {
        self.shared.script().add(fault)
    }

    /// Removes one fault. False if it was not there.
    pub fn remove(&self, id: FaultId) -> bool {
        self.shared.script().remove(id)
    }

    /// Removes all.
    pub fn clear(&self) {
        self.shared.script().clear();
    }

    /// How many requests the fault has hit; 0 once it is removed.
    pub fn hits(&self, id: FaultId) -> u64 {
        self.shared.script().hits(id)
    }
}
