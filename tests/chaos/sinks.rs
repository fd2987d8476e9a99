//! Receivers of webhooks, which are at times down, broken, slow or mute, and which remember all that reached them.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::Value;
use shared::process::Process;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{book::Book, place::Place};

/// How late a slow receiver answers.
const SLOW: Duration = Duration::from_secs(2);
/// How long a mute receiver says nothing: longer than anyone waits for it.
const MUTE: Duration = Duration::from_secs(20);
/// Pause between two looks of a mute receiver at whether it may speak, and between two tries to listen.
const PAUSE: Duration = Duration::from_millis(100);
/// Tries to listen on a port again.
const LISTEN_TRIES: usize = 100;

/// How a receiver behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Takes everything.
    Well,
    /// Answers 500.
    Broken,
    /// Takes everything, late.
    Slow,
    /// Never answers.
    Mute,
    /// Does not even listen.
    Away,
}

impl Mode {
    /// For the report.
    pub fn word(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Broken => "broken",
            Self::Slow => "slow",
            Self::Mute => "mute",
            Self::Away => "away",
        }
    }
}

/// One webhook as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// The name of the endpoint that its address is of; none where a job itself asked for it.
    pub endpoint: Option<String>,
    /// Header `webhook-id`.
    pub id: String,
    /// Header `webhook-timestamp`.
    pub timestamp_secs: i64,
    /// Header `webhook-signature`.
    pub signature: String,
    /// The body as it was.
    pub body: String,
    /// Whether it was answered with a 2xx.
    pub taken: bool,
}

impl Received {
    /// The body, or null where it is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Sink {
    port: u16,
    mode: Mutex<Mode>,
    received: Mutex<Vec<Received>>,
    /// Ends the server that listens now.
    serving: Mutex<Option<CancellationToken>>,
    book: Arc<Book>,
}

/// All receivers.
#[derive(Debug, Clone)]
pub struct Sinks {
    sinks: Vec<Arc<Sink>>,
    process: Process,
}

impl Sinks {
    /// Starts all of them, in good health.
    ///
    /// # Errors
    /// When a port is taken.
    pub async fn start(place: &Place, book: &Arc<Book>, process: &Process) -> anyhow::Result<Self> {
        let sinks = place.sink_ports.iter().map(|port| {
            Arc::new(Sink {
                port: *port,
                mode: Mutex::new(Mode::Well),
                received: Mutex::default(),
                serving: Mutex::default(),
                book: book.clone(),
            })
        });
        let sinks = Self { sinks: sinks.collect(), process: process.clone() };
        for sink in &sinks.sinks {
            sinks.listen(sink).await?;
        }
        Ok(sinks)
    }

    /// Changes how one behaves.
    ///
    /// # Errors
    /// When it cannot listen again.
    pub async fn behave(&self, sink: usize, mode: Mode) -> anyhow::Result<()> {
        let sink = &self.sinks[sink % self.sinks.len()];
        *lock(&sink.mode) = mode;
        if mode == Mode::Away {
            if let Some(serving) = lock(&sink.serving).take() {
                serving.cancel();
            }
            return Ok(());
        }
        self.listen(sink).await
    }

    /// Makes all of them well.
    ///
    /// # Errors
    /// When one cannot listen again.
    pub async fn mend(&self) -> anyhow::Result<()> {
        for sink in 0..self.sinks.len() {
            self.behave(sink, Mode::Well).await?;
        }
        Ok(())
    }

    /// Everything that reached any of them.
    pub fn received(&self) -> Vec<Received> {
        self.sinks.iter().flat_map(|sink| lock(&sink.received).clone()).collect()
    }

    /// How many webhooks have reached one.
    pub fn arrivals(&self, sink: usize) -> usize {
        lock(&self.sinks[sink % self.sinks.len()].received).len()
    }

    async fn listen(&self, sink: &Arc<Sink>) -> anyhow::Result<()> {
        if lock(&sink.serving).is_some() {
            return Ok(());
        }
        let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, sink.port)).await;
        for _ in 0..LISTEN_TRIES {
            if listener.is_ok() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            listener = TcpListener::bind((Ipv4Addr::LOCALHOST, sink.port)).await;
        }
        let (listener, stop) = (listener?, CancellationToken::new());
        *lock(&sink.serving) = Some(stop.clone());
        let router = Router::new()
            .route("/hook", post(receive))
            .route("/hook/{endpoint}", post(receive_as))
            .with_state(sink.clone());
        self.process.spawn(async move {
            let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
            drop(served);
        });
        Ok(())
    }
}

/// Takes what a job itself asked for.
async fn receive(State(sink): State<Arc<Sink>>, headers: HeaderMap, body: String) -> StatusCode {
    take(&sink, None, &headers, body).await
}

/// Takes what an endpoint is told.
async fn receive_as(
    State(sink): State<Arc<Sink>>,
    Path(endpoint): Path<String>,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    take(&sink, Some(endpoint), &headers, body).await
}

async fn take(sink: &Sink, endpoint: Option<String>, headers: &HeaderMap, body: String) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let at = {
        let mut received = lock(&sink.received);
        received.push(Received {
            endpoint,
            id: header("webhook-id").to_owned(),
            timestamp_secs: header("webhook-timestamp").parse().unwrap_or(0),
            signature: header("webhook-signature").to_owned(),
            body,
            taken: false,
        });
        received.len() - 1
    };
    let mode = *lock(&sink.mode);
    sink.book.count(&format!("webhooks that met a receiver that was {}", mode.word()));
    match mode {
        Mode::Broken => return StatusCode::INTERNAL_SERVER_ERROR,
        Mode::Slow => tokio::time::sleep(SLOW).await,
        Mode::Mute => {
            let until = tokio::time::Instant::now() + MUTE;
            while tokio::time::Instant::now() < until && *lock(&sink.mode) == Mode::Mute {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Mode::Well | Mode::Away => {}
    }
    lock(&sink.received)[at].taken = true;
    StatusCode::NO_CONTENT
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
