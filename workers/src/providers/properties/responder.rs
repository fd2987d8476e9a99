//! A vendor that answers whatever it is told to, byte for byte.
//!
//! It reads each request to its end, writes the next answer and hangs up. Absent: any understanding of HTTP beyond where a
//! request ends, so that an answer may also be none.

use std::{convert::Infallible, future::Future};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};

/// A vendor on a port of its own.
pub struct Responder {
    runtime: Runtime,
    listener: TcpListener,
    pub client: reqwest::Client,
    pub url: String,
}

impl Responder {
    pub fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        Self { client: client.build().unwrap(), runtime, listener, url }
    }

    /// Runs a call while its requests are answered in this order; further ones get the last answer again.
    pub fn serve<T>(&self, answers: &[Vec<u8>], call: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            tokio::select! {
                made = call => made,
                never = self.answer(answers) => match never {},
            }
        })
    }

    async fn answer(&self, answers: &[Vec<u8>]) -> Infallible {
        let mut next = answers.iter();
        let mut answer = next.next().unwrap();
        loop {
            let (mut socket, _) = self.listener.accept().await.unwrap();
            read_request(&mut socket).await;
            // A caller that has heard enough hangs up.
            let _ = socket.write_all(answer).await;
            let _ = socket.shutdown().await;
            answer = next.next().unwrap_or(answer);
        }
    }
}

async fn read_request(socket: &mut TcpStream) {
    let mut request = Vec::new();
    while !is_whole(&request) && socket.read_buf(&mut request).await.is_ok_and(|count| count > 0) {}
}

fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let body = &request[end + 4..];
    if head.contains("transfer-encoding: chunked") {
        return body.ends_with(b"0\r\n\r\n");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// A proper answer in HTTP.
pub fn http(status: u16, media_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Said\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// What OpenAI's streams say at their end, which is no JSON.
pub const DONE: &str = "[DONE]";

/// Server-sent events with these data, each on one line. The one that is [`DONE`] as JSON is it as it is.
pub fn events(data: &[String]) -> String {
    let quoted = format!("\"{DONE}\"");
    let line = |data: &String| if *data == quoted { DONE.to_owned() } else { data.clone() };
    data.iter().map(|data| format!("data: {}\n\n", line(data))).collect()
}

/// A whole stream of events under a 200.
pub fn stream(data: &[String]) -> Vec<u8> {
    http(200, "text/event-stream", events(data).as_bytes())
}

/// JSON under a 200.
pub fn json(body: &str) -> Vec<u8> {
    http(200, "application/json", body.as_bytes())
}
