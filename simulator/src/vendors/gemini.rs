//! Google Gemini `generateContent`: pictures ("Nano Banana") as inline PNG, and plain text, which is also streamed.
//!
//! A blocked prompt and a missing picture are both HTTP 200 here, as they are with the vendor. The Files API is absent, and so
//! is the stream without `alt=sse`, which is one growing array.

mod request;
mod stream;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Sim, Simulator, answer,
    content::png,
    fault::Kind,
    fields::{Complaint, read_json},
    interference::Trouble,
    ledger::{Op, Provider, Visit},
    seed::Seed,
    vendors::openai::WRONG_KEY,
    vendors::openai::chat_request::CHARS_PER_TOKEN,
};
use request::Generation;

/// For the front page.
pub(crate) const INDEX: &str = "\
  Gemini   POST /gemini/v1beta/models/MODEL:generateContent, MODEL:streamGenerateContent?alt=sse
           GET  /gemini/v1beta/models
";

/// The paths it answers at.
pub(crate) fn routes() -> Router<Sim> {
    Router::new()
        .route("/gemini/v1beta/models/{call}", post(generate))
        .route("/gemini/v1beta/models", get(models))
}

/// Output tokens the vendor bills for one picture.
const TOKENS_PER_PICTURE: usize = 1290;
/// Input tokens of one picture sent along.
const TOKENS_PER_INPUT_PICTURE: usize = 258;

/// What a URL may carry.
#[derive(Debug, Deserialize)]
pub(crate) struct Credentials {
    /// The key, for clients that put it there.
    key: Option<String>,
    /// The form of a stream.
    alt: Option<String>,
}

/// The models there are; one is enough to see that a key works.
async fn models(Query(credentials): Query<Credentials>, headers: HeaderMap) -> Response {
    let header_key = headers.get("x-goog-api-key").and_then(|key| key.to_str().ok());
    if let Some(refusal) = refuse_key(header_key.or(credentials.key.as_deref())) {
        return refusal;
    }
    answer::json(StatusCode::OK, &json!({ "models": [{ "name": "models/gemini-2.5-flash" }] }))
}

/// Generates a picture or a text.
pub(crate) async fn generate(
    State(sim): State<Sim>,
    Path(call): Path<String>,
    Query(credentials): Query<Credentials>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header_key = headers.get("x-goog-api-key").and_then(|key| key.to_str().ok());
    if let Some(refusal) = refuse_key(header_key.or(credentials.key.as_deref())) {
        return refusal;
    }
    let (model, streams) = match call.split_once(':') {
        Some((model, "generateContent")) => (model, false),
        Some((model, "streamGenerateContent")) if credentials.alt.as_deref() == Some("sse") => (model, true),
        _ => return voice(&Trouble::Missing),
    };
    let generation = match read_json(&headers, &body).and_then(|body| Generation::read(model, body)) {
        Ok(generation) => generation,
        Err(complaint) => return complain(&complaint),
    };
    if streams {
        let visit =
            Visit::new(Provider::Gemini, Op::Submit, "streamGenerateContent", &generation.prompt, None);
        let work = sim.told_text(&visit, model, &generation);
        return sim.attend(&visit, stream::voice_of_stream, work).await;
    }
    let visit = Visit::new(Provider::Gemini, Op::Submit, "generateContent", &generation.prompt, None);
    sim.attend(&visit, voice, sim.generation(&visit, model, &generation)).await
}

/// The refusal of a missing or wrong key; `None` lets the request in.
fn refuse_key(key: Option<&str>) -> Option<Response> {
    match key {
        Some(WRONG_KEY) => Some(voice(&Trouble::Auth)),
        Some(key) if !key.is_empty() => None,
        _ => {
            let text = "Method doesn't allow unregistered callers (callers without established identity). \
                Please use API Key or other form of API consumer identity to call this API.";
            Some(error(StatusCode::FORBIDDEN, "PERMISSION_DENIED", text, None))
        }
    }
}

impl Simulator {
    async fn generation(&self, visit: &Visit, model: &str, generation: &Generation) -> Response {
        let id = format!("gen-{}", self.tasks.next_id());
        let seed = Seed::of(&generation.prompt, &id);
        self.accept(visit, Some(&id));
        if let Some(fault) = self.strike(visit, Kind::NoResult) {
            let reason = fault.value.unwrap_or_else(|| "NO_IMAGE".to_owned());
            let candidate = json!({ "index": 0, "content": { "role": "model" }, "finishReason": reason });
            return generation.reply(model, &id, &candidate, 0);
        }
        let mut parts = Vec::new();
        let mut tokens = 0;
        if generation.wants_text {
            let text = self.words(visit, generation, &seed);
            tokens += text.chars().count().div_ceil(CHARS_PER_TOKEN);
            parts.push(json!({ "text": text }));
        }
        if generation.wants_image {
            let size = self.sized(visit, generation.size);
            let drawing = tokio::task::spawn_blocking(move || png::picture(&seed, size)).await;
            let Ok(Ok(picture)) = drawing else {
                tracing::error!("cannot draw a picture");
                return voice(&Trouble::Broken(None));
            };
            let data = STANDARD.encode(self.spoil_inline(visit, &seed, picture));
            tokens += TOKENS_PER_PICTURE;
            parts.push(json!({ "inlineData": { "mimeType": "image/png", "data": data } }));
        }
        let content = json!({ "role": "model", "parts": parts });
        let candidate = json!({ "index": 0, "content": content, "finishReason": "STOP" });
        generation.reply(model, &id, &candidate, tokens)
    }

    fn words(&self, visit: &Visit, generation: &Generation, seed: &Seed) -> String {
        if generation.wants_image {
            return format!("Here is your picture, number {}.", seed.name());
        }
        if self.strike(visit, Kind::Empty).is_some() {
            return String::new();
        }
        let quote: String = generation.prompt.chars().take(80).collect();
        format!("This is a simulated answer, number {}, to \"{quote}\".", seed.name())
    }
}

impl Generation {
    fn reply(&self, model: &str, id: &str, candidate: &Value, tokens: usize) -> Response {
        answer::json(
            StatusCode::OK,
            &json!({
                "candidates": [candidate],
                "usageMetadata": self.counts(tokens),
                "modelVersion": model,
                "responseId": id,
            }),
        )
    }

    fn counts(&self, tokens: usize) -> Value {
        let asked =
            self.prompt.chars().count().div_ceil(CHARS_PER_TOKEN) + self.pictures * TOKENS_PER_INPUT_PICTURE;
        json!({
            "promptTokenCount": asked,
            "candidatesTokenCount": tokens,
            "totalTokenCount": asked + tokens,
            "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": asked }],
        })
    }
}

/// The answer to a prompt that was blocked.
fn blocked_prompt() -> Value {
    json!({
        "promptFeedback": { "blockReason": "PROHIBITED_CONTENT" },
        "usageMetadata": { "promptTokenCount": 8, "totalTokenCount": 8 },
    })
}

fn complain(complaint: &Complaint) -> Response {
    tracing::warn!(complaint = complaint.text, "gemini: bad request");
    error(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", &complaint.text, None)
}

fn error(status: StatusCode, word: &str, text: &str, details: Option<Value>) -> Response {
    let mut error = json!({ "code": status.as_u16(), "message": text, "status": word });
    if let Some(details) = details {
        error["details"] = details;
    }
    answer::json(status, &json!({ "error": error }))
}

/// How Gemini says no.
fn voice(trouble: &Trouble) -> Response {
    match trouble {
        Trouble::RateLimited(hint) => {
            let mut details = vec![quota_failure("GenerateRequestsPerMinutePerProjectPerModel")];
            if let Some(seconds) = hint.seconds() {
                details.push(json!({
                    "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s"),
                }));
            }
            let text = "Resource has been exhausted (e.g. check quota).";
            error(StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", text, Some(json!(details)))
        }
        Trouble::Quota(flavour) => {
            let status = match flavour.as_deref() {
                Some("402") => StatusCode::PAYMENT_REQUIRED,
                _ => StatusCode::TOO_MANY_REQUESTS,
            };
            let details = json!([quota_failure("GenerateRequestsPerDayPerProjectPerModel")]);
            let text = "You exceeded your current quota, please check your plan and billing details.";
            error(status, "RESOURCE_EXHAUSTED", text, Some(details))
        }
        Trouble::Auth => {
            let details = json!([{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "API_KEY_INVALID",
                "domain": "googleapis.com",
            }]);
            let text = "API key not valid. Please pass a valid API key.";
            error(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", text, Some(details))
        }
        Trouble::BadInput(flavour) if flavour.as_deref() == Some("model") => voice(&Trouble::Missing),
        Trouble::BadInput(_) => {
            error(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", "Request contains an invalid argument.", None)
        }
        Trouble::Refused => answer::json(StatusCode::OK, &blocked_prompt()),
        Trouble::Broken(status) => {
            let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let word = match status {
                StatusCode::SERVICE_UNAVAILABLE => "UNAVAILABLE",
                StatusCode::GATEWAY_TIMEOUT => "DEADLINE_EXCEEDED",
                _ => "INTERNAL",
            };
            error(status, word, "An internal error has occurred. Please retry.", None)
        }
        Trouble::Missing => {
            let text =
                "The model is not found for API version v1beta, or is not supported for generateContent.";
            error(StatusCode::NOT_FOUND, "NOT_FOUND", text, None)
        }
    }
}

fn quota_failure(quota_id: &str) -> Value {
    json!({
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{
            "quotaMetric": "generativelanguage.googleapis.com/generate_requests_per_model", "quotaId": quota_id,
        }],
    })
}
