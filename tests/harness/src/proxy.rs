//! A TCP proxy that fails on demand, for a dependency that breaks in the middle of a run.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

use crate::{http::listens, ports::Port, wait::came_true_blocking};

const CONNECT: Duration = Duration::from_secs(5);

/// What the proxy does to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: data pass.
    Pass,
    /// Nobody listens: new connections are refused. Open ones stay and pass data; see [`FaultProxy::cut`].
    Refuse,
    /// Connections are accepted and kept open, new and old, and nothing passes in either direction until the fault is
    /// changed.
    Hang,
    /// Everything passes, each piece later by this much, in both directions.
    Delay(Duration),
    /// Each connection is cut when the target wants to answer more than so many bytes from now on; so at 0 a request
    /// reaches the target and its answer is lost.
    CutAfter(u64),
}

/// Every change is a new round, by which connections notice it.
#[derive(Debug, Clone, Copy)]
struct Orders {
    target: SocketAddr,
    fault: Fault,
    round: u64,
    /// Connections opened before this round are to be cut.
    cut_before: u64,
}

/// A proxy on a port of its own before one target, on a thread of its own. Ended when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    port: Port,
    original: String,
    orders: Option<watch::Sender<Orders>>,
    kept: Arc<Kept>,
    thread: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// Starts one that passes everything to `target`: an address (`127.0.0.1:5432`) or a URL with one.
    ///
    /// # Panics
    /// There is no IP address with a port in it.
    pub fn start(target: &str) -> Self {
        let port = Port::claim();
        let number = port.number();
        let (orders, heard) =
            watch::channel(Orders { target: address(target), fault: Fault::Pass, round: 0, cut_before: 0 });
        let kept = Arc::new(Kept::default());
        let keeping = Arc::clone(&kept);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(serve(number, heard, keeping));
        });
        let proxy = Self { port, original: target.to_owned(), orders: Some(orders), kept, thread: Some(thread) };
        proxy.await_listening(true);
        proxy
    }

    /// The target as it was given, with the proxy's address in place of its own.
    pub fn url(&self) -> String {
        self.original.replacen(authority(&self.original), &self.address(), 1)
    }

    /// Host and port of the proxy.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Changes what it does, from now on. When this returns, new connections meet the fault.
    pub fn set(&self, fault: Fault) {
        let mut before = fault;
        self.order(|orders| before = std::mem::replace(&mut orders.fault, fault));
        if (before == Fault::Refuse) != (fault == Fault::Refuse) {
            self.await_listening(fault != Fault::Refuse);
        }
    }

    /// Cuts all connections that are open now, at once and without a farewell.
    pub fn cut(&self) {
        self.order(|orders| orders.cut_before = orders.round);
    }

    /// Leads new connections elsewhere, as a Service or a name does after a failover. Open ones stay where they lead.
    ///
    /// # Panics
    /// There is no IP address with a port in it.
    pub fn lead_to(&self, target: &str) {
        let target = address(target);
        self.order(|orders| orders.target = target);
    }

    /// How many pieces of data for the target it holds back just now, since it hangs.
    pub fn held(&self) -> usize {
        self.kept.data.load(Ordering::SeqCst)
    }

    /// How many new connections it has not begun to serve, since it hangs.
    pub fn waiting(&self) -> usize {
        self.kept.connections.load(Ordering::SeqCst)
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        self.orders.as_ref().expect("set until dropped").send_modify(|orders| {
            orders.round += 1;
            change(orders);
        });
    }

    fn await_listening(&self, expected: bool) {
        let came = came_true_blocking(CONNECT, || listens(self.port.number()) == expected);
        assert!(came, "the proxy on {} does not follow", self.address());
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn address(target: &str) -> SocketAddr {
    authority(target).parse().unwrap_or_else(|error| panic!("{target} names no address and port: {error}"))
}

/// Host and port in a URL, or the whole text where it is none.
fn authority(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = after_scheme.split(['/', '?']).next().unwrap_or(after_scheme);
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// What is held back just now.
#[derive(Debug, Default)]
struct Kept {
    data: AtomicUsize,
    connections: AtomicUsize,
}

/// Accepts until the orders' sender is gone; then everything ends with this future.
async fn serve(port: u16, mut heard: watch::Receiver<Orders>, kept: Arc<Kept>) {
    let mut connections = JoinSet::new();
    loop {
        let Orders { fault, .. } = *heard.borrow_and_update();
        if fault == Fault::Refuse {
            if heard.changed().await.is_err() {
                return;
            }
            continue;
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the port is ours");
        while heard.borrow_and_update().fault != Fault::Refuse {
            tokio::select! {
                accepted = listener.accept() => if let Ok((client, _)) = accepted {
                    connections.spawn(connection(client, heard.clone(), Arc::clone(&kept)));
                },
                changed = heard.changed() => if changed.is_err() { return },
                _ = connections.join_next(), if !connections.is_empty() => (),
            }
        }
    }
}

/// Serves one connection until both sides have ended it, or it is cut.
async fn connection(mut client: TcpStream, mut heard: watch::Receiver<Orders>, kept: Arc<Kept>) {
    let Orders { target, round: opened, .. } = *heard.borrow();
    let mut cut = heard.clone();
    let work = async {
        {
            let hangs = heard.borrow().fault == Fault::Hang;
            let _waits = hangs.then(|| Held::new(&kept.connections));
            wait_while_hanging(&mut heard).await;
        }
        let Ok(mut server) = TcpStream::connect(target).await else { return Err(Cut) };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (client_read, client_write) = client.split();
        let (server_read, server_write) = server.split();
        let result = tokio::try_join!(
            pass(client_read, server_write, heard.clone(), Some(&kept.data)),
            pass(server_read, client_write, heard.clone(), None),
        );
        result.map(drop)
    };
    let result = tokio::select! {
        result = work => result,
        _ = cut.wait_for(|orders| opened < orders.cut_before) => Err(Cut),
    };
    if result.is_err() {
        // Closing then resets the connection instead of saying farewell.
        let _ = client.set_zero_linger();
    }
}

async fn wait_while_hanging(heard: &mut watch::Receiver<Orders>) {
    if heard.wait_for(|orders| orders.fault != Fault::Hang).await.is_err() {
        // The proxy is dropped: what it holds back must not pass now.
        std::future::pending::<()>().await;
    }
}

/// The connection is to end in both directions at once.
struct Cut;

/// A new connection or a piece of data that is held back, counted until it is passed on or dropped.
struct Held<'a>(&'a AtomicUsize);

impl<'a> Held<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Passes data on in one direction until their end; towards the target, what is held back is counted in `held`.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut heard: watch::Receiver<Orders>,
    held: Option<&AtomicUsize>,
) -> Result<(), Cut> {
    let mut buffer = vec![0; 16 * 1024];
    let mut round = 0;
    let mut passed = 0;
    loop {
        let bytes = from.read(&mut buffer).await.map_err(|_| Cut)?;
        let hangs = heard.borrow().fault == Fault::Hang;
        let _held = held.filter(|_| hangs && bytes > 0).map(Held::new);
        wait_while_hanging(&mut heard).await;
        if bytes == 0 {
            return to.shutdown().await.map_err(|_| Cut);
        }
        let orders = *heard.borrow();
        if orders.round != round {
            (round, passed) = (orders.round, 0);
        }
        let mut data = &buffer[..bytes];
        match orders.fault {
            Fault::Delay(by) => tokio::time::sleep(by).await,
            Fault::CutAfter(limit) if held.is_none() => {
                let left = usize::try_from(limit - passed).unwrap_or(usize::MAX);
                data = &data[..bytes.min(left)];
            }
            _ => (),
        }
        to.write_all(data).await.map_err(|_| Cut)?;
        if data.len() < bytes {
            return Err(Cut);
        }
        passed += data.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::authority;

    #[test]
    fn the_address_is_found_in_urls_and_alone() {
        for (url, expected) in [
            ("127.0.0.1:5432", "127.0.0.1:5432"),
            ("postgres://user:word@127.0.0.1:5432/db?a=b", "127.0.0.1:5432"),
            ("http://127.0.0.1:9091", "127.0.0.1:9091"),
            ("redis://127.0.0.1:6379/3", "127.0.0.1:6379"),
        ] {
            assert_eq!(authority(url), expected);
        }
    }
}
