//! What holds for any answer of a vendor, and for what is none: asked through the adapters' own methods, over a real socket.
//!
//! Money hangs on three of these rules. Nothing but a whole answer that says so is a result. A submit whose answer makes no
//! sense stays open, for the work may have been begun. And a word that nobody knows means "still at work".

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use proptest::{collection::vec, prelude::*, sample::Index, test_runner::Config};
use serde_json::Value;

use self::{
    mutation::{Changes, mutate, mutate_each},
    responder::{Responder, http},
    stations::stations,
};
use super::{
    Artifact, Call, ErrorClass, InputFile, Provider, ProviderError, Step, VENDORS, Vendor, fal, gemini,
    kling, mapped, minimax, openai, replicate,
};

mod aggregators;
mod films;
mod inline;
mod mutation;
mod pictures;
mod relays;
mod responder;
mod stations;
mod streams;
mod tasks;
mod texts;
mod works;

/// A question to a vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Submit,
    Resume,
    Lookup,
}

/// How a good answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    /// A list of events, each of them by itself.
    Events,
    /// A picture and nothing else.
    Picture,
}

/// One adapter, asked one thing, and what it would be answered.
#[derive(Debug)]
struct Station {
    provider: Arc<dyn Provider>,
    verb: Verb,
    call: Call,
    /// The vendor's own id of the task, as the job keeps it.
    task: &'static str,
    form: Form,
    /// Nothing where it is a picture.
    good: Value,
    /// The answer to the question that follows a good one, where one does.
    next: Value,
}

impl Station {
    fn new(responder: &Responder, vendor: &Vendor, verb: Verb, call: Call, good: Value) -> Self {
        let provider = (vendor.adapter)(responder.client.clone(), responder.url.clone());
        let (task, next) = match vendor.name {
            "kling" => ("text2video/7", Value::Null),
            "minimax" => ("7", tasks::retrieved()),
            "fal" => (aggregators::FAL_TASK, aggregators::fal_result()),
            "veo" => (films::VEO_TASK, Value::Null),
            _ => ("7", Value::Null),
        };
        Self { provider, verb, call, task, form: Form::Json, good, next }
    }

    /// The same, answered in this form.
    fn answered_by(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// What is sent in a stream.
    fn events(&self) -> &[Value] {
        self.good.as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// The good answer, byte for byte.
    fn whole(&self) -> Vec<u8> {
        self.mangled(&Changes::new())
    }

    /// The answer with these changes, byte for byte.
    fn mangled(&self, changes: &Changes) -> Vec<u8> {
        match self.form {
            Form::Json => responder::json(&mutate(&self.good, changes)),
            Form::Events => responder::stream(&mutate_each(self.events(), changes)),
            Form::Picture => http(200, "image/png", PIXELS),
        }
    }

    /// Asks while this is answered, and the good answer to whatever is asked then.
    fn ask_and_go_on(&self, responder: &Responder, answer: &str) -> Result<Step, ProviderError> {
        self.ask(responder, &[responder::json(answer), responder::json(&self.next.to_string())])
    }

    /// Asks while these answers are given. A lookup that finds nothing is an error here, of a class that no adapter gives
    /// for it.
    fn ask(&self, responder: &Responder, answers: &[Vec<u8>]) -> Result<Step, ProviderError> {
        responder.serve(answers, async {
            match self.verb {
                Verb::Submit => self.provider.submit(&self.call).await,
                Verb::Resume => self.provider.resume(&self.call, self.task).await,
                Verb::Lookup => {
                    let found = self.provider.lookup(&self.call).await?;
                    found.ok_or_else(|| ProviderError::new(ErrorClass::Quota, "never seen"))
                }
            }
        })
    }
}

/// How a PNG begins.
const PIXELS: &[u8] = b"\x89PNG\r\n\x1a\n";

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

fn call(task: &str, input: Value) -> Call {
    let mut call = Call::new(task, "model-1", input, "job_1-1");
    call.key = "access:secret".into();
    call
}

fn recording() -> InputFile {
    InputFile {
        field: "audio".into(),
        mime_type: "audio/mpeg".into(),
        bytes: b"ID3\x04\0\0\0\0\0\0".to_vec().into(),
    }
}

fn photograph() -> InputFile {
    InputFile { field: "image".into(), mime_type: "image/png".into(), bytes: PIXELS.into() }
}

/// The mutated answer as plain JSON; nothing where it is none.
fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// Whether this text is one of those in the answer.
fn holds(said: &Value, text: &str) -> bool {
    match said {
        Value::String(found) => found == text,
        Value::Array(items) => items.iter().any(|item| holds(item, text)),
        Value::Object(fields) => fields.values().any(|value| holds(value, text)),
        _ => false,
    }
}

/// Whether there are files, and each is an address or the base64 of bytes that the answer has.
fn are_told(files: &[Artifact], said: &Value) -> bool {
    let is_told = |file: &Artifact| match file {
        Artifact::Remote { url, .. } => !url.is_empty() && holds(said, url),
        Artifact::Inline(bytes) => holds(said, &BASE64_STANDARD.encode(bytes)),
    };
    !files.is_empty() && files.iter().all(is_told)
}

/// Whether the class says that a submit has surely left nothing behind, so that it may be sent again.
fn is_nothing_begun(class: ErrorClass) -> bool {
    use ErrorClass::{Auth, BadInput, Quota, RateLimited, Unavailable};
    matches!(class, Auth | BadInput | Quota | RateLimited | Unavailable)
}

/// Whether the class ends the job of a task that is at work.
fn is_verdict(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::Broken | ErrorClass::Failed | ErrorClass::Refused)
}

/// The class of what is no answer at all.
fn unanswered(verb: Verb) -> ErrorClass {
    if verb == Verb::Submit { ErrorClass::Ambiguous } else { ErrorClass::Unavailable }
}

/// What comes in the place of an answer: bytes, pages, the beginning of a good one.
fn no_answer(good: &Value, cut: Index, bytes: Vec<u8>, nth: usize) -> Vec<u8> {
    let good = good.to_string();
    match nth {
        0 => good.as_bytes()[..cut.index(good.len())].to_vec(),
        1 => b"<!doctype html><html><body>502 Bad Gateway</body></html>".to_vec(),
        2 => format!("{good}{good}").into_bytes(),
        _ => bytes,
    }
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Value>(bytes).is_ok()
}

#[test]
fn every_station_takes_its_good_answer() {
    let responder = Responder::new();
    for station in stations(&responder) {
        let next = responder::json(&station.next.to_string());
        let made = station.ask(&responder, &[station.whole(), next]);
        assert!(made.is_ok(), "{station:?}: {made:?}");
    }
}

#[test]
fn every_vendor_has_a_station() {
    let stations = stations(&Responder::new());
    for vendor in VENDORS {
        let has_one = stations.iter().any(|station| station.provider.name() == vendor.name);
        assert!(has_one, "nothing here would notice what {} does with odd answers", vendor.name);
    }
}

#[test]
fn a_success_that_cannot_be_read_is_no_result_and_leaves_a_submit_open() {
    let responder = Responder::new();
    let stations = stations(&responder);
    let media_type =
        proptest::sample::select(&["application/json", "text/html", "", "text/event-stream"][..]);
    proptest!(config(800), |(
        nth in any::<Index>(),
        media_type in media_type,
        status in proptest::sample::select(&[200_u16, 200, 201, 202, 206][..]),
        what in 0..5_usize,
        cut in any::<Index>(),
        bytes in vec(any::<u8>(), 0..300),
    )| {
        let station = nth.get(&stations);
        let body = no_answer(&station.good, cut, bytes, what);
        prop_assume!(!is_json(&body));
        match station.ask(&responder, &[http(status, media_type, &body)]) {
            // By itself it says that the task is at work.
            Ok(Step::Pending(pending)) if station.verb == Verb::Resume && status == 202 => {
                prop_assert_eq!(pending.provider_ref, station.task);
            }
            Ok(step) => prop_assert!(false, "{station:?}: {step:?}"),
            Err(error) => prop_assert_eq!(error.class, unanswered(station.verb), "{:?}: {}", station, error),
        }
    });
}

#[test]
fn what_is_no_http_is_no_answer() {
    let responder = Responder::new();
    let stations = stations(&responder);
    proptest!(config(600), |(
        nth in any::<Index>(),
        head in proptest::sample::select(&["", "HTTP", "HTTP/1.1 ", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n"][..]),
        bytes in vec(any::<u8>(), 0..200),
    )| {
        let station = nth.get(&stations);
        let answer = [head.as_bytes(), &bytes].concat();
        let error = station.ask(&responder, &[answer]).unwrap_err();
        prop_assert_eq!(error.class, unanswered(station.verb), "{:?}: {}", station, error);
    });
}

#[test]
fn no_status_but_a_success_brings_a_result_or_ends_a_task() {
    let responder = Responder::new();
    let stations = stations(&responder);
    proptest!(config(800), |(
        nth in any::<Index>(),
        status in 300..600_u16,
        what in 0..6_usize,
        cut in any::<Index>(),
        bytes in vec(any::<u8>(), 0..100),
    )| {
        let station = nth.get(&stations);
        // The last is the good answer itself, under a status that belies it.
        let body = if what == 5 { station.good.to_string().into_bytes() } else { no_answer(&station.good, cut, bytes, what) };
        let error = station.ask(&responder, &[http(status, "application/json", &body)]).unwrap_err();
        if station.verb != Verb::Submit {
            prop_assert!(!is_verdict(error.class), "{status} for {station:?}: {error}");
        } else if !is_json(&body) && (status == 408 || status >= 500) {
            prop_assert_eq!(error.class, ErrorClass::Ambiguous, "{} for {:?}: {}", status, station, error);
        }
    });
}
