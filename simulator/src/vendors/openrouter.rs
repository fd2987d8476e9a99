//! OpenRouter: OpenAI's protocol with errors of its own, comments in its streams and the price in its counts.
//!
//! An error's `code` is its HTTP status. Once a stream has begun it comes as a chunk under the 200.

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde_json::{Value, json};

use super::openai::{WRONG_KEY, chat::Manner, chat_request::COMMON};
use crate::{
    Sim,
    answer::{self, bearer, with_header},
    fields::Complaint,
    interference::Trouble,
    ledger::Provider,
};

/// For the front page.
pub(crate) const INDEX: &str = "\
  OpenRouter POST /openrouter/api/v1/chat/completions   GET /openrouter/api/v1/key, /credits
";

/// The paths it answers at.
pub(crate) fn routes() -> Router<Sim> {
    Router::new()
        .route("/openrouter/api/v1/chat/completions", post(complete))
        .route("/openrouter/api/v1/key", get(key))
        .route("/openrouter/api/v1/credits", get(credits))
}

/// What a dollar buys here, read or written; divided by, so that a cost is an exact decimal.
const TOKENS_PER_USD: f64 = 1_000_000.0;

const OWN: &[&str] = &[
    "max_completion_tokens",
    "seed",
    "n",
    "parallel_tool_calls",
    "user",
    "models",
    "provider",
    "reasoning",
    "plugins",
    "transforms",
    "usage",
];

const MANNER: Manner = Manner {
    provider: Provider::Openrouter,
    known: &[COMMON, OWN],
    refuse_key,
    complain,
    voice,
    comment: Some("OPENROUTER PROCESSING"),
    thought: None,
    adorn,
};

async fn complete(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    sim.converse(&MANNER, &headers, &body).await
}

/// A key without a limit of its own, unless it is called `limited`.
async fn key(headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let limit = (bearer(&headers) == Some("limited")).then_some(20);
    let state = json!({ "label": "sk-or-v1-sim", "limit": limit, "usage": 7.5, "is_free_tier": false });
    answer::json(StatusCode::OK, &json!({ "data": state }))
}

async fn credits(headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let state = json!({ "total_credits": 100.25, "total_usage": 25.5 });
    answer::json(StatusCode::OK, &json!({ "data": state }))
}

fn adorn(answer: &mut Value) {
    answer["provider"] = json!("Simulated");
    if let Some(tokens) = answer["usage"]["total_tokens"].as_f64() {
        let cost = tokens / TOKENS_PER_USD;
        answer["usage"]["cost"] = json!(cost);
        answer["usage"]["cost_details"] = json!({ "upstream_inference_cost": cost });
    }
}

fn error(status: StatusCode, message: &str, metadata: Value) -> Response {
    let error = json!({ "code": status.as_u16(), "message": message, "metadata": metadata });
    answer::json(status, &json!({ "error": error }))
}

fn complain(complaint: &Complaint) -> Response {
    tracing::warn!(complaint = complaint.text, "openrouter: bad request");
    error(StatusCode::BAD_REQUEST, &complaint.text, Value::Null)
}

fn refuse_key(headers: &HeaderMap) -> Option<Response> {
    match bearer(headers) {
        None | Some(WRONG_KEY) => Some(voice(&Trouble::Auth)),
        Some(_) => None,
    }
}

/// How OpenRouter says no.
fn voice(trouble: &Trouble) -> Response {
    match trouble {
        Trouble::RateLimited(hint) => {
            let refusal = error(StatusCode::TOO_MANY_REQUESTS, "Rate limit exceeded", Value::Null);
            match hint.seconds() {
                Some(seconds) => with_header(refusal, "retry-after", &seconds.to_string()),
                None => refusal,
            }
        }
        Trouble::Quota(flavour) if flavour.as_deref() == Some("in_flight") => {
            let metadata = json!({ "limit_source": "openrouter_in_flight_budget" });
            error(StatusCode::PAYMENT_REQUIRED, "Other requests in flight hold your credits", metadata)
        }
        Trouble::Quota(_) => error(StatusCode::PAYMENT_REQUIRED, "Insufficient credits", Value::Null),
        Trouble::Auth => error(StatusCode::UNAUTHORIZED, "No auth credentials found", Value::Null),
        Trouble::BadInput(flavour) if flavour.as_deref() == Some("model") => {
            error(StatusCode::NOT_FOUND, "No endpoints found for this model", Value::Null)
        }
        Trouble::BadInput(_) => error(StatusCode::BAD_REQUEST, "Invalid parameters", Value::Null),
        Trouble::Refused => {
            let metadata = json!({
                "reasons": ["violence"], "flagged_input": "…", "provider_name": "Simulated", "model_slug": "simulated",
            });
            error(StatusCode::FORBIDDEN, "Your input was flagged", metadata)
        }
        Trouble::Broken(status) => {
            error(status.unwrap_or(StatusCode::BAD_GATEWAY), "Provider returned error", Value::Null)
        }
        Trouble::Missing => error(StatusCode::NOT_FOUND, "Not found", Value::Null),
    }
}
