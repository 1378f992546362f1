//! A receiver of webhooks.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, Response, Uri},
};
use serde_json::Value;
use tokio::{net::TcpListener, sync::oneshot};

use crate::{http::listens, ports::Port, wait::came_true_blocking};

const PATIENCE: Duration = Duration::from_secs(10);

/// How a request is answered: 204 at once, unless told otherwise.
#[derive(Debug, Clone)]
pub struct Answer {
    /// None: the connection ends instead.
    status: Option<u16>,
    headers: Vec<(String, String)>,
    delay: Duration,
    body: Bytes,
}

impl Answer {
    /// This status.
    pub fn status(status: u16) -> Self {
        Self { status: Some(status), headers: Vec::new(), delay: Duration::ZERO, body: Bytes::new() }
    }

    /// No answer at all: the connection ends.
    pub fn none() -> Self {
        Self { status: None, headers: Vec::new(), delay: Duration::ZERO, body: Bytes::new() }
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Only after so long.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

/// A request that arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// `POST`, as a rule.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// By name in small letters.
    pub headers: BTreeMap<String, String>,
    /// To the letter.
    pub body: Vec<u8>,
    /// How many others of its aggregate were not answered yet.
    pub siblings: usize,
}

impl Received {
    /// A header, if it was sent.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// A field of the event.
    pub fn data(&self, field: &str) -> Value {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["data"][field].clone()
    }

    fn aggregate(&self) -> String {
        self.data("aggregate_id").as_str().unwrap_or_default().to_owned()
    }
}

/// What is known of requests, and how they are answered.
#[derive(Debug, Default)]
struct Book {
    received: Vec<Received>,
    /// Aggregates of the requests that are not answered yet.
    open: Vec<String>,
    most_open: usize,
    /// For the next requests, whomever they are about.
    next: VecDeque<Answer>,
    usual: Option<Answer>,
    /// By aggregate; the last one stays.
    scripts: HashMap<String, VecDeque<Answer>>,
}

type Shared = Arc<Mutex<Book>>;

/// An HTTP server on a port of its own, on a thread of its own, that records what it is sent. Ended when dropped.
#[derive(Debug)]
pub struct WebhookReceiver {
    port: Port,
    book: Shared,
    thread: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl WebhookReceiver {
    /// Starts one.
    pub fn start() -> Self {
        let receiver = Self { port: Port::claim(), book: Shared::default(), thread: Mutex::new(None) };
        receiver.start_again();
        receiver
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port.number())
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// How requests are answered from now on.
    pub fn answer(&self, answer: Answer) {
        book(&self.book).usual = Some(answer);
    }

    /// How the next requests are answered, one after the other, whomever they are about; those behind them as before.
    pub fn answer_next(&self, answers: impl IntoIterator<Item = Answer>) {
        book(&self.book).next.extend(answers);
    }

    /// How the requests about an aggregate are answered from now on: one after the other; the last answer stays.
    pub fn answer_about(&self, aggregate_id: &str, answers: impl IntoIterator<Item = Answer>) {
        book(&self.book).scripts.insert(aggregate_id.to_owned(), answers.into_iter().collect());
    }

    /// All requests so far, in the order of their arrival.
    pub fn received(&self) -> Vec<Received> {
        book(&self.book).received.clone()
    }

    /// The most requests that were open at once.
    pub fn most_open(&self) -> usize {
        book(&self.book).most_open
    }

    /// How many requests are not answered yet.
    pub fn open(&self) -> usize {
        book(&self.book).open.len()
    }

    /// Ends it with all its connections; what it recorded stays.
    pub fn stop(&self) {
        assert!(self.end(), "the receiver is already stopped");
    }

    /// Starts it after [`WebhookReceiver::stop`], on the same port.
    pub fn start_again(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(thread.is_none(), "the receiver already runs");
        let (number, book) = (self.port.number(), Arc::clone(&self.book));
        let (end, ended) = oneshot::channel();
        let handle = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            // Connections are tasks of this runtime and end with it.
            runtime.expect("a runtime can be made").block_on(serve(number, book, ended));
        });
        *thread = Some((end, handle));
        assert!(came_true_blocking(PATIENCE, || listens(number)), "the receiver does not listen");
    }

    fn end(&self) -> bool {
        let Some((end, handle)) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return false;
        };
        drop(end);
        let _ = handle.join();
        book(&self.book).open.clear();
        true
    }
}

impl Drop for WebhookReceiver {
    fn drop(&mut self) {
        self.end();
    }
}

fn book(book: &Shared) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(port: u16, book: Shared, ended: oneshot::Receiver<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the port is ours");
    let app = Router::new().fallback(receive).layer(axum::extract::DefaultBodyLimit::disable()).with_state(book);
    tokio::select! {
        _ = axum::serve(listener, app) => (),
        _ = ended => (),
    }
}

/// A request that is not answered yet; whoever asked may also go away.
struct Open {
    book: Shared,
    aggregate: String,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut book = book(&self.book);
        if let Some(place) = book.open.iter().position(|open| *open == self.aggregate) {
            book.open.swap_remove(place);
        }
    }
}

async fn receive(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<axum::body::Body> {
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut received = Received {
        method: method.to_string(),
        path: uri.to_string(),
        headers: headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: body.to_vec(),
        siblings: 0,
    };
    let aggregate = received.aggregate();
    let answer = {
        let mut book = book(&shared);
        received.siblings = book.open.iter().filter(|open| **open == aggregate).count();
        book.received.push(received);
        book.open.push(aggregate.clone());
        book.most_open = book.most_open.max(book.open.len());
        let next = book.next.pop_front();
        let scripted = || {
            let script = book.scripts.get_mut(&aggregate)?;
            if script.len() > 1 { script.pop_front() } else { script.front().cloned() }
        };
        next.or_else(scripted).or_else(|| book.usual.clone()).unwrap_or_else(|| Answer::status(204))
    };
    let _open = Open { book: Arc::clone(&shared), aggregate };
    // The one server whose slowness is what is tested.
    tokio::time::sleep(answer.delay).await;
    // A panic ends the connection's task, and with it the connection; this kind is not reported.
    let Some(status) = answer.status else { std::panic::resume_unwind(Box::new("no answer")) };
    let response = answer
        .headers
        .iter()
        .fold(Response::builder().status(status), |response, (name, value)| response.header(name, value));
    response.body(answer.body.into()).expect("the script is valid HTTP")
}
