//! The fault proxy.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    time::{Duration, Instant},
};

use harness::{Fault, FaultProxy, TestDb};
use sqlx::{Connection, PgConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use crate::{LIMIT, MOMENT};

/// A server that sends everything back, and tells what it got.
async fn echo() -> (SocketAddr, mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
                    let _ = tell.send(buffer[..bytes].to_vec());
                    if stream.write_all(&buffer[..bytes]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, told)
}

async fn connect(proxy: &FaultProxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.expect("the proxy listens")
}

async fn say(stream: &mut TcpStream, text: &str) -> Vec<u8> {
    stream.write_all(text.as_bytes()).await.expect("the connection is open");
    let mut answer = vec![0; text.len()];
    let bytes = timeout(LIMIT, stream.read_exact(&mut answer)).await.expect("an answer or an end");
    bytes.map_or(Vec::new(), |_| answer)
}

#[tokio::test]
async fn everything_passes_at_first_also_a_real_protocol() {
    let db = TestDb::new().await;
    let proxy = FaultProxy::start(db.url());
    let mut connection = PgConnection::connect(&proxy.url()).await.unwrap();
    let sql = "-- tests\nSELECT repeat('x', 1000000)";
    let text: String = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
    assert_eq!(text.len(), 1_000_000);
}

#[tokio::test]
async fn the_last_answer_arrives_though_the_server_closes_behind_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = FaultProxy::start(&listener.local_addr().unwrap().to_string());
    let mut client = connect(&proxy).await;
    // The connection that the proxy tried itself may come first.
    let answer = vec![7; 2_000_000];
    let expected = answer.len();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move { stream.write_all(&answer).await });
        }
    });
    let mut got = Vec::new();
    timeout(LIMIT, client.read_to_end(&mut got)).await.unwrap().unwrap();
    assert_eq!(got.len(), expected);
    server.abort();
}

#[tokio::test]
async fn refused_means_refused_and_can_be_undone() {
    let (target, _told) = echo().await;
    let proxy = FaultProxy::start(&target.to_string());
    let mut open = connect(&proxy).await;
    assert_eq!(say(&mut open, "a").await, b"a");
    proxy.set(Fault::Refuse);
    let error = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(say(&mut open, "b").await, b"b", "open connections stay");
    proxy.set(Fault::Pass);
    assert_eq!(say(&mut connect(&proxy).await, "c").await, b"c");
}

#[tokio::test]
async fn hanging_connections_go_on_where_they_stood() {
    let (target, mut told) = echo().await;
    let proxy = FaultProxy::start(&target.to_string());
    let mut old = connect(&proxy).await;
    assert_eq!(say(&mut old, "a").await, b"a");
    assert_eq!(told.recv().await.unwrap(), b"a");
    proxy.set(Fault::Hang);
    let mut new = connect(&proxy).await;
    old.write_all(b"b").await.unwrap();
    new.write_all(b"c").await.unwrap();
    assert!(timeout(MOMENT, told.recv()).await.is_err(), "nothing reaches the target");
    assert_eq!((proxy.held(), proxy.waiting()), (1, 1), "a new connection is not read from yet");
    proxy.set(Fault::Pass);
    for (stream, expected) in [(&mut old, b'b'), (&mut new, b'c')] {
        assert_eq!(timeout(LIMIT, stream.read_u8()).await.unwrap().unwrap(), expected);
    }
    assert_eq!((proxy.held(), proxy.waiting()), (0, 0));
}

#[tokio::test]
async fn new_connections_can_be_led_elsewhere_and_open_ones_stay() {
    let ((first, _told), (second, mut told)) = (echo().await, echo().await);
    let proxy = FaultProxy::start(&first.to_string());
    let mut old = connect(&proxy).await;
    assert_eq!(say(&mut old, "a").await, b"a");
    proxy.lead_to(&second.to_string());
    assert_eq!(say(&mut connect(&proxy).await, "b").await, b"b");
    assert_eq!(told.recv().await.unwrap(), b"b");
    assert_eq!(say(&mut old, "c").await, b"c");
    assert!(told.try_recv().is_err(), "it stays where it led");
}

#[tokio::test]
async fn cutting_ends_open_connections_hanging_ones_too_and_no_later_one() {
    let (target, _told) = echo().await;
    let proxy = FaultProxy::start(&target.to_string());
    let mut open = connect(&proxy).await;
    assert_eq!(say(&mut open, "a").await, b"a");
    proxy.cut();
    assert_eq!(timeout(LIMIT, open.read(&mut [0])).await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);

    let mut hanging = connect(&proxy).await;
    assert_eq!(say(&mut hanging, "b").await, b"b");
    proxy.set(Fault::Hang);
    proxy.cut();
    assert!(timeout(LIMIT, hanging.read(&mut [0])).await.unwrap().is_err());
    proxy.set(Fault::Pass);
    assert_eq!(say(&mut connect(&proxy).await, "c").await, b"c");
}

#[tokio::test]
async fn delay_holds_data_back() {
    let (target, _told) = echo().await;
    let proxy = FaultProxy::start(&target.to_string());
    let mut stream = connect(&proxy).await;
    let delay = Duration::from_millis(60);
    proxy.set(Fault::Delay(delay));
    let start = Instant::now();
    assert_eq!(say(&mut stream, "a").await, b"a");
    assert!(start.elapsed() >= 2 * delay, "once in each direction");
}

#[tokio::test]
async fn an_answer_can_be_lost_though_the_request_arrived() {
    let (target, mut told) = echo().await;
    let proxy = FaultProxy::start(&target.to_string());
    let mut stream = connect(&proxy).await;
    assert_eq!(say(&mut stream, "before").await, b"before");
    assert_eq!(told.recv().await.unwrap(), b"before");
    proxy.set(Fault::CutAfter(0));
    stream.write_all(b"commit").await.unwrap();
    assert_eq!(timeout(LIMIT, told.recv()).await.unwrap().unwrap(), b"commit");
    assert!(timeout(LIMIT, stream.read(&mut [0; 9])).await.unwrap().is_err());
}

#[tokio::test]
async fn an_answer_can_be_cut_in_its_middle() {
    let (target, _told) = echo().await;
    let proxy = FaultProxy::start(&target.to_string());
    let mut stream = connect(&proxy).await;
    proxy.set(Fault::CutAfter(4));
    assert_eq!(say(&mut stream, "four").await, b"four");
    proxy.set(Fault::CutAfter(2));
    stream.write_all(b"more").await.unwrap();
    let mut got = Vec::new();
    let _ = timeout(LIMIT, stream.read_to_end(&mut got)).await.unwrap();
    assert!(got.len() <= 2 && b"more".starts_with(&got), "{got:?}");
}

#[tokio::test]
async fn what_a_proxy_holds_back_never_passes_when_it_is_dropped() {
    let (server, mut told) = echo().await;
    for _ in 0..200 {
        let proxy = FaultProxy::start(&server.to_string());
        let mut stream = connect(&proxy).await;
        assert_eq!(say(&mut stream, "before").await, b"before");
        assert_eq!(told.recv().await.unwrap(), b"before");
        proxy.set(Fault::Hang);
        stream.write_all(b"held").await.unwrap();
        harness::wait_until(LIMIT, "it is held back", async || proxy.held() == 1).await;
        drop(proxy);
    }
    // Whatever had passed would be read before this one.
    let mut direct = TcpStream::connect(server).await.unwrap();
    assert_eq!(say(&mut direct, "last").await, b"last");
    assert_eq!(told.recv().await.unwrap(), b"last");
}
