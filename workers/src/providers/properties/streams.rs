//! Adapters that hear a text while it is written: streams that are cut, mangled, or broken off by an error.
//!
//! A stream is a result once it says that the answer came to its end, and never before: one that was cut may have been billed.

use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};

use super::{
    Form, Station, Verb, config, is_nothing_begun,
    mutation::{changes, mutate, mutate_each},
    read,
    responder::{DONE, Responder, events, http, stream},
    texts::{chat, content, response},
};
use crate::providers::{ErrorClass, Step, anthropic, deepseek, gemini, openai, openrouter, perplexity};

/// Words of events, of ends and of errors.
const WORDS: [&str; 20] = [
    "stop",
    "STOP",
    "length",
    "error",
    "end_turn",
    "message_stop",
    "message_delta",
    "message_start",
    "content_block_start",
    "tool_use",
    "text_delta",
    "input_json_delta",
    "ping",
    "SAFETY",
    "content_filter",
    "response.completed",
    "response.failed",
    "response.incomplete",
    "completed",
    DONE,
];

/// What errors would quote.
const KEY: &str = "sk-proj-0123456789abcdef";

/// A vendor that streams.
pub(super) struct Tape {
    pub(super) station: Station,
    /// Whether an event says that the answer came to its end.
    is_end: fn(&Value) -> bool,
}

/// Every vendor that streams, by every protocol.
pub(super) fn tapes(responder: &Responder) -> Vec<Tape> {
    let new = |vendor, model, good| {
        Station::new(responder, vendor, Verb::Submit, chat(model), good).answered_by(Form::Events)
    };
    let chats = [
        new(&openai::VENDOR, "gpt-4o-mini", chunks()),
        new(&openrouter::VENDOR, "a/b", chunks()),
        new(&deepseek::VENDOR, "deepseek-chat", chunks()),
        new(&perplexity::VENDOR, "sonar", chunks()),
    ];
    let mut tapes: Vec<_> = chats.into_iter().map(|station| Tape { station, is_end: ends_choice }).collect();
    tapes.push(Tape {
        station: new(&anthropic::VENDOR, "claude-sonnet-5", message()),
        is_end: |event| {
            let reason = event["delta"]["stop_reason"].as_str().unwrap_or_default();
            event["type"] == "message_delta" && !reason.is_empty()
        },
    });
    tapes.push(Tape {
        station: new(&gemini::VENDOR, "gemini-2.5-flash", contents()),
        is_end: |event| {
            let candidates = event["candidates"].as_array().into_iter().flatten();
            let mut reasons = candidates.map(|candidate| &candidate["finishReason"]);
            reasons.any(|reason| reason == "STOP" || reason == "MAX_TOKENS")
        },
    });
    tapes.push(Tape {
        station: new(&perplexity::VENDOR, "perplexity/sonar", responses()),
        is_end: |event| {
            let status = &event["response"]["status"];
            let is_last = event["type"] == "response.completed" || event["type"] == "response.incomplete";
            is_last && (status == "completed" || status == "incomplete")
        },
    });
    tapes
}

fn ends_choice(event: &Value) -> bool {
    let mut choices = event["choices"].as_array().into_iter().flatten();
    choices.any(|choice| choice["finish_reason"].as_str().is_some_and(|reason| !reason.is_empty()))
}

/// OpenAI's chunks.
fn chunks() -> Value {
    let chunk = |delta: Value, reason: Value| {
        json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-4o-mini",
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}],
        })
    };
    json!([
        chunk(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null),
        chunk(json!({"content": "hel"}), Value::Null),
        chunk(json!({"content": "lo"}), Value::Null),
        chunk(json!({}), json!("stop")),
        {"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}},
        DONE,
    ])
}

/// Anthropic's events.
fn message() -> Value {
    let piece = |text: &str| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
    json!([
        {"type": "message_start", "message": {"id": "msg_1", "role": "assistant", "usage": {"input_tokens": 9, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        piece("hel"),
        piece("lo"),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ])
}

/// Gemini's events, the last of which has the end.
fn contents() -> Value {
    let piece = |text: &str| json!({"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}]});
    let mut last = content();
    last["candidates"][0]["content"]["parts"] = json!([{"text": "lo"}]);
    json!([piece("h"), piece("el"), last])
}

/// The events of Perplexity's agents.
fn responses() -> Value {
    let mut begun = response();
    (begun["status"], begun["output"]) = (json!("in_progress"), json!([]));
    let piece = |text: &str| json!({"type": "response.output_text.delta", "item_id": "1", "output_index": 0, "delta": text});
    json!([
        {"type": "response.created", "response": begun},
        piece("hel"),
        piece("lo"),
        {"type": "response.completed", "response": response()},
    ])
}

fn texts(good: &[Value]) -> Vec<String> {
    good.iter().map(Value::to_string).collect()
}

/// A stream of which this comes before the connection breaks.
fn broken(body: &[u8]) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99999\r\n\r\n";
    [head.as_bytes(), body].concat()
}

#[test]
fn a_stream_that_was_cut_is_a_result_only_behind_its_end() {
    let responder = Responder::new();
    let tapes = tapes(&responder);
    proptest!(config(600), |(nth in 0..tapes.len(), cut in any::<Index>(), is_closed in any::<bool>())| {
        let Tape { station, is_end } = &tapes[nth];
        let good = texts(station.events());
        let last = station.events().iter().position(is_end).unwrap();
        let (whole, end) = (events(&good), events(&good[..=last]).len());
        let cut = cut.index(whole.len() + 1);
        let body = &whole.as_bytes()[..cut];
        let answer = if is_closed { http(200, "text/event-stream", body) } else { broken(body) };
        match station.ask(&responder, &[answer]) {
            Ok(Step::Done(made)) => {
                prop_assert!(cut >= end, "{}", String::from_utf8_lossy(body));
                prop_assert_eq!(made.text.as_deref(), Some("hello"));
            }
            Ok(Step::Pending(_)) => prop_assert!(false, "{station:?}"),
            Err(error) => {
                prop_assert!(cut < end, "{}: {error}", String::from_utf8_lossy(body));
                prop_assert_eq!(error.class, ErrorClass::Ambiguous, "{}", error);
            }
        }
    });
}

#[test]
fn a_mangled_stream_is_a_result_only_if_an_event_says_so() {
    let responder = Responder::new();
    let tapes = tapes(&responder);
    proptest!(config(1000), |(nth in 0..tapes.len(), changes in changes(&WORDS))| {
        let Tape { station, is_end } = &tapes[nth];
        let told = mutate_each(station.events(), &changes);
        match station.ask(&responder, &[stream(&told)]) {
            Ok(Step::Done(made)) => {
                prop_assert!(told.iter().any(|event| is_end(&read(event))), "{told:?}");
                prop_assert!(made.text.is_some() && made.files.is_empty(), "{told:?}");
            }
            Ok(Step::Pending(_)) => prop_assert!(false, "{told:?}"),
            // No event of these is an error.
            Err(error) => prop_assert!(!is_nothing_begun(error.class), "{told:?}: {error}"),
        }
    });
}

#[test]
fn an_error_in_a_stream_is_no_result_and_never_tells_a_key() {
    let responder = Responder::new();
    let tapes = tapes(&responder);
    let words = format!("the key={KEY} is bad");
    let errors = [
        json!({"error": {"message": words, "type": KEY, "param": null, "code": "server_error"}}),
        json!({"type": "error", "error": {"type": "overloaded_error", "message": words}}),
        json!({"error": {"code": 503, "status": "UNAVAILABLE", "message": words, "details": []}}),
        json!({"type": "error", "code": "server_error", "message": words, "param": null}),
        json!({"type": "response.failed", "response": {"status": "failed", "output": [], "error": {"code": "server_error", "message": words}}}),
    ];
    proptest!(config(800), |(
        nth in 0..tapes.len(),
        which in 0..errors.len(),
        heard in any::<Index>(),
        changes in changes(&WORDS),
    )| {
        let Tape { station, is_end } = &tapes[nth];
        let last = station.events().iter().position(is_end).unwrap();
        let mut told = texts(&station.events()[..heard.index(last + 1)]);
        told.push(mutate(&errors[which], &changes));
        let made = station.ask(&responder, &[stream(&told)]);
        let error = made.unwrap_err();
        prop_assert!(!error.message.contains("sk-proj") && error.message.chars().count() < 400, "{told:?}: {error}");
        prop_assert!(error.class != ErrorClass::Broken && error.class != ErrorClass::Failed, "{told:?}: {error}");
    });
}
