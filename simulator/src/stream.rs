//! Server-sent events: an answer told in pieces, and the ways in which that goes wrong in the middle.
//!
//! A vendor's module makes the events and knows how the vendor writes an error among them; what then becomes of the stream is
//! decided here, by the fault `stream`. Work that has begun to be told is billed, whatever comes of its stream.

use std::{io, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, stream};
use serde_json::Value;

use crate::{
    Simulator,
    fault::{Fault, Kind},
    interference::{Hint, Trouble, Voice},
    ledger::Visit,
    wire,
};

/// Between two pieces of a dripping stream that does not say.
const DRIP_DEFAULT: Duration = Duration::from_millis(100);
/// The longest such pause; a typing mistake must not hold a connection for ever.
const DRIP_MILLIS_MAX: u32 = 60_000;
/// Pieces of a split stream: shorter than most events, and odd, so that they end within characters.
const SPLIT_BYTES: usize = 5;
/// Between the last good byte and the cut, so that the byte is on its way before the line goes.
const CUT_PAUSE: Duration = Duration::from_millis(50);

/// An event with data alone.
pub(crate) fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// An event with a name, which its data repeat as their `type`.
pub(crate) fn named(value: &Value) -> String {
    format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap_or_default())
}

/// How a vendor says no while it tells.
pub(crate) struct Tongue {
    /// Its errors, as it answers with them.
    pub voice: Voice,
    /// The body of such an answer as an event.
    pub frame: fn(&Value) -> String,
}

impl Simulator {
    /// Whether the fault `stream` strikes with this value.
    pub fn stream_fault(&self, visit: &Visit, word: &str) -> bool {
        self.faults().take(visit, Kind::Stream, |fault| fault.says(word)).is_some()
    }

    /// Plays these events one after the other, or what a fault makes of them.
    pub async fn play(&self, visit: &Visit, tongue: &Tongue, mut events: Vec<String>) -> Response {
        let middle = events.len() / 2;
        let is_cut = self.stream_fault(visit, "cut");
        if is_cut || self.stream_fault(visit, "end") {
            events.truncate(middle);
        }
        if let Some((trouble, at)) = self.outcry(visit, middle) {
            events.truncate(at);
            let error = wire::gather((tongue.voice)(&trouble).into_body()).await;
            events.push((tongue.frame)(&serde_json::from_slice(&error).unwrap_or_default()));
        }
        let mut pieces: Vec<Bytes> = if self.stream_fault(visit, "split") {
            let whole = Bytes::from(events.concat().replace('\n', "\r\n"));
            (0..whole.len())
                .step_by(SPLIT_BYTES)
                .map(|at| whole.slice(at..whole.len().min(at + SPLIT_BYTES)))
                .collect()
        } else {
            events.into_iter().map(Bytes::from).collect()
        };
        // Something has to be told before the line goes.
        if pieces.is_empty() {
            pieces.push(Bytes::from_static(b": \n\n"));
        }
        let drip = self.strike(visit, Kind::Drip).map(|fault| Drip::read(&fault));
        respond(pieces, drip, is_cut)
    }

    /// The error that a fault wants among so many events, and its place.
    fn outcry(&self, visit: &Visit, middle: usize) -> Option<(Trouble, usize)> {
        let word = |fault: &Fault| fault.value.as_deref().unwrap_or_default().to_owned();
        let is_error = |fault: &Fault| word(fault).split(':').next() == Some("error");
        let is_failed = |fault: &Fault| word(fault).split(':').next() == Some("failed");
        let mut faults = self.faults();
        let (fault, at) = match faults.take(visit, Kind::Stream, is_error) {
            Some(fault) => (fault, middle),
            None => (faults.take(visit, Kind::Stream, is_failed)?, 0),
        };
        let trouble = match word(&fault).split_once(':').map(|(_, flavour)| flavour) {
            Some("rate_limit") => Trouble::RateLimited(Hint::None),
            Some("quota") => Trouble::Quota(None),
            Some("auth") => Trouble::Auth,
            Some("refuse") => Trouble::Refused,
            _ => Trouble::Broken(None),
        };
        Some((trouble, at))
    }
}

/// How long a dripping stream rests before its pieces.
#[derive(Debug, Clone, Copy)]
struct Drip {
    /// Before the first: what a model takes to begin.
    first: Duration,
    /// Before each other.
    each: Duration,
}

impl Drip {
    fn read(fault: &Fault) -> Self {
        let value = fault.value.as_deref().unwrap_or_default();
        let (first, each) = value.split_once(':').unwrap_or((value, value));
        Self { first: pause(first), each: pause(each) }
    }

    fn before(self, place: usize) -> Duration {
        if place == 0 { self.first } else { self.each }
    }
}

fn pause(text: &str) -> Duration {
    let millis = text.trim().parse::<u32>().ok().map(|millis| millis.min(DRIP_MILLIS_MAX));
    millis.map_or(DRIP_DEFAULT, |millis| Duration::from_millis(millis.into()))
}

fn respond(pieces: Vec<Bytes>, drip: Option<Drip>, is_cut: bool) -> Response {
    let told = stream::iter(pieces).enumerate().then(move |(place, piece)| async move {
        match drip {
            Some(drip) => tokio::time::sleep(drip.before(place)).await,
            // Each piece goes out by itself.
            None => tokio::task::yield_now().await,
        }
        Ok(piece)
    });
    let end = stream::iter(is_cut.then_some(())).then(|()| async {
        tokio::time::sleep(CUT_PAUSE).await;
        Err(io::Error::other("cut on purpose"))
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")];
    (kind, Body::from_stream(told.chain(end))).into_response()
}
