//! Doors: ports through which pods reach servers that listen on the loopback interface alone.

use std::net::{IpAddr, SocketAddr};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};

/// Open until dropped, on a thread of its own.
#[derive(Debug)]
pub(crate) struct Doors {
    address: IpAddr,
    runtime: Option<Runtime>,
}

impl Doors {
    /// None yet; `address` is one of this machine's that pods reach.
    pub(crate) fn on(address: IpAddr) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { address, runtime: Some(runtime.expect("a thread can be had")) }
    }

    /// Opens a door to `target` and returns its port.
    pub(crate) fn open(&self, target: SocketAddr) -> u16 {
        // Bound in blocking code: the caller has a runtime of its own.
        let listener = std::net::TcpListener::bind((self.address, 0)).unwrap_or_else(|error| {
            panic!(
                "{} is no address of this machine ({error}): set ROLLCALL_HOST_ADDRESS to one that pods reach, with \
                 kind to what `docker network inspect kind` tells as gateway",
                self.address
            )
        });
        listener.set_nonblocking(true).expect("sockets can be set so");
        let port = listener.local_addr().expect("it is bound").port();
        let runtime = self.runtime.as_ref().expect("set until dropped");
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener).expect("it is a listener")
        };
        // It ends with the runtime, and never by itself.
        runtime.spawn(async move {
            loop {
                let Ok((mut pod, _)) = listener.accept().await else { continue };
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(target).await {
                        let _ = (pod.set_nodelay(true), server.set_nodelay(true));
                        let _ = copy_bidirectional(&mut pod, &mut server).await;
                    }
                });
            }
        });
        port
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for the thread is forbidden inside an asynchronous test.
            runtime.shutdown_background();
        }
    }
}
