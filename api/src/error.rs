//! The one error of the API: one place that picks status, code and words.
//!
//! Every error body has the same four keys. What went wrong inside us goes to the log with its whole chain and to the
//! caller only as "our fault"; what went wrong with the request names the field.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use shared::{billing::MoveError, catalog::InvalidInput, db::is_transient, job::SubmitError};

/// Seconds after which a caller may try again while a dependency of ours is away.
const UNAVAILABLE_RETRY_SECS: u32 = 5;

/// An answer that is an error.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
    message: String,
    param: Option<String>,
    retry_after_secs: Option<u32>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code, message: message.into(), param: None, retry_after_secs: None }
    }

    /// 400: the request is wrong at `param`.
    pub fn bad_request(code: &'static str, param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", code, message)
        }
    }

    /// 400: the body is not JSON.
    pub fn invalid_json(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_json", message)
    }

    /// 401: no key, or not one of ours.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", "invalid_api_key", message)
    }

    /// 403: a good key, but not for this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_error", "forbidden", message)
    }

    /// 404: there is no such thing, or it is another's.
    pub fn not_found(code: &'static str, param: Option<&str>, message: impl Into<String>) -> Self {
        Self {
            param: param.map(str::to_owned),
            ..Self::new(StatusCode::NOT_FOUND, "invalid_request_error", code, message)
        }
    }

    /// 405: the path is right, the method is not.
    pub fn method_not_allowed() -> Self {
        let message = "this path does not know that method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", "method_not_allowed", message)
    }

    /// 408: the body did not arrive in time.
    pub fn timed_out() -> Self {
        let message = "the request body took too long to arrive";
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", "request_timeout", message)
    }

    /// 409: too late or too early for that.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict_error", code, message)
    }

    /// 413: the body is too long.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("the request body is longer than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", "request_too_large", message)
    }

    /// 415: the body is not what we read.
    pub fn unsupported_media_type() -> Self {
        let message = "the request body must be JSON, with content-type: application/json";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid_request_error",
            "unsupported_media_type",
            message,
        )
    }

    /// 500: our fault; the caller learns no more.
    pub fn internal() -> Self {
        let message = "something went wrong on our side; the request id helps us find it";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "internal_error", message)
    }

    /// 503: something we need is away.
    pub fn unavailable() -> Self {
        let message = "we cannot take requests just now; please try again shortly";
        Self {
            retry_after_secs: Some(UNAVAILABLE_RETRY_SECS),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", "unavailable", message)
        }
    }
}

impl From<InvalidInput> for ApiError {
    fn from(invalid: InvalidInput) -> Self {
        Self::bad_request("invalid_input", invalid.param, invalid.message)
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::InsufficientTokens { needed, available } => Self::new(
                StatusCode::PAYMENT_REQUIRED,
                "billing_error",
                "insufficient_tokens",
                format!("this job holds {needed} and the account has {available} available"),
            ),
            SubmitError::KeyReused => Self {
                param: Some("Idempotency-Key".into()),
                ..Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "idempotency_error",
                    "idempotency_key_reused",
                    "this Idempotency-Key came before with another request body",
                )
            },
            SubmitError::Db(error) => error.into(),
        }
    }
}

impl From<MoveError> for ApiError {
    fn from(error: MoveError) -> Self {
        match error {
            MoveError::UnknownAccount => {
                Self::not_found("account_not_found", Some("account"), "no such account")
            }
            MoveError::Insufficient => Self::bad_request(
                "insufficient_tokens",
                "amount",
                "the account has fewer tokens available than that",
            ),
            MoveError::AlreadyMoved => Self::conflict("reference_used", "this reference was used before"),
            MoveError::Db(error) => error.into(),
        }
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        if is_transient(&error) {
            tracing::warn!(%error, "database away");
            Self::unavailable()
        } else {
            tracing::error!(%error, "database statement failed");
            Self::internal()
        }
    }
}

impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<sqlx::Error>() {
            Ok(error) => error.into(),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "request failed");
                Self::internal()
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "error": {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        } });
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_secs {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
