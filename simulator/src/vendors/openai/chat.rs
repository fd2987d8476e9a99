//! OpenAI chat completions, whole or as a stream.
//!
//! The answer is a few deterministic sentences about the last user message; token numbers are a quarter of the
//! characters, which is what the real ones come to on average. The same message gets the same answer every time,
//! only several choices for it differ among themselves.

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::{
    Sim, Simulator, answer, clock,
    fault::{Fault, Kind},
    fields::read_json,
    ledger::{Op, Provider, Visit},
    seed::Seed,
    vendors::openai::chat_request::{CHARS_PER_TOKEN, Chat, tokens},
    vendors::openai::{complain, identified, refuse_key, voice},
    wire,
};

/// Between two pieces of a stream, so that it looks like one.
const PIECE_PAUSE: std::time::Duration = std::time::Duration::from_millis(8);
/// How much of the user's message the answer repeats.
const QUOTE_CHARS: usize = 80;

/// One finished answer.
struct Choice {
    text: String,
    tokens: usize,
    finish_reason: &'static str,
}

/// Answers a chat, whole or as a stream.
pub(crate) async fn complete(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let chat = match read_json(&headers, &body).and_then(|body| Chat::read(&body)) {
        Ok(chat) => chat,
        Err(complaint) => return complain(&complaint),
    };
    let client_ref = headers.get("x-client-request-id").and_then(|value| value.to_str().ok());
    let visit = Visit::new(Provider::Openai, Op::Submit, "chat.completions", &chat.question, client_ref);
    sim.attend(&visit, voice, sim.chat(&visit, &chat)).await
}

impl Simulator {
    async fn chat(&self, visit: &Visit, chat: &Chat) -> Response {
        let id = format!("chatcmpl-{}", self.tasks.next_id());
        self.accept(visit, Some(&id));
        let empty = self.strike(visit, Kind::Empty).is_some();
        let mut choices: Vec<_> = (0..chat.choices).map(|index| chat.answer(index, empty)).collect();
        if self.strike(visit, Kind::NoResult).is_some() {
            choices.clear();
        }
        let truncated = self.strike(visit, Kind::Truncated).is_some();
        let mut usage = chat.usage(&choices);
        if let Some(fault) = self.strike(visit, Kind::Usage) {
            let odd: Value =
                fault.value.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or(json!(-5));
            usage["prompt_tokens"] = odd.clone();
            usage["completion_tokens"] = odd;
        }
        let response = if chat.stream {
            let broken =
                self.faults().take(visit, Kind::Fail, |fault: &Fault| fault.says("stream")).is_some();
            stream_response(chat.events(&id, &choices, &usage, broken))
        } else {
            answer::json(StatusCode::OK, &chat.whole(&id, &choices, &usage))
        };
        let response = identified(response, &id);
        if truncated { wire::cut_short(response).await } else { response }
    }
}

impl Chat {
    fn answer(&self, index: u32, empty: bool) -> Choice {
        let text = if empty { String::new() } else { compose(&self.question, index) };
        let text = if self.wants_json && !empty { json!({ "answer": text }).to_string() } else { text };
        let tokens_max = self.tokens_max.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
        if tokens(text.chars().count()) <= tokens_max {
            return Choice { tokens: tokens(text.chars().count()), text, finish_reason: "stop" };
        }
        let text = text.chars().take(tokens_max.saturating_mul(CHARS_PER_TOKEN)).collect();
        Choice { text, tokens: tokens_max, finish_reason: "length" }
    }

    fn whole(&self, id: &str, choices: &[Choice], usage: &Value) -> Value {
        let listed: Vec<_> = choices
            .iter()
            .enumerate()
            .map(|(index, choice)| {
                json!({
                    "index": index,
                    "message": {
                        "role": "assistant", "content": choice.text, "refusal": null, "annotations": [],
                    },
                    "logprobs": null,
                    "finish_reason": choice.finish_reason,
                })
            })
            .collect();
        json!({
            "id": id, "object": "chat.completion", "created": clock::now_secs(), "model": self.model,
            "choices": listed, "usage": usage,
            "service_tier": "default", "system_fingerprint": "fp_simulated",
        })
    }

    fn usage(&self, choices: &[Choice]) -> Value {
        let completion: usize = choices.iter().map(|choice| choice.tokens).sum();
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
            "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
            "completion_tokens_details": {
                "reasoning_tokens": 0, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
            },
        })
    }

    /// The lines of the stream; a broken one ends in an error half way.
    fn events(&self, id: &str, choices: &[Choice], usage: &Value, broken: bool) -> Vec<String> {
        let created = clock::now_secs();
        let chunk = |listed: Value, usage: Value| {
            let mut chunk = json!({
                "id": id, "object": "chat.completion.chunk", "created": created, "model": self.model,
                "service_tier": "default", "system_fingerprint": "fp_simulated", "choices": listed,
            });
            if self.include_usage {
                chunk["usage"] = usage;
            }
            format!("data: {chunk}\n\n")
        };
        let delta = |index: usize, delta: Value, finish: Option<&str>| {
            let choice = json!({ "index": index, "delta": delta, "logprobs": null, "finish_reason": finish });
            chunk(json!([choice]), Value::Null)
        };
        let mut events = Vec::new();
        for (index, choice) in choices.iter().enumerate() {
            events.push(delta(index, json!({ "role": "assistant", "content": "", "refusal": null }), None));
            events.extend(
                choice.text.split_inclusive(' ').map(|word| delta(index, json!({ "content": word }), None)),
            );
            events.push(delta(index, json!({}), Some(choice.finish_reason)));
        }
        if broken {
            events.truncate(events.len() / 2);
            let error = json!({ "error": { "message": "The server had an error", "type": "server_error", "code": null } });
            events.push(format!("data: {error}\n\n"));
            return events;
        }
        if self.include_usage {
            events.push(chunk(json!([]), usage.clone()));
        }
        events.push("data: [DONE]\n\n".to_owned());
        events
    }
}

fn stream_response(events: Vec<String>) -> Response {
    let events = stream::iter(events).then(|event| async move {
        tokio::time::sleep(PIECE_PAUSE).await;
        Ok::<_, std::convert::Infallible>(event)
    });
    ([(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")], Body::from_stream(events)).into_response()
}

fn compose(question: &str, index: u32) -> String {
    const OPENINGS: &[&str] = &["In short", "Put simply", "As far as I can tell", "Looking at it closely"];
    const CLOSINGS: &[&str] = &[
        "Everything else follows from that.",
        "There is more to say, but this is the heart of it.",
        "A second look would not change the answer.",
        "Ask again and the answer will be the same.",
    ];
    let seed = Seed::of(question, &index.to_string());
    let quote: String = question.trim().chars().take(QUOTE_CHARS).collect();
    let words = question.split_whitespace().count();
    format!(
        "{}: you wrote \"{quote}\", which is {words} words long. This is a simulated answer, number {}. {}",
        OPENINGS[seed.below(0, OPENINGS.len())],
        seed.name(),
        CLOSINGS[seed.below(1, CLOSINGS.len())],
    )
}
