//! Server-sent events as vendors send them: a text while it is written.
//!
//! The framing is a crate's work; ours is the judgement. An answer that is no stream is read as a whole, a stream that breaks,
//! falls silent or grows without end is an error, and whether its end was the real one is the adapter's to say, for every vendor
//! has its own last word.

use std::{pin::Pin, time::Duration};

use eventsource_stream::{Event, EventStreamError, Eventsource};
use futures::{Stream, StreamExt};
use reqwest::{RequestBuilder, header::CONTENT_TYPE};

use super::{
    ErrorClass, ProviderError,
    http::{self, Answer, CHAT_TIMEOUT, MAX_CHAT_BYTES, Stake},
};

/// Longest silence in a stream, its beginning included. Reasoning models think for minutes before the first word, and not every
/// vendor sends comments meanwhile.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

type Frames = dyn Stream<Item = Result<Event, EventStreamError<ProviderError>>> + Send;

/// What came back.
pub enum Opened {
    /// Events, under a 2xx status.
    Events(Events),
    /// A whole answer: an error, or a vendor that does not stream.
    Answer(Answer),
}

/// A stream of events.
pub struct Events {
    frames: Pin<Box<Frames>>,
    stake: Stake,
}

/// Sends the request once and waits for the beginning of its answer.
///
/// # Errors
/// As [`http::send`].
pub async fn open(request: RequestBuilder, stake: Stake) -> Result<Opened, ProviderError> {
    let request = request.timeout(CHAT_TIMEOUT);
    let response = tokio::time::timeout(IDLE_TIMEOUT, http::begin(request, stake)).await;
    let response = response.map_err(|_| silent(stake))??;
    let is_stream = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("text/event-stream"));
    if !(is_stream && response.status().is_success()) {
        return Ok(Opened::Answer(http::read(response, stake, MAX_CHAT_BYTES).await?));
    }
    let mut size_bytes = 0;
    let bytes = response.bytes_stream().map(move |chunk| {
        let chunk = chunk.map_err(|error| http::lost(error, stake))?;
        size_bytes += chunk.len();
        if size_bytes > MAX_CHAT_BYTES {
            let why = format!("the stream is longer than {MAX_CHAT_BYTES} bytes");
            return Err(ProviderError::new(ErrorClass::Broken, why));
        }
        Ok(chunk)
    });
    Ok(Opened::Events(Events { frames: Box::pin(bytes.eventsource()), stake }))
}

impl Events {
    /// The next event; comments are passed over. `None`: the vendor closed the stream.
    ///
    /// # Errors
    /// [`Stake::unanswered`] when the stream breaks, falls silent or is no text; [`ErrorClass::Broken`] when it is too long.
    pub async fn next(&mut self) -> Result<Option<Event>, ProviderError> {
        match tokio::time::timeout(IDLE_TIMEOUT, self.frames.next()).await {
            Err(_) => Err(silent(self.stake)),
            Ok(None) => Ok(None),
            Ok(Some(Ok(event))) => Ok(Some(event)),
            Ok(Some(Err(EventStreamError::Transport(error)))) => Err(error),
            Ok(Some(Err(EventStreamError::Utf8(_) | EventStreamError::Parser(_)))) => {
                Err(self.nonsense("the stream cannot be read"))
            }
        }
    }

    /// An error for a stream that makes no sense or ends too soon: the work may have been done and billed.
    pub fn nonsense(&self, why: &str) -> ProviderError {
        ProviderError::new(self.stake.unanswered(), why)
    }
}

fn silent(stake: Stake) -> ProviderError {
    ProviderError::new(stake.unanswered(), format!("silent for {} s", IDLE_TIMEOUT.as_secs()))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// What comes of a stream that arrives in these pieces and is then closed.
    async fn hear(pieces: Vec<Vec<u8>>) -> Result<Vec<String>, ProviderError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let vendor = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 1024]).await.unwrap();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
            socket.write_all(head.as_bytes()).await.unwrap();
            for piece in &pieces {
                socket.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
                socket.write_all(piece).await.unwrap();
                socket.write_all(b"\r\n").await.unwrap();
                socket.flush().await.unwrap();
            }
            socket.write_all(b"0\r\n\r\n").await.unwrap();
        };
        let client = reqwest::Client::builder().build().unwrap();
        let listen = async {
            let Opened::Events(mut events) = open(client.post(url), Stake::Submit).await? else {
                panic!("no stream")
            };
            let mut heard = Vec::new();
            while let Some(event) = events.next().await? {
                heard.push(event.data);
            }
            Ok(heard)
        };
        tokio::join!(listen, vendor).0
    }

    #[tokio::test]
    async fn events_are_heard_wherever_the_network_cuts_them() {
        let text = ": ping\r\n\r\ndata: {\"text\":\"жар\"}\r\n\r\nevent: x\ndata: two\ndata: lines\n\ndata: [DONE]\n\n";
        for size in [1, 2, 3, 7, 1000] {
            let pieces = text.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
            let heard = hear(pieces).await.unwrap();
            assert_eq!(heard, ["{\"text\":\"жар\"}", "two\nlines", "[DONE]"], "pieces of {size}");
        }
    }

    #[test]
    fn no_stream_breaks_the_listener_and_cuts_change_nothing() {
        use proptest::{collection::vec, prelude::*, test_runner::Config};

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let line = "((data|event|id|retry|: ?x|)(: ?)?[a-zж\\[\\]{}\"]{0,12}(\r\n|\n|\r)){0,3}(\n|\r\n)?";
        let stream = prop_oneof![
            3 => vec(line, 0..8).prop_map(|lines| lines.concat().into_bytes()),
            1 => vec(any::<u8>(), 0..200),
        ];
        let config = Config { cases: 200, failure_persistence: None, ..Config::default() };
        proptest!(config, |(stream in stream, size in 1..20_usize)| {
            let whole = runtime.block_on(hear(if stream.is_empty() { vec![] } else { vec![stream.clone()] }));
            let pieces = runtime.block_on(hear(stream.chunks(size).map(<[u8]>::to_vec).collect()));
            prop_assert_eq!(pieces.as_ref().ok(), whole.as_ref().ok());
            for error in [pieces.err(), whole.err()].into_iter().flatten() {
                prop_assert_eq!(error.class, ErrorClass::Ambiguous);
            }
        });
    }

    #[tokio::test]
    async fn a_stream_that_is_no_text_may_hide_a_success() {
        let error =
            hear(vec![vec![b'd', b'a', b't', b'a', b':', 0xff, 0xfe, b'\n', b'\n']]).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Ambiguous, "{error}");
    }

    #[tokio::test]
    async fn an_answer_that_is_no_stream_is_read_as_a_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let vendor = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 1024]).await.unwrap();
            let answer = "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
            socket.write_all(answer.as_bytes()).await.unwrap();
        };
        let client = reqwest::Client::builder().build().unwrap();
        let (opened, ()) = tokio::join!(open(client.post(url), Stake::Submit), vendor);
        let Opened::Answer(answer) = opened.unwrap() else { panic!("a stream") };
        assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (429, b"{}".as_slice()));
    }
}
