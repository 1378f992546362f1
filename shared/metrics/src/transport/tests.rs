//! Against servers that misbehave. What a good one does is tested with a real Pushgateway in `tests/`.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::*;

/// A server that treats its connections one after the other as told, and gives back what it read.
async fn server(answers: &'static [Option<&str>]) -> (Url, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:hunter2@{}/", listener.local_addr().unwrap()).parse().unwrap();
    let serve = async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            requests.push(read_request(&mut stream).await);
            if let Some(answer) = answer {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
        requests
    };
    (url, tokio::spawn(serve))
}

/// Reads until the body, which the tests end with a full stop, is there.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b".") {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await.unwrap() {
            0 => break,
            read => request.extend_from_slice(&buffer[..read]),
        }
    }
    String::from_utf8(request).unwrap()
}

/// With a time-out that a test can wait for, and with its client made, which takes about as long.
async fn impatient() -> Transport {
    let transport = Transport::new(Duration::from_millis(100));
    transport.client().await.unwrap();
    transport
}

async fn push(url: &Url) -> Result<(), PushError> {
    let transport = Transport::new(TIME_OUT);
    (&transport).push_add(url, b"metrics.".to_vec(), "text/plain").await.map_err(PushError::from)
}

const OK: Option<&str> = Some("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
const BUSY: Option<&str> = Some("HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlater");
const BAD: Option<&str> = Some("HTTP/1.1 400 Bad\r\nConnection: close\r\nContent-Length: 4\r\n\r\n\r\n\t ");
const MOVED: Option<&str> =
    Some("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");

#[tokio::test]
async fn a_cut_connection_is_tried_once_more_with_the_same_request() {
    let (url, server) = server(&[None, OK]).await;
    push(&url).await.unwrap();
    let requests = server.await.unwrap();
    assert_eq!(requests[0], requests[1]);
    assert!(requests[1].starts_with("POST / HTTP/1.1\r\n"), "{}", requests[1]);
    // base64 of user:hunter2
    assert!(requests[1].contains("authorization: Basic dXNlcjpodW50ZXIy\r\n"), "{}", requests[1]);
}

#[tokio::test]
async fn an_error_of_the_server_is_tried_once_more() {
    let (url, server) = server(&[BUSY, OK]).await;
    push(&url).await.unwrap();
    assert_eq!(server.await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_second_error_is_final_and_tells_the_answer() {
    let (url, server) = server(&[BUSY, BUSY]).await;
    let error = push(&url).await.unwrap_err();
    assert_eq!(error.to_string(), "the Pushgateway answered 503 Service Unavailable: later");
    assert_eq!(server.await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_second_cut_is_final_and_tells_no_password() {
    let (url, server) = server(&[None, None]).await;
    let error = push(&url).await.unwrap_err();
    assert!(matches!(error, PushError::Connection(_)), "{error:?}");
    for told in [error.to_string(), format!("{error:?}")] {
        assert!(!told.contains("hunter2") && !told.contains("dXNlcjpodW50ZXIy") && !told.contains("user"), "{told}");
    }
    assert_eq!(server.await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_the_server_refuses_is_not_tried_again() {
    // A second request would find the listener gone and end in another error.
    for (answers, status) in [(&[BAD], 400), (&[MOVED], 302)] {
        let (url, server) = server(answers).await;
        let error = push(&url).await.unwrap_err();
        assert!(
            matches!(&error, PushError::Refused { status: at, body } if *at == status && body == "(no text)"),
            "{error:?}"
        );
        assert_eq!(server.await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_closed_port_is_named_as_what_it_is() {
    // Nobody is given this port by chance, unlike one that was free a moment ago.
    let error = push(&"http://127.0.0.1:1/".parse().unwrap()).await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("connection refused"), "{error}");
}

#[tokio::test]
async fn a_server_that_hangs_is_left_after_the_time_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let transport = impatient().await;
    let error = transport.send(Method::GET, &url, None).await.unwrap_err();
    assert_eq!(error.to_string(), "the Pushgateway did not answer within 100 ms");
    drop(listener);
}

#[tokio::test]
async fn an_answer_that_hangs_in_its_body_is_left_after_the_time_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let half = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad\r\nContent-Length: 100\r\n\r\nhalf").await.unwrap();
        stream
    };
    let transport = impatient().await;
    let (_stream, result) = tokio::join!(half, transport.send(Method::GET, &url, None));
    let error = result.unwrap_err();
    assert!(matches!(error, PushError::TimedOut(_)), "{error:?}");
}

#[tokio::test]
async fn a_long_answer_is_cut() {
    let long = "é\n".repeat(2000);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let answer = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        let head = format!("HTTP/1.1 413 Large\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", long.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        // The client may leave before the end.
        let _ = stream.write_all(long.as_bytes()).await;
    };
    let ((), result) = tokio::join!(answer, push(&url));
    let Err(PushError::Refused { body, .. }) = result else { panic!("{result:?}") };
    assert_eq!(body.chars().count(), BODY);
    assert!(!body.contains('\n'));
}

#[tokio::test]
async fn nothing_is_ever_put() {
    let transport = Transport::new(TIME_OUT);
    let url = "http://127.0.0.1:1/".parse().unwrap();
    let error = PushError::from((&transport).push_all(&url, Vec::new(), "text/plain").await.unwrap_err());
    assert!(matches!(error, PushError::Unsent(_)), "{error:?}");
}
