//! A server that receives webhooks and answers as it is told, or not at all.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use shared::process::Process;
use tokio::{net::TcpListener, sync::watch};

/// One webhook as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    pub id: String,
    pub timestamp: i64,
    pub signature: String,
    /// What it says to be part of; empty where it says nothing.
    pub traceparent: String,
    pub body: String,
}

impl Received {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("a webhook is JSON")
    }

    /// The signature it would have under a secret, worked out as Standard Webhooks describes.
    pub fn signed_with(&self, key: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
        mac.update(format!("{}.{}.{}", self.id, self.timestamp, self.body).as_bytes());
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// Answers in order, then 204 for ever.
type Answers = VecDeque<(u16, Vec<(&'static str, String)>)>;

#[derive(Debug, Default)]
struct Inbox {
    received: Vec<Received>,
    answers: Answers,
}

/// The server.
#[derive(Debug, Clone)]
pub struct Receiver {
    pub url: String,
    inbox: Arc<Mutex<Inbox>>,
    /// Whether it hangs.
    hangs: watch::Sender<bool>,
}

impl Receiver {
    pub async fn start(process: &Process) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen for webhooks");
        let url = format!("http://{}/hook", listener.local_addr().expect("a bound address"));
        let receiver = Self { url, inbox: Arc::default(), hangs: watch::Sender::new(false) };
        let router = Router::new().route("/hook", post(receive)).with_state(receiver.clone());
        let stop = process.clone();
        process.spawn(async move {
            let served =
                axum::serve(listener, router).with_graceful_shutdown(async move { stop.stopping().await });
            served.await.expect("receive webhooks");
        });
        receiver
    }

    /// The next webhook is answered so.
    pub fn answer(&self, status: u16, headers: &[(&'static str, &str)]) {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.inbox.lock().expect("no panic while locked").answers.push_back((status, headers));
    }

    /// From now on nothing is answered.
    pub fn hang(&self) {
        self.hangs.send_replace(true);
    }

    /// Answers all that waits, and what comes from now on.
    pub fn go_on(&self) {
        self.hangs.send_replace(false);
    }

    pub fn received(&self) -> Vec<Received> {
        self.inbox.lock().expect("no panic while locked").received.clone()
    }

    /// Takes a webhook in, and says what it is answered.
    fn take(&self, received: Received) -> (u16, Vec<(&'static str, String)>) {
        let mut inbox = self.inbox.lock().expect("no panic while locked");
        inbox.received.push(received);
        inbox.answers.pop_front().unwrap_or((204, Vec::new()))
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, HeaderMap) {
    let header =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let received = Received {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp").parse().unwrap_or(0),
        signature: header("webhook-signature"),
        traceparent: header("traceparent"),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let (status, extra) = receiver.take(received);
    let mut hangs = receiver.hangs.subscribe();
    drop(hangs.wait_for(|hangs| !*hangs).await.expect("this receiver is there"));
    let mut answered = HeaderMap::new();
    for (name, value) in extra {
        answered.insert(name, value.parse().expect("a header"));
    }
    (StatusCode::from_u16(status).expect("a status"), answered)
}
