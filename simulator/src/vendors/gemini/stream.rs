//! Gemini's `streamGenerateContent?alt=sse`: the same answers, a few words an event, and no last word but a finish reason.

use axum::{http::StatusCode, response::Response};
use serde_json::{Value, json};

use super::{request::Generation, voice};
use crate::{
    Simulator, answer,
    fault::Kind,
    interference::Trouble,
    ledger::Visit,
    stream::{self, Tongue},
    vendors::openai::{
        chat::compose,
        chat_request::{CHARS_PER_TOKEN, tokens},
    },
    wire,
};

/// How Gemini says no to a request for a stream: a blocked prompt is an event of it.
pub(super) fn voice_of_stream(trouble: &Trouble) -> Response {
    match trouble {
        Trouble::Refused => {
            answer::bytes(StatusCode::OK, "text/event-stream", stream::data(&super::blocked_prompt()))
        }
        other => voice(other),
    }
}

impl Simulator {
    /// Writes a text, told as a stream.
    pub(super) async fn told_text(&self, visit: &Visit, model: &str, generation: &Generation) -> Response {
        let id = format!("gen-{}", self.tasks.next_id());
        self.accept(visit, Some(&id));
        let (mut text, mut reason) = (compose(&generation.prompt, 0), "STOP");
        if let Some(most) = generation.tokens_max.and_then(|most| usize::try_from(most).ok())
            && tokens(text.chars().count()) > most
        {
            text = text.chars().take(most.saturating_mul(CHARS_PER_TOKEN)).collect();
            reason = "MAX_TOKENS";
        }
        if self.strike(visit, Kind::Empty).is_some() {
            text.clear();
        }
        let mut reason = reason.to_owned();
        if let Some(fault) = self.strike(visit, Kind::NoResult) {
            text.clear();
            reason = fault.value.unwrap_or_else(|| "OTHER".to_owned());
        }
        if self.stream_fault(visit, "refuse") {
            reason = "SAFETY".to_owned();
        }
        let counts = !self.stream_fault(visit, "no_usage");
        let truncated = self.strike(visit, Kind::Truncated).is_some();
        let event = |text: Option<&str>, reason: Option<&str>, written: usize| {
            let parts: Vec<_> = text.into_iter().map(|text| json!({ "text": text })).collect();
            let mut content = json!({ "role": "model" });
            if !parts.is_empty() {
                content["parts"] = parts.into();
            }
            let mut event = json!({
                "candidates": [{ "index": 0, "content": content }], "modelVersion": model, "responseId": id,
            });
            if let Some(reason) = reason {
                event["candidates"][0]["finishReason"] = json!(reason);
            }
            if counts {
                event["usageMetadata"] = generation.counts(written);
            }
            event
        };
        let mut events: Vec<Value> = Vec::new();
        let mut chars = 0;
        for word in text.split_inclusive(' ') {
            chars += word.chars().count();
            events.push(event(Some(word), None, tokens(chars)));
        }
        events.push(event(None, Some(&reason), if chars == 0 { 0 } else { tokens(chars) }));
        let response = if self.stream_fault(visit, "whole") {
            let text = (!text.is_empty()).then_some(text.as_str());
            answer::json(StatusCode::OK, &event(text, Some(&reason), tokens(chars)))
        } else {
            let events = events.iter().map(stream::data).collect();
            self.play(visit, &Tongue { voice, frame: stream::data }, events).await
        };
        if truncated { wire::cut_short(response).await } else { response }
    }
}
