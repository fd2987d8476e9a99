//! Clients that listen to streamed chats, all on one thread, whoever answers them.
//!
//! Kiln is asked as a vendor is, so one code hears both: what comes is cut into events, each is read, and the moment at which its
//! bytes were there is noted. What that costs the machine is the same on both sides. Each client has one stream after the other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use reqwest::{StatusCode, header::CONTENT_TYPE};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::os;

/// Longest time a stream may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who asks whom, and how often.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where chats are asked for.
    pub url: String,
    /// Keys, one for each client.
    pub keys: Vec<String>,
    /// Streams of a client, one after the other.
    pub turns: usize,
    /// Over what time the clients begin, evenly.
    pub spread: Duration,
    /// What tells its questions from those of other loads. The same name asks the same.
    pub name: String,
}

/// A stream that came to its end.
#[derive(Debug, Default)]
pub struct Heard {
    /// From the request to the first word, in milliseconds.
    pub first_ms: f64,
    /// From each word to the next.
    pub between_ms: Vec<f64>,
    /// From the request to the last word of the stream, `[DONE]`.
    pub whole_ms: f64,
    /// All words.
    pub text: String,
    /// The job behind it, where there is one.
    pub job: Option<Uuid>,
}

/// A stream, or why it came to no end.
pub type Outcome = Result<Heard, String>;

/// What the clients heard.
#[derive(Debug)]
pub struct Seen {
    /// The streams of each client, in their order.
    pub streams: Vec<Vec<Outcome>>,
    /// Processor seconds spent here.
    pub cpu_seconds: f64,
}

/// Runs a load on a thread of its own.
pub async fn run(load: Load) -> Result<Seen> {
    let thread = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let cpu = os::cpu_of_this_thread();
        let streams = runtime.block_on(all(load))?;
        anyhow::Ok(Seen { streams, cpu_seconds: os::cpu_of_this_thread() - cpu })
    });
    thread.await?
}

async fn all(load: Load) -> Result<Vec<Vec<Outcome>>> {
    let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
    let load = Arc::new(load);
    let began = Instant::now();
    let clients: Vec<_> = (0..load.keys.len())
        .map(|number| tokio::spawn(client(http.clone(), load.clone(), number, began)))
        .collect();
    let mut streams = Vec::with_capacity(clients.len());
    for client in clients {
        streams.push(client.await?);
    }
    Ok(streams)
}

/// One client, from its first stream to its last.
async fn client(http: reqwest::Client, load: Arc<Load>, number: usize, began: Instant) -> Vec<Outcome> {
    let due = began + load.spread.mul_f64(number as f64 / load.keys.len() as f64);
    tokio::time::sleep_until(due.into()).await;
    let mut streams = Vec::with_capacity(load.turns);
    for turn in 0..load.turns {
        let body = body(&load.name, number, turn);
        let heard = listen(&http, &load.url, &load.keys[number], body).await;
        streams.push(heard.map_err(|error| format!("{error:#}")));
    }
    streams
}

/// A chat about something that nobody else asks.
fn body(name: &str, client: usize, turn: usize) -> String {
    let question = format!("Why is the sky blue, and not green? ({name}, {client:04}, {turn:02})");
    let body = json!({
        "model": "gpt-4o", "messages": [{ "role": "user", "content": question }],
        "stream": true, "stream_options": { "include_usage": true },
    });
    body.to_string()
}

async fn listen(http: &reqwest::Client, url: &str, key: &str, body: String) -> Result<Heard> {
    let request = http.post(url).bearer_auth(key).header(CONTENT_TYPE, "application/json").body(body);
    let began = Instant::now();
    let mut answer = request.send().await?;
    let status = answer.status();
    if status != StatusCode::OK {
        let text = answer.text().await?;
        bail!("answered {status}: {text}");
    }
    let job = answer.headers().get("x-kiln-job").and_then(|job| job.to_str().ok()?.strip_prefix("job_"));
    let mut ear = Ear::default();
    ear.heard.job = job.map(Uuid::try_parse).transpose().context("read the job's id")?;
    // To the very end, so that the connection can be used again.
    while let Some(bytes) = answer.chunk().await? {
        ear.hear(&bytes, began.elapsed())?;
    }
    ear.finish()
}

/// Cuts bytes into events, and notes when the words in them came.
#[derive(Debug, Default)]
struct Ear {
    /// The beginning of an event.
    rest: Vec<u8>,
    heard: Heard,
    /// When the last word came.
    last: Option<Duration>,
    is_done: bool,
}

/// A chunk of a chat, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
}

impl Ear {
    fn hear(&mut self, bytes: &[u8], at: Duration) -> Result<()> {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = self.rest.drain(..end + 2).collect();
            self.read(std::str::from_utf8(&event)?.trim_end(), at)?;
        }
        Ok(())
    }

    fn read(&mut self, event: &str, at: Duration) -> Result<()> {
        // Anything else is a comment, which keeps the line open.
        let Some(data) = event.strip_prefix("data: ") else { return Ok(()) };
        if data == "[DONE]" {
            self.heard.whole_ms = ms(at);
            self.is_done = true;
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_str(data).with_context(|| format!("read {data}"))?;
        if let Some(error) = chunk.error {
            bail!("an error among the events: {error}");
        }
        for choice in chunk.choices {
            let words = choice.delta.content.unwrap_or_default();
            if words.is_empty() {
                continue;
            }
            match self.last {
                None => self.heard.first_ms = ms(at),
                Some(last) => self.heard.between_ms.push(ms(at.saturating_sub(last))),
            }
            self.last = Some(at);
            self.heard.text.push_str(&words);
        }
        Ok(())
    }

    fn finish(self) -> Result<Heard> {
        ensure!(self.is_done, "ended without [DONE] after {:?}", self.heard.text);
        ensure!(self.last.is_some(), "a stream without words");
        Ok(self.heard)
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is heard of bytes that come in pieces of a size, one every millisecond.
    fn hear(text: &str, size: usize) -> Result<Heard> {
        let mut ear = Ear::default();
        for (at, piece) in (1..).zip(text.as_bytes().chunks(size)) {
            ear.hear(piece, Duration::from_millis(at))?;
        }
        ear.finish()
    }

    #[test]
    fn a_stream_is_heard_wherever_it_is_cut() {
        let piece =
            |words: &str| format!("data: {}\n\n", json!({ "choices": [{ "delta": { "content": words } }] }));
        let nothing = "data: {\"choices\":[],\"usage\":{}}\n\n";
        let text =
            format!(": hm\n\n{}{}{}{nothing}data: [DONE]\n\n", piece(""), piece("жар-"), piece("птица"));
        for size in [1, 3, 1000] {
            let heard = hear(&text, size).unwrap();
            assert_eq!((heard.text.as_str(), heard.between_ms.len()), ("жар-птица", 1), "{size}");
            assert!(heard.first_ms >= 1.0 && heard.whole_ms >= heard.first_ms, "{heard:?}");
        }
        assert!(hear(&piece("half"), 7).is_err(), "without an end");
        assert!(hear("data: [DONE]\n\n", 7).is_err(), "without words");
        assert!(hear("data: {\"error\":{\"code\":\"x\"}}\n\n", 7).is_err(), "an error");
    }

    #[test]
    fn the_same_name_asks_the_same_and_no_two_of_its_questions_are_alike() {
        assert_eq!(body("1-2", 3, 4), body("1-2", 3, 4));
        assert_ne!(body("1-2", 3, 4), body("1-2", 4, 3));
        assert_eq!(body("1-2", 3, 4).len(), body("1-2", 99, 0).len());
    }
}
