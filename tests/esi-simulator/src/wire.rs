//! Connections that can be cut: what a proxy or a dying server does in the middle of an answer.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

const WHOLE: u8 = 0;
const MID_BODY: u8 = 1;
const CUT: u8 = 2;

/// Cuts the connection it belongs to, when the next answer is written.
#[derive(Clone)]
pub(crate) struct Scissors(Arc<AtomicU8>);

impl Scissors {
    /// Nothing more is written.
    pub(crate) fn cut_before_headers(&self) {
        self.0.store(CUT, Ordering::Relaxed);
    }

    /// The next answer goes out up to half of its body.
    pub(crate) fn cut_mid_body(&self) {
        self.0.store(MID_BODY, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, Wire>> for Scissors {
    fn connect_info(stream: IncomingStream<'_, Wire>) -> Self {
        stream.io().scissors.clone()
    }
}

pub(crate) struct Wire(pub(crate) TcpListener);

impl Listener for Wire {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        // Small answers must not wait for an acknowledgement; without it they are merely slower.
        let _ = stream.set_nodelay(true);
        (Connection { stream, scissors: Scissors(Arc::default()) }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

pub(crate) struct Connection {
    stream: TcpStream,
    scissors: Scissors,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

/// Writes are never vectored, so that head and body arrive here in one piece.
impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = match self.scissors.0.load(Ordering::Relaxed) {
            WHOLE => bytes,
            MID_BODY => {
                let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4);
                self.scissors.cut_before_headers();
                &bytes[..head + (bytes.len() - head) / 2]
            }
            _ => return Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
        };
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
