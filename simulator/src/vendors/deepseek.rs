//! DeepSeek: OpenAI's protocol with statuses of its own for what went wrong, thoughts before every answer, and comments
//! while a stream waits.

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde_json::{Value, json};

use super::openai::{WRONG_KEY, chat::Manner, chat_request::COMMON, error};
use crate::{
    Sim,
    answer::{self, bearer, with_header},
    fields::Complaint,
    interference::Trouble,
    ledger::Provider,
};

/// For the front page.
pub(crate) const INDEX: &str = "\
  DeepSeek POST /deepseek/chat/completions             GET /deepseek/user/balance
";

/// The paths it answers at.
pub(crate) fn routes() -> Router<Sim> {
    Router::new()
        .route("/deepseek/chat/completions", post(complete))
        .route("/deepseek/user/balance", get(balance))
}

const MANNER: Manner = Manner {
    provider: Provider::Deepseek,
    known: &[COMMON, &["thinking", "reasoning_effort"]],
    refuse_key,
    complain,
    voice,
    comment: Some("keep-alive"),
    thought: Some("reasoning_content"),
    adorn,
};

async fn complete(State(sim): State<Sim>, headers: HeaderMap, body: Bytes) -> Response {
    sim.converse(&MANNER, &headers, &body).await
}

async fn balance(headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let purse = json!({
        "currency": "USD", "total_balance": "42.50", "granted_balance": "0.00", "topped_up_balance": "42.50",
    });
    answer::json(StatusCode::OK, &json!({ "is_available": true, "balance_infos": [purse] }))
}

fn adorn(answer: &mut Value) {
    if answer["usage"].is_object() {
        answer["usage"]["prompt_cache_hit_tokens"] = json!(0);
        answer["usage"]["prompt_cache_miss_tokens"] = answer["usage"]["prompt_tokens"].clone();
    }
}

fn complain(complaint: &Complaint) -> Response {
    tracing::warn!(complaint = complaint.text, "deepseek: bad request");
    let param = complaint.field.as_deref();
    error(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request_error", None, param, &complaint.text)
}

fn refuse_key(headers: &HeaderMap) -> Option<Response> {
    match bearer(headers) {
        None | Some(WRONG_KEY) => Some(voice(&Trouble::Auth)),
        Some(_) => None,
    }
}

/// How DeepSeek says no.
fn voice(trouble: &Trouble) -> Response {
    let say = |status: StatusCode, kind: &str, message: &str| error(status, kind, None, None, message);
    match trouble {
        Trouble::RateLimited(hint) => {
            let refusal = say(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "Rate limit reached");
            match hint.seconds() {
                Some(seconds) => with_header(refusal, "retry-after", &seconds.to_string()),
                None => refusal,
            }
        }
        Trouble::Quota(_) => say(StatusCode::PAYMENT_REQUIRED, "unknown_error", "Insufficient Balance"),
        Trouble::Auth => {
            say(StatusCode::UNAUTHORIZED, "authentication_error", "Authentication Fails (no such user)")
        }
        Trouble::BadInput(flavour) if flavour.as_deref() == Some("model") => {
            say(StatusCode::BAD_REQUEST, "invalid_request_error", "Model Not Exist")
        }
        Trouble::BadInput(_) => {
            say(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request_error", "Invalid parameters")
        }
        Trouble::Refused => error(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            Some("content_policy_violation"),
            None,
            "Content Exists Risk",
        ),
        Trouble::Broken(status) => {
            say(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE), "server_error", "Server overloaded")
        }
        Trouble::Missing => say(StatusCode::NOT_FOUND, "invalid_request_error", "Not found"),
    }
}
