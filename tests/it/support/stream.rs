//! Server-sent events as a test hears them, one after the other.

use reqwest::{RequestBuilder, Response, StatusCode, header::HeaderMap};
use serde_json::Value;
use shared::id::JobId;

/// A stream that has begun.
pub struct Events {
    response: Response,
    pub headers: HeaderMap,
    /// What has arrived of the next event.
    rest: Vec<u8>,
}

/// One event.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    pub event: String,
    pub id: String,
    pub data: String,
}

impl Heard {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }
}

impl Events {
    /// Sends a request and expects events.
    pub async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("the API answers");
        let (status, headers) = (response.status(), response.headers().clone());
        if status != StatusCode::OK {
            panic!("no events: {status} {}", response.text().await.unwrap_or_default());
        }
        assert_eq!(headers["content-type"], "text/event-stream");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["x-accel-buffering"], "no", "no proxy is to gather them");
        Self { response, headers, rest: Vec::new() }
    }

    /// The job that the request became.
    pub fn job(&self) -> JobId {
        self.headers["x-kiln-job"].to_str().expect("text").parse().expect("a job")
    }

    /// The next event; comments are passed over. `None`: the stream has ended.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            let heard = read(&self.frame().await?);
            if !heard.data.is_empty() {
                return Some(heard);
            }
        }
    }

    /// Expects that a comment comes next, by which a connection is kept.
    pub async fn beat(&mut self) {
        let frame = self.frame().await.expect("the stream goes on");
        assert!(frame.starts_with(':'), "{frame:?} is no comment");
    }

    /// What comes next, up to an empty line.
    async fn frame(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|pair| pair == b"\n\n") {
                let frame: Vec<u8> = self.rest.drain(..end + 2).collect();
                return Some(String::from_utf8(frame).expect("text"));
            }
            self.rest.extend(self.response.chunk().await.expect("the stream goes on")?);
        }
    }

    /// All that is still to come.
    pub async fn rest(mut self) -> Vec<Heard> {
        let mut all = Vec::new();
        while let Some(heard) = self.next().await {
            all.push(heard);
        }
        all
    }
}

fn read(frame: &str) -> Heard {
    let mut heard = Heard::default();
    for line in frame.lines() {
        match line.split_once(": ") {
            Some(("event", event)) => heard.event = event.to_owned(),
            Some(("id", id)) => heard.id = id.to_owned(),
            Some(("data", data)) => heard.data.push_str(data),
            _ => {}
        }
    }
    heard
}
