//! The load generator: many clients on one thread, as little work for each request as can be.
//!
//! Clients, API and Postgres share the machine, so whatever is spent here is missing there: the bytes of a request are
//! ready but for its Idempotency-Key, and of an answer only status, length and the job's id are looked at. Each client
//! has one connection and sends its next request when the last one was answered, or at its appointed time.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use chrono::Utc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use uuid::Uuid;

use crate::{os, stats::Times};

/// What every job of the load asks for; not answered from a cache, since no temperature is set.
pub const BODY: &str =
    r#"{"model":"gpt-4o","input":{"prompt":"Why is the sky blue? Answer in one sentence."}}"#;

/// [`BODY`] with somebody who is told of the end.
fn with_webhook(url: &str) -> String {
    format!(r#"{},"webhook":{{"url":"{url}"}}}}"#, &BODY[..BODY.len() - 1])
}

/// Who asks, how often and for how long.
#[derive(Debug, Clone)]
pub struct Load {
    /// The API.
    pub addr: SocketAddr,
    /// Clients at once.
    pub clients: usize,
    /// Keys of the accounts, which the clients share out among themselves.
    pub keys: Vec<String>,
    /// For how long.
    pub time: Duration,
    /// Requests a second of all together; `None`: as fast as they are answered.
    pub rate: Option<f64>,
    /// Where the end of each job is to be told.
    pub webhook: Option<&'static str>,
    /// Whether to remember each job.
    pub remember: bool,
}

/// A request that was accepted.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// When its first byte was sent, in microseconds of the machine's clock.
    pub at_micros: i64,
    /// How long it took until the answer, in microseconds; counted from the appointed time, where there is one.
    pub took_micros: u64,
    /// The job.
    pub job: Uuid,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// From the first byte sent to the last received, of what was accepted; counted from the appointed time, where there is one.
    pub times: Times,
    /// Requests that were not answered 202.
    pub errors: u64,
    /// The first such answer.
    pub first_error: Option<String>,
    /// The jobs, where they are remembered.
    pub sent: Vec<Sent>,
    /// Processor seconds spent here.
    pub cpu_seconds: f64,
    /// How long it took.
    pub seconds: f64,
}

/// Runs a load on a thread of its own.
pub async fn run(load: Load) -> Result<Seen> {
    let thread = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let cpu = os::cpu_of_this_thread();
        let mut seen = runtime.block_on(all(Arc::new(load)))?;
        seen.cpu_seconds = os::cpu_of_this_thread() - cpu;
        anyhow::Ok(seen)
    });
    thread.await?
}

async fn all(load: Arc<Load>) -> Result<Seen> {
    let began = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..load.clients {
        clients.spawn(client(load.clone(), number, began));
    }
    let mut seen = Seen::default();
    while let Some(part) = clients.join_next().await {
        seen.join(part??);
    }
    seen.seconds = began.elapsed().as_secs_f64();
    Ok(seen)
}

/// One client, from its first request to its last.
async fn client(load: Arc<Load>, number: usize, began: Instant) -> Result<Seen> {
    let body = load.webhook.map_or_else(|| BODY.to_owned(), with_webhook);
    let mut requests: Vec<Request> = load
        .keys
        .iter()
        .skip(number % load.keys.len())
        .step_by(load.clients)
        .map(|key| Request::new(key, &body))
        .collect();
    ensure!(!requests.is_empty(), "more clients than keys");
    let mut connection = Connection::open(load.addr).await?;
    let mut seen = Seen::default();
    let every = load.rate.map(|rate| Duration::from_secs_f64(load.clients as f64 / rate));
    // Clients with appointments do not all have the same.
    let mut due = began + every.unwrap_or_default().mul_f64(number as f64 / load.clients as f64);
    for turn in 0.. {
        if let Some(every) = every {
            tokio::time::sleep_until(due.into()).await;
            due += every;
        }
        if began.elapsed() >= load.time {
            break;
        }
        let at = turn % requests.len();
        let request = requests[at].renewed();
        let at_micros = Utc::now().timestamp_micros();
        // A client that is late for its appointment has kept a caller waiting; that counts.
        let sent = every.map_or_else(Instant::now, |every| due - every);
        let answer = connection.exchange(request).await?;
        if answer.status == 202 {
            let took = sent.elapsed();
            seen.times.add(took);
            if load.remember {
                let took_micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                seen.sent.push(Sent { at_micros, took_micros, job: answer.job()? });
            }
        } else {
            seen.errors += 1;
            seen.first_error.get_or_insert_with(|| answer.text());
        }
    }
    Ok(seen)
}

impl Seen {
    fn join(&mut self, other: Self) {
        self.times.join(&other.times);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.sent.extend(other.sent);
    }

    /// Requests accepted a second.
    pub fn per_second(&self) -> f64 {
        self.times.count() as f64 / self.seconds
    }

    /// An error unless all requests were accepted.
    pub fn check(&self) -> Result<()> {
        if self.errors > 0 {
            bail!(
                "{} requests were refused; the first: {}",
                self.errors,
                self.first_error.as_deref().unwrap_or_default()
            );
        }
        Ok(())
    }
}

/// The bytes of a request, with room for its key.
pub struct Request {
    bytes: Vec<u8>,
    key_at: usize,
    count: u64,
}

impl Request {
    /// A job of the account that `key` speaks for.
    pub fn new(key: &str, body: &str) -> Self {
        let head = format!(
            "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nIdempotency-Key: {}",
            body.len(),
            Uuid::now_v7().simple(),
        );
        let key_at = head.len();
        let bytes = format!("{head}{:016x}\r\n\r\n{body}", 0).into_bytes();
        Self { bytes, key_at, count: 0 }
    }

    /// The same under a key that was never used.
    pub fn renewed(&mut self) -> &[u8] {
        self.count += 1;
        let digits = format!("{:016x}", self.count);
        self.bytes[self.key_at..self.key_at + 16].copy_from_slice(digits.as_bytes());
        &self.bytes
    }
}

/// A connection that is kept.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer<'a> {
    /// Status code.
    pub status: u16,
    body: &'a [u8],
}

impl Connection {
    /// Connects to the API.
    pub async fn open(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await.with_context(|| format!("connect to {addr}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(8192) })
    }

    /// Sends a request and reads its answer.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let (head, length) = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break (end + 4, content_length(&self.buffer[..end + 2])?);
            }
            self.fill().await?;
        };
        while self.buffer.len() < head + length {
            self.fill().await?;
        }
        let status = std::str::from_utf8(self.buffer.get(9..12).unwrap_or_default())?.parse()?;
        Ok(Answer { status, body: &self.buffer[head..head + length] })
    }

    async fn fill(&mut self) -> Result<()> {
        ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the API closed the connection");
        Ok(())
    }
}

impl Answer<'_> {
    /// The id of the job it speaks of.
    pub fn job(&self) -> Result<Uuid> {
        let at = find(self.body, b"\"job_").context("the answer names no job")? + 5;
        let digits = self.body.get(at..at + 32).context("the answer is cut off")?;
        Ok(Uuid::try_parse_ascii(digits)?)
    }

    fn text(&self) -> String {
        format!("{} {}", self.status, String::from_utf8_lossy(self.body))
    }
}

fn content_length(head: &[u8]) -> Result<usize> {
    for line in head.split(|byte| *byte == b'\n') {
        if let Some((name, value)) = line.iter().position(|byte| *byte == b':').map(|at| line.split_at(at))
            && name.eq_ignore_ascii_case(b"content-length")
        {
            return Ok(std::str::from_utf8(&value[1..])?.trim().parse()?);
        }
    }
    bail!("an answer without a length")
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_request_differs_only_in_its_key() {
        let mut request = Request::new("kiln_x", BODY);
        let first = request.renewed().to_vec();
        let second = request.renewed().to_vec();
        assert_eq!(first.len(), second.len());
        assert_ne!(first, second);
        assert!(find(&second, BODY.as_bytes()).is_some());
    }

    #[test]
    fn a_length_is_read_whatever_its_case() {
        assert_eq!(content_length(b"HTTP/1.1 202 Accepted\r\nContent-Length: 12\r\n").unwrap(), 12);
        assert!(content_length(b"HTTP/1.1 202 Accepted\r\n").is_err());
    }
}
