//! Errors in OpenAI's words, for clients that know no others.
//!
//! The form is that of all our errors; status and code differ where OpenAI's clients act on them. They repeat a request after
//! 408, 409, 429 and whatever is 500 or above, and nothing else: so an empty account is 402, and what would end the same way
//! again is never among those.

use std::fmt;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use crate::ApiError;
use shared::job::Job;

/// Tells OpenAI's clients whether to repeat the request, whatever they think of its status.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// OpenAI's words for whose fault it is.
const INVALID: &str = "invalid_request_error";
const OURS: &str = "server_error";

/// Seconds after which to come again when something is away.
const RETRY_AFTER_SECS: u32 = 5;

/// An answer that is an error.
pub struct OpenAiError {
    told: ApiError,
    /// Whether a client should repeat the request, where its status says something else.
    should_retry: Option<bool>,
}

impl fmt::Debug for OpenAiError {
    /// For logs: the words may name what a caller sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.told.status.as_u16(), self.told.code)
    }
}

impl OpenAiError {
    /// 400: the request is wrong at `param`.
    pub fn bad_request(code: &'static str, param: &str, message: impl Into<String>) -> Self {
        ApiError::bad_request(code, param, message).into()
    }

    /// 400: a field that the model does not know, and that cannot be passed over without another answer.
    pub fn unsupported(param: &str, model: &str) -> Self {
        let message = format!("{model} does not support {param:?}; leave it out or choose another model");
        Self::bad_request("unsupported_parameter", param, message)
    }

    /// 404: the model is one, but not for this path.
    pub fn wrong_model(model: &str, does: &str) -> Self {
        let message =
            format!("{model} is a model for {does} jobs, which this path does not make; see GET /v1/models");
        ApiError::not_found("model_not_found", Some("model"), message).into()
    }

    /// 503: this process is told to stop and the job goes on. Whoever repeats the request finds it again.
    pub fn stopping() -> Self {
        let mut told = ApiError::unavailable();
        "this server is being restarted; the job goes on, and is at /v1/jobs".clone_into(&mut told.message);
        told.retry_after_secs = Some(1);
        told.into()
    }

    /// What was told of the answer is not how it ended.
    pub fn diverged() -> Self {
        let message = "the answer was begun anew and differs from what was sent; all of it is at /v1/jobs";
        ApiError::new(StatusCode::BAD_GATEWAY, OURS, "answer_begun_anew", message).into()
    }

    /// Why a job did not succeed.
    pub fn of_job(job: &Job) -> Self {
        let (status, kind, code) = words(job.error_code.as_deref().unwrap_or_default());
        let message = job.error_message.as_deref().unwrap_or("the job did not succeed");
        let mut told = ApiError::new(status, kind, code, message);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            told.retry_after_secs = Some(RETRY_AFTER_SECS);
        }
        let is_final = status.is_server_error() && job.error_retryable == Some(false);
        Self { told, should_retry: is_final.then_some(false) }
    }

    /// The same about a field that the caller knows by another name than we do.
    #[must_use]
    pub fn renamed(mut self, ours: &str, theirs: &str) -> Self {
        if self.told.param.as_deref() == Some(ours) {
            self.told.message = self.told.message.replace(ours, theirs);
            self.told.param = Some(theirs.to_owned());
        }
        self
    }

    /// What the caller reads, as a body or as an event.
    pub fn body(&self) -> Value {
        self.told.body()
    }
}

impl<E: Into<ApiError>> From<E> for OpenAiError {
    fn from(error: E) -> Self {
        let mut told: ApiError = error.into();
        // Where we have an input, OpenAI has the body.
        if let Some(param) = told.param.take() {
            let short = param.strip_prefix("input.").unwrap_or(&param).to_owned();
            told.message = told.message.replace(&param, &short);
            told.param = Some(short);
        }
        match told.code {
            "insufficient_tokens" | "key_limit_reached" => {
                told.kind = "insufficient_quota";
                told.code = "insufficient_quota";
            }
            "rate_limited" => told.code = "rate_limit_exceeded",
            _ => {}
        }
        Self { told, should_retry: None }
    }
}

impl IntoResponse for OpenAiError {
    fn into_response(self) -> Response {
        let mut response = self.told.into_response();
        if let Some(should_retry) = self.should_retry {
            let word = if should_retry { "true" } else { "false" };
            response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static(word));
        }
        response
    }
}

/// Status, type and code for the word of a job's error.
fn words(word: &str) -> (StatusCode, &'static str, &'static str) {
    match word {
        "content_refused" => (StatusCode::BAD_REQUEST, INVALID, "content_policy_violation"),
        "provider_rejected_input" => (StatusCode::BAD_REQUEST, INVALID, "provider_rejected_input"),
        "invalid_input_file" => (StatusCode::BAD_REQUEST, INVALID, "invalid_input_file"),
        "input_unavailable" => (StatusCode::BAD_REQUEST, INVALID, "input_unavailable"),
        "canceled" => (StatusCode::BAD_REQUEST, INVALID, "job_canceled"),
        "deadline_exceeded" => (StatusCode::GATEWAY_TIMEOUT, OURS, "deadline_exceeded"),
        "provider_failed" => (StatusCode::BAD_GATEWAY, OURS, "provider_failed"),
        "provider_result_unusable" => (StatusCode::BAD_GATEWAY, OURS, "provider_result_unusable"),
        "outcome_unknown" => (StatusCode::BAD_GATEWAY, OURS, "outcome_unknown"),
        "provider_unavailable" => (StatusCode::SERVICE_UNAVAILABLE, OURS, "provider_unavailable"),
        "moderation_unavailable" => (StatusCode::SERVICE_UNAVAILABLE, OURS, "moderation_unavailable"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, OURS, "internal_error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_as_the_caller_wrote_it() {
        let check = |error: OpenAiError, param: &str, message: &str| {
            let body = error.body();
            assert_eq!(body["error"]["param"], param);
            assert_eq!(body["error"]["message"], message);
        };
        let error =
            || ApiError::bad_request("invalid_input", "input.max_tokens", "input.max_tokens is too much");
        check(error().into(), "max_tokens", "max_tokens is too much");
        let renamed = OpenAiError::from(error()).renamed("max_tokens", "max_completion_tokens");
        check(renamed, "max_completion_tokens", "max_completion_tokens is too much");
        let other = OpenAiError::from(error()).renamed("seed", "max_completion_tokens");
        check(other, "max_tokens", "max_tokens is too much");
    }

    #[test]
    fn clients_repeat_only_what_may_end_otherwise() {
        for word in [
            "content_refused",
            "provider_rejected_input",
            "invalid_input_file",
            "input_unavailable",
            "canceled",
        ] {
            assert_eq!(words(word).0, StatusCode::BAD_REQUEST, "{word}");
        }
        for word in ["provider_unavailable", "provider_failed", "worker_lost", "something newer"] {
            assert!(words(word).0.is_server_error(), "{word}");
        }
    }
}
