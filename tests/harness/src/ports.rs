//! Free ports that stay ours while a server on them is stopped and started again.

use std::{
    net::{Ipv4Addr, TcpListener, UdpSocket},
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the range from which systems number outgoing connections, which would take a port while its server is down.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A TCP port of the loopback interface that no other test process will take.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// UDP ports are numbered apart from TCP ports, so this claims the number for as long as we live without being in
    /// the server's way.
    _claim: UdpSocket,
}

impl Port {
    /// A port on which nothing listens.
    pub(crate) fn claim() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Processes started together begin at different places.
        let start = u16::try_from(std::process::id().wrapping_mul(7919) % u32::from(COUNT)).expect("below COUNT");
        for _ in 0..COUNT {
            let offset = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
            let number = FIRST + (start + offset) % COUNT;
            let Ok(claim) = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)) else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self { number, _claim: claim };
            }
        }
        panic!("no port between {FIRST} and {} is free", FIRST + COUNT);
    }

    /// The port's number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
