//! Perplexity: the Agent API in the form of OpenAI's Responses, and the older chat completions with citations.
//!
//! At the Agent API an error comes as a response that failed, under a 200, once work has begun; before that it is as
//! OpenAI's.

mod request;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::post,
};
use serde_json::{Value, json};

use super::openai::{
    chat::{Manner, compose},
    chat_request::{CHARS_PER_TOKEN, tokens},
    complain, refuse_key, voice,
};
use crate::{
    Sim, Simulator, answer, clock,
    fault::Kind,
    fields::read_json,
    ledger::{Op, Provider, Visit},
    stream::{self, Tongue},
    wire,
};
use request::Question;

/// For the front page.
pub(crate) const INDEX: &str = "\
  Perplexity POST /perplexity/v1/agent                  POST /perplexity/chat/completions
";

/// The paths it answers at.
pub(crate) fn routes() -> Router<Sim> {
    Router::new()
        .route("/perplexity/v1/agent", post(ask))
        .route("/perplexity/chat/completions", post(complete))
}

/// What a dollar buys here, read or written; divided by, so that a cost is an exact decimal.
const TOKENS_PER_USD: f64 = 500_000.0;

/// The older protocol.
const MANNER: Manner = Manner {
    provider: Provider::Perplexity,
    known: &[&[
        "model",
        "messages",
        "max_tokens",
        "temperature",
        "top_p",
        "frequency_penalty",
        "presence_penalty",
        "response_format",
        "stream",
        "stream_options",
        "search_domain_filter",
        "search_recency_filter",
        "return_images",
        "return_related_questions",
        "web_search_options",
    ]],
    refuse_key,
    complain,
    voice,
    comment: None,
    thought: None,
    adorn,
};

async fn complete(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    sim.converse(&MANNER, &headers, &body).await
}

/// Where every answer is from.
const SOURCE: &str = "https://example.com/simulated";

fn adorn(answer: &mut Value) {
    answer["citations"] = json!([SOURCE]);
    answer["search_results"] = json!([found()]);
    if let Some(tokens) = answer["usage"]["total_tokens"].as_f64() {
        answer["usage"]["search_context_size"] = json!("low");
        answer["usage"]["cost"] = json!({ "total_cost": tokens / TOKENS_PER_USD });
    }
}

fn found() -> Value {
    json!({ "title": "A simulated source", "url": SOURCE, "date": "2026-01-01" })
}

async fn ask(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let question = match read_json(&headers, &body).and_then(|body| Question::read(&body)) {
        Ok(question) => question,
        Err(complaint) => return complain(&complaint),
    };
    let visit = Visit::new(Provider::Perplexity, Op::Submit, "agent", &question.text, None);
    sim.attend(&visit, voice, sim.agent(&visit, &question)).await
}

impl Simulator {
    async fn agent(&self, visit: &Visit, question: &Question) -> Response {
        let id = format!("resp_{}", self.tasks.next_id());
        self.accept(visit, Some(&id));
        let (mut text, mut is_cut) = (compose(&question.text, 0), false);
        if let Some(most) = question.tokens_max.and_then(|most| usize::try_from(most).ok()) {
            is_cut = tokens(text.chars().count()) > most;
            text = text.chars().take(most.saturating_mul(CHARS_PER_TOKEN)).collect();
        }
        let mut whole = question.response(&id, &text, is_cut);
        if self.strike(visit, Kind::NoResult).is_some() {
            whole["output"] = json!([]);
        }
        if self.stream_fault(visit, "refuse") {
            whole["status"] = json!("incomplete");
            whole["incomplete_details"] = json!({ "reason": "content_filter" });
        }
        if self.stream_fault(visit, "no_usage") {
            whole["usage"] = Value::Null;
        }
        let truncated = self.strike(visit, Kind::Truncated).is_some();
        let response = if question.stream && !self.stream_fault(visit, "whole") {
            let tongue = Tongue { voice, frame: failed };
            self.play(visit, &tongue, events(&whole, &text)).await
        } else {
            answer::json(StatusCode::OK, &whole)
        };
        if truncated { wire::cut_short(response).await } else { response }
    }
}

impl Question {
    fn response(&self, id: &str, text: &str, is_cut: bool) -> Value {
        let read = tokens(self.text.chars().count());
        let written = tokens(text.chars().count());
        let annotation = json!({ "type": "url_citation", "url": SOURCE, "title": "A simulated source" });
        let part = json!({ "type": "output_text", "text": text, "annotations": [annotation] });
        let why = is_cut.then(|| json!({ "reason": "max_output_tokens" }));
        json!({
            "id": id, "object": "response", "created_at": clock::now_secs(), "model": self.model,
            "status": if is_cut { "incomplete" } else { "completed" }, "incomplete_details": why, "error": null,
            "output": [
                { "type": "search_results", "queries": [self.text], "results": [found()] },
                { "type": "message", "role": "assistant", "status": "completed", "content": [part] },
            ],
            "usage": {
                "input_tokens": read, "output_tokens": written, "total_tokens": read + written,
                "cost": { "total_cost": f64::from(u32::try_from(read + written).unwrap_or(0)) / TOKENS_PER_USD },
            },
        })
    }
}

fn events(whole: &Value, text: &str) -> Vec<String> {
    let mut begun = whole.clone();
    begun["status"] = json!("in_progress");
    begun["output"] = json!([]);
    begun["usage"] = Value::Null;
    let mut events = vec![stream::named(&json!({ "type": "response.created", "response": begun }))];
    events.extend(text.split_inclusive(' ').map(|word| {
        stream::named(&json!({
            "type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": word,
        }))
    }));
    let kind = format!("response.{}", whole["status"].as_str().unwrap_or_default());
    events.push(stream::named(&json!({ "type": kind, "response": whole })));
    events
}

/// An error once work has begun: a response that failed.
fn failed(error: &Value) -> String {
    let response = json!({
        "id": "resp_failed", "object": "response", "status": "failed", "output": [], "error": error["error"],
    });
    stream::named(&json!({ "type": "response.failed", "response": response }))
}
