//! Anthropic's Messages API, whole or as a stream with named events.
//!
//! A refusal is a message with the stop reason `refusal` under a 200, and is billed like any other. A tool is used where the
//! request demands one.

mod request;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde_json::{Value, json};

use super::openai::{
    WRONG_KEY,
    chat::compose,
    chat_request::{CHARS_PER_TOKEN, tokens},
};
use crate::{
    Sim, Simulator,
    answer::{self, with_header},
    fault::{Fault, Kind},
    fields::{Complaint, read_json},
    interference::Trouble,
    ledger::{Op, Provider, Visit},
    stream::{self, Tongue},
    wire,
};
use request::Order;

/// For the front page.
pub(crate) const INDEX: &str = "\
  Anthropic POST /anthropic/v1/messages                GET /anthropic/v1/models
";

/// The paths it answers at.
pub(crate) fn routes() -> Router<Sim> {
    Router::new().route("/anthropic/v1/messages", post(message)).route("/anthropic/v1/models", get(models))
}

/// The version of the protocol.
const VERSION: &str = "2023-06-01";
/// How much of a tool's input comes in one piece.
const FRAGMENT_CHARS: usize = 7;

/// A message, written.
struct Message {
    text: String,
    /// The tool that is used, and its input.
    used: Option<(String, Value)>,
    stop_reason: &'static str,
    written: usize,
}

async fn message(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let order = match read_json(&headers, &body).and_then(|body| Order::read(&body)) {
        Ok(order) => order,
        Err(complaint) => return complain(&complaint),
    };
    let visit = Visit::new(Provider::Anthropic, Op::Submit, "messages", &order.question, None);
    sim.attend(&visit, voice, sim.message(&visit, &order)).await
}

async fn models(headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let model = json!({ "type": "model", "id": "claude-sonnet-5", "display_name": "Claude Sonnet 5" });
    answer::json(StatusCode::OK, &json!({ "data": [model], "has_more": false }))
}

impl Simulator {
    async fn message(&self, visit: &Visit, order: &Order) -> Response {
        let id = format!("msg_{}", self.tasks.next_id());
        self.accept(visit, Some(&id));
        let mut message = order.answer();
        if self.strike(visit, Kind::Empty).is_some() {
            message.text.clear();
        }
        let is_door = |fault: &Fault| !fault.says("submit");
        if self.faults().take(visit, Kind::Refuse, is_door).is_some() || self.stream_fault(visit, "refuse") {
            message.stop_reason = "refusal";
        }
        let nothing = self.strike(visit, Kind::NoResult).is_some();
        let mut usage = json!({
            "input_tokens": order.read, "output_tokens": message.written,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "service_tier": "standard",
        });
        if let Some(fault) = self.strike(visit, Kind::Usage) {
            let odd = fault.value.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(json!(-5));
            usage["output_tokens"] = odd;
        }
        if self.stream_fault(visit, "no_usage") {
            usage = json!({});
        }
        let blocks = if nothing { Vec::new() } else { message.blocks() };
        let truncated = self.strike(visit, Kind::Truncated).is_some();
        let mut whole = json!({
            "id": id, "type": "message", "role": "assistant", "model": order.model, "content": blocks,
            "stop_reason": message.stop_reason, "stop_sequence": null, "usage": usage,
        });
        if message.stop_reason == "refusal" {
            whole["stop_details"] =
                json!({ "type": "refusal", "category": "general_harms", "explanation": "no" });
        }
        let response = if order.stream && !self.stream_fault(visit, "whole") {
            self.play(visit, &Tongue { voice, frame: stream::named }, events(&whole)).await
        } else {
            answer::json(StatusCode::OK, &whole)
        };
        let response = with_header(response, "request-id", &format!("req_{id}"));
        if truncated { wire::cut_short(response).await } else { response }
    }
}

impl Order {
    fn answer(&self) -> Message {
        let text = compose(&self.question, 0);
        if let Some(name) = &self.tool {
            let used = Some((name.clone(), json!({ "question": self.question })));
            return Message { text: String::new(), used, stop_reason: "tool_use", written: 20 };
        }
        let most = usize::try_from(self.tokens_max).unwrap_or(usize::MAX);
        let whole = tokens(text.chars().count());
        if whole <= most {
            return Message { text, used: None, stop_reason: "end_turn", written: whole };
        }
        let text = text.chars().take(most.saturating_mul(CHARS_PER_TOKEN)).collect();
        Message { text, used: None, stop_reason: "max_tokens", written: most }
    }
}

impl Message {
    fn blocks(&self) -> Vec<Value> {
        let text = json!({ "type": "text", "text": self.text });
        let used = self.used.as_ref();
        let used = used.map(
            |(name, input)| json!({ "type": "tool_use", "id": "toolu_1", "name": name, "input": input }),
        );
        if used.is_some() && self.text.is_empty() { used.into_iter().collect() } else { vec![text] }
    }
}

/// The events of a message.
fn events(whole: &Value) -> Vec<String> {
    let mut begun = whole.clone();
    begun["content"] = json!([]);
    begun["stop_reason"] = Value::Null;
    if begun["usage"].get("output_tokens").is_some() {
        begun["usage"]["output_tokens"] = json!(1);
    }
    let mut events = vec![json!({ "type": "message_start", "message": begun }), json!({ "type": "ping" })];
    for (index, block) in whole["content"].as_array().into_iter().flatten().enumerate() {
        let mut empty = block.clone();
        let deltas: Vec<Value> = if block["type"] == "tool_use" {
            empty["input"] = json!({});
            let input: Vec<_> = block["input"].to_string().chars().collect();
            input
                .chunks(FRAGMENT_CHARS)
                .map(|piece| json!({ "type": "input_json_delta", "partial_json": String::from_iter(piece) }))
                .collect()
        } else {
            empty["text"] = json!("");
            let words = block["text"].as_str().unwrap_or_default().split_inclusive(' ');
            words.map(|word| json!({ "type": "text_delta", "text": word })).collect()
        };
        events.push(json!({ "type": "content_block_start", "index": index, "content_block": empty }));
        events.extend(
            deltas
                .into_iter()
                .map(|delta| json!({ "type": "content_block_delta", "index": index, "delta": delta })),
        );
        events.push(json!({ "type": "content_block_stop", "index": index }));
    }
    let mut end = json!({
        "type": "message_delta", "delta": { "stop_reason": whole["stop_reason"], "stop_sequence": null },
        "usage": {},
    });
    if let Some(written) = whole["usage"].get("output_tokens") {
        end["usage"]["output_tokens"] = written.clone();
    }
    events.push(end);
    events.push(json!({ "type": "message_stop" }));
    events.iter().map(stream::named).collect()
}

fn refuse_key(headers: &HeaderMap) -> Option<Response> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if matches!(text("x-api-key"), "" | WRONG_KEY) {
        return Some(voice(&Trouble::Auth));
    }
    let complaint = Complaint::of("anthropic-version", "anthropic-version: header is required");
    (text("anthropic-version") != VERSION).then(|| complain(&complaint))
}

fn error(status: StatusCode, kind: &str, message: &str) -> Response {
    let error = json!({ "type": kind, "message": message });
    answer::json(status, &json!({ "type": "error", "error": error, "request_id": "req_simulated" }))
}

fn complain(complaint: &Complaint) -> Response {
    tracing::warn!(complaint = complaint.text, "anthropic: bad request");
    error(StatusCode::BAD_REQUEST, "invalid_request_error", &complaint.text)
}

/// How Anthropic says no.
fn voice(trouble: &Trouble) -> Response {
    /// What it says when it has too much to do.
    const OVERLOADED: u16 = 529;
    match trouble {
        Trouble::RateLimited(hint) => {
            let refusal = error(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_error",
                "This request would exceed your limit",
            );
            match hint.seconds() {
                Some(seconds) => with_header(refusal, "retry-after", &seconds.to_string()),
                None => refusal,
            }
        }
        Trouble::Quota(_) => {
            error(StatusCode::PAYMENT_REQUIRED, "billing_error", "Your credit balance is too low")
        }
        Trouble::Auth => error(StatusCode::UNAUTHORIZED, "authentication_error", "invalid x-api-key"),
        Trouble::BadInput(flavour) if flavour.as_deref() == Some("model") => {
            error(StatusCode::NOT_FOUND, "not_found_error", "model: not found")
        }
        Trouble::BadInput(_) => error(StatusCode::BAD_REQUEST, "invalid_request_error", "messages: invalid"),
        // Only where a fault asks for it at the door; else a refusal is a message.
        Trouble::Refused => error(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            "Output blocked by content filtering policy",
        ),
        Trouble::Broken(status) => match status {
            Some(status) if status.as_u16() == OVERLOADED => error(*status, "overloaded_error", "Overloaded"),
            Some(status) => error(*status, "api_error", "Internal server error"),
            None => error(StatusCode::INTERNAL_SERVER_ERROR, "api_error", "Internal server error"),
        },
        Trouble::Missing => error(StatusCode::NOT_FOUND, "not_found_error", "Not found"),
    }
}
