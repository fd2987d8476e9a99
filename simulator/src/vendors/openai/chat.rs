//! Chat completions in OpenAI's protocol, whole or as a stream.
//!
//! The answer is a few deterministic sentences about the last user message; token numbers are a quarter of the
//! characters, which is what the real ones come to on average. The same message gets the same answer every time,
//! only several choices for it differ among themselves. Other vendors that speak the protocol have a [`Manner`].

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde_json::{Value, json};

use crate::{
    Sim, Simulator, answer, clock,
    fault::Kind,
    fields::{Complaint, read_json},
    interference::Voice,
    ledger::{Op, Provider, Visit},
    seed::Seed,
    stream::{self, Tongue},
    vendors::openai::{
        chat_request::{CHARS_PER_TOKEN, COMMON, Chat, OPENAI, tokens},
        complain, identified, refuse_key, voice,
    },
    wire,
};

/// How much of the user's message the answer repeats.
const QUOTE_CHARS: usize = 80;

/// How a vendor that speaks this protocol behaves.
pub(crate) struct Manner {
    /// Which.
    pub provider: Provider,
    /// Lists of the request fields that it knows.
    pub known: &'static [&'static [&'static str]],
    /// Its refusal of a missing or wrong key.
    pub refuse_key: fn(&HeaderMap) -> Option<Response>,
    /// Its words for a request that is wrong.
    pub complain: fn(&Complaint) -> Response,
    /// How it says no.
    pub voice: Voice,
    /// A comment that it sends while a stream waits.
    pub comment: Option<&'static str>,
    /// Its name for what a model thinks before it answers, where it tells that.
    pub thought: Option<&'static str>,
    /// Adds what only this vendor tells to an answer or a chunk.
    pub adorn: fn(&mut Value),
}

/// OpenAI itself.
const MANNER: Manner = Manner {
    provider: Provider::Openai,
    known: &[COMMON, OPENAI],
    refuse_key,
    complain,
    voice,
    comment: None,
    thought: None,
    adorn: |_| {},
};

/// One finished answer.
pub(super) struct Choice {
    pub text: String,
    /// The tool that is called in place of a text, and its arguments.
    pub call: Option<(String, String)>,
    pub tokens: usize,
    pub finish_reason: &'static str,
}

/// Answers a chat as OpenAI does.
pub(crate) async fn complete(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    sim.converse(&MANNER, &headers, &body).await
}

impl Simulator {
    /// Answers a chat, whole or as a stream.
    pub async fn converse(&self, manner: &Manner, headers: &HeaderMap, body: &[u8]) -> Response {
        if let Some(refusal) = (manner.refuse_key)(headers) {
            return refusal;
        }
        let chat = match read_json(headers, body).and_then(|body| Chat::read(&body, manner.known)) {
            Ok(chat) => chat,
            Err(complaint) => return (manner.complain)(&complaint),
        };
        let client_ref = headers.get("x-client-request-id").and_then(|value| value.to_str().ok());
        let visit = Visit::new(manner.provider, Op::Submit, "chat.completions", &chat.question, client_ref);
        self.attend(&visit, manner.voice, self.chat(&visit, &chat, manner)).await
    }

    async fn chat(&self, visit: &Visit, chat: &Chat, manner: &Manner) -> Response {
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
        let response = if chat.stream && !self.stream_fault(visit, "whole") {
            if self.stream_fault(visit, "refuse") {
                choices.iter_mut().for_each(|choice| choice.finish_reason = "content_filter");
            }
            let counts = chat.include_usage && !self.stream_fault(visit, "no_usage");
            let events = chat.events(&id, &choices, counts.then_some(&usage), manner);
            self.play(visit, &Tongue { voice: manner.voice, frame: stream::data }, events).await
        } else {
            answer::json(StatusCode::OK, &chat.whole(&id, &choices, &usage, manner))
        };
        let response = identified(response, &id);
        if truncated { wire::cut_short(response).await } else { response }
    }
}

impl Chat {
    fn answer(&self, index: u32, empty: bool) -> Choice {
        let text = if empty { String::new() } else { compose(&self.question, index) };
        if let Some(name) = self.tool.as_ref().filter(|_| !empty) {
            let arguments = json!({ "question": self.question }).to_string();
            let tokens = tokens(arguments.chars().count());
            let call = Some((name.clone(), arguments));
            return Choice { text: String::new(), call, tokens, finish_reason: "tool_calls" };
        }
        let text = if self.wants_json && !empty { json!({ "answer": text }).to_string() } else { text };
        let tokens_max = self.tokens_max.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
        if tokens(text.chars().count()) <= tokens_max {
            let tokens = tokens(text.chars().count());
            return Choice { tokens, text, call: None, finish_reason: "stop" };
        }
        let text = text.chars().take(tokens_max.saturating_mul(CHARS_PER_TOKEN)).collect();
        Choice { text, call: None, tokens: tokens_max, finish_reason: "length" }
    }

    fn whole(&self, id: &str, choices: &[Choice], usage: &Value, manner: &Manner) -> Value {
        let listed: Vec<_> = choices
            .iter()
            .enumerate()
            .map(|(index, choice)| {
                let mut message = json!({
                    "role": "assistant", "content": choice.text, "refusal": null, "annotations": [],
                });
                if let Some((name, arguments)) = &choice.call {
                    message["content"] = Value::Null;
                    message["tool_calls"] = json!([tool_call(index, name, arguments)]);
                }
                if let Some(field) = manner.thought {
                    message[field] = thought().into();
                }
                let logprobs = self.logprobs.then(|| likely(&choice.text));
                json!({
                    "index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish_reason,
                })
            })
            .collect();
        let mut answer = json!({
            "id": id, "object": "chat.completion", "created": clock::now_secs(), "model": self.model,
            "choices": listed, "usage": usage,
            "service_tier": "default", "system_fingerprint": "fp_simulated",
        });
        (manner.adorn)(&mut answer);
        answer
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
}

/// The call of a tool, as a whole answer has it.
pub(super) fn tool_call(index: usize, name: &str, arguments: &str) -> Value {
    json!({
        "id": format!("call_{index}"), "type": "function", "function": { "name": name, "arguments": arguments },
    })
}

/// What is thought before every answer.
pub(super) fn thought() -> &'static str {
    "The question is clear, so the answer can be short."
}

/// How likely each word was.
pub(super) fn likely(text: &str) -> Value {
    let words = text.split_inclusive(' ');
    let listed: Vec<_> =
        words.map(|word| json!({ "token": word, "logprob": -0.5, "top_logprobs": [] })).collect();
    json!({ "content": listed, "refusal": null })
}

/// The answer to a question.
pub(crate) fn compose(question: &str, index: u32) -> String {
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
