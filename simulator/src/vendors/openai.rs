//! What all OpenAI endpoints share: the key check and the error body.
//!
//! Error types and codes follow the vendor's SDK; where it leaves a choice, the form real clients have met is used.

pub(super) mod chat;
pub(super) mod chat_request;
mod chat_stream;
mod embedding;
mod images;
mod images_request;
mod moderation;
pub(super) mod speech;
pub(super) mod transcription;
mod videos;

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::{
    Sim,
    answer::{self, bearer, with_header},
    clock,
    fields::Complaint,
    interference::{Hint, Trouble},
};

/// For the front page.
pub(crate) const INDEX: &str = "\
  OpenAI   POST /openai/v1/chat/completions            (stream: true for SSE)
           POST /openai/v1/images/generations | edits  (png, jpeg, webp; the second multipart)
           POST /openai/v1/audio/speech                (mp3, wav, pcm)
           POST /openai/v1/audio/transcriptions        (multipart)
           POST /openai/v1/videos                      (JSON or multipart)
           GET  /openai/v1/videos | /openai/v1/videos/ID | /openai/v1/videos/ID/content
           POST /openai/v1/embeddings                  POST /openai/v1/moderations
           GET  /openai/v1/models
";

/// The paths it answers at.
pub(crate) fn routes() -> Router<Sim> {
    Router::new()
        .route("/openai/v1/chat/completions", post(chat::complete))
        .route("/openai/v1/images/generations", post(images::generate))
        .route("/openai/v1/images/edits", post(images::edit))
        .route("/openai/v1/audio/speech", post(speech::speak))
        .route("/openai/v1/audio/transcriptions", post(transcription::transcribe))
        .merge(videos::routes())
        .route("/openai/v1/embeddings", post(embedding::embed))
        .route("/openai/v1/moderations", post(moderation::moderate))
        .route("/openai/v1/models", get(models))
}

/// The key that is never accepted.
pub(crate) const WRONG_KEY: &str = "wrong";

/// An OpenAI error body.
pub(crate) fn error(
    status: StatusCode,
    kind: &str,
    code: Option<&str>,
    param: Option<&str>,
    message: &str,
) -> Response {
    let body = json!({ "error": { "message": message, "type": kind, "param": param, "code": code } });
    answer::json(status, &body)
}

/// A request that is not what the vendor documents.
pub(crate) fn complain(complaint: &Complaint) -> Response {
    tracing::warn!(complaint = complaint.text, "openai: bad request");
    let param = complaint.field.as_deref();
    error(StatusCode::BAD_REQUEST, "invalid_request_error", None, param, &complaint.text)
}

/// The models there are; one is enough to see that a key works.
async fn models(headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_key(&headers) {
        return refusal;
    }
    let model = json!({ "id": "gpt-4o", "object": "model", "created": 1_715_367_049, "owned_by": "system" });
    answer::json(StatusCode::OK, &json!({ "object": "list", "data": [model] }))
}

/// The texts of a field that holds one or a list of them.
fn texts(value: Option<&Value>) -> Result<Vec<String>, Complaint> {
    let listed = match value {
        Some(Value::Array(items)) if !items.is_empty() => items.clone(),
        Some(text @ Value::String(_)) => vec![text.clone()],
        _ => {
            return Err(Complaint::of(
                "input",
                "you must provide an 'input' that is a text or a list of them",
            ));
        }
    };
    let text = |item: &Value| item.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let read: Option<Vec<_>> = listed.iter().map(text).collect();
    read.ok_or_else(|| Complaint::of("input", "'input' has an item that is no text, or an empty one"))
}

/// The refusal of a missing or wrong key; `None` lets the request in.
pub(crate) fn refuse_key(headers: &HeaderMap) -> Option<Response> {
    match bearer(headers) {
        None => Some(error(
            StatusCode::UNAUTHORIZED,
            "invalid_request_error",
            None,
            None,
            "You didn't provide an API key. You need to provide your API key in an Authorization header \
             using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
        )),
        Some(WRONG_KEY) => Some(voice(&Trouble::Auth)),
        Some(_) => None,
    }
}

/// How OpenAI says no.
pub(crate) fn voice(trouble: &Trouble) -> Response {
    const INVALID: &str = "invalid_request_error";
    match trouble {
        Trouble::RateLimited(hint) => {
            let refusal = error(
                StatusCode::TOO_MANY_REQUESTS,
                "requests",
                Some("rate_limit_exceeded"),
                None,
                "Rate limit reached for requests",
            );
            hinted(refusal, *hint)
        }
        Trouble::Quota(_) => error(
            StatusCode::TOO_MANY_REQUESTS,
            "insufficient_quota",
            Some("insufficient_quota"),
            None,
            "You exceeded your current quota, please check your plan and billing details.",
        ),
        Trouble::Auth => error(
            StatusCode::UNAUTHORIZED,
            INVALID,
            Some("invalid_api_key"),
            None,
            "Incorrect API key provided.",
        ),
        Trouble::BadInput(flavour) if flavour.as_deref() == Some("model") => error(
            StatusCode::NOT_FOUND,
            INVALID,
            Some("model_not_found"),
            None,
            "The model does not exist or you do not have access to it.",
        ),
        Trouble::BadInput(_) => error(
            StatusCode::BAD_REQUEST,
            INVALID,
            Some("invalid_value"),
            None,
            "Invalid value in your request.",
        ),
        Trouble::Refused => error(
            StatusCode::BAD_REQUEST,
            INVALID,
            Some("content_policy_violation"),
            None,
            "Your request was rejected as a result of our safety system.",
        ),
        Trouble::Broken(status) => error(
            status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            "server_error",
            None,
            None,
            "The server had an error while processing your request. Sorry about that!",
        ),
        Trouble::Missing => error(StatusCode::NOT_FOUND, INVALID, None, None, "Not found."),
    }
}

fn hinted(refusal: Response, hint: Hint) -> Response {
    match hint {
        Hint::Seconds(seconds) => with_header(refusal, "retry-after", &seconds.to_string()),
        Hint::Millis(millis) => with_header(refusal, "retry-after-ms", &millis.to_string()),
        Hint::Date(seconds) => {
            with_header(refusal, "retry-after", &http_date(clock::now_secs() + i64::from(seconds)))
        }
        Hint::None => refusal,
    }
}

/// A date as HTTP writes it (RFC 9110, 5.6.7).
fn http_date(unix_secs: i64) -> String {
    chrono::DateTime::from_timestamp(unix_secs, 0)
        .unwrap_or_default()
        .format("%a, %d %b %Y %H:%M:%S GMT")
        .to_string()
}

/// Marks a response with the id a client should log.
pub(crate) fn identified(response: Response, id: &str) -> Response {
    with_header(response, "x-request-id", id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_date_has_the_form_of_the_standard() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
