//! Being asked to stop: SIGTERM and SIGINT, also as PID 1.

use std::{future::Future, io, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// A process's wish to stop, seen by everything that holds a copy.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<u32>);

impl Stop {
    /// Listens for SIGTERM and SIGINT from now on; both handlers stand when this returns. PID 1 has no default
    /// handler, so without this a container would ignore SIGTERM until it is killed.
    pub fn on_signals() -> io::Result<Self> {
        let (sender, receiver) = watch::channel(0);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                sender.send_modify(|count| *count += 1);
            }
        });
        Ok(Self(receiver))
    }

    /// Never asked to stop.
    pub fn never() -> Self {
        let (sender, receiver) = watch::channel(0);
        std::mem::forget(sender);
        Self(receiver)
    }

    /// Whether a stop was asked for.
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Returns when a stop is asked for.
    pub async fn stopped(&self) {
        self.signalled(1).await;
    }

    /// Returns at the second signal: whoever sends it will not wait.
    pub async fn forced(&self) {
        self.signalled(2).await;
    }

    async fn signalled(&self, times: u32) {
        if self.0.clone().wait_for(|count| *count >= times).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Runs `work` until it ends or a stop is asked for (`None`, the work is dropped).
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stopped() => None,
            result = work => Some(result),
        }
    }

    /// Sleeps; `false` when a stop cut it short.
    pub async fn sleep(&self, duration: Duration) -> bool {
        self.or(tokio::time::sleep(duration)).await.is_some()
    }
}
