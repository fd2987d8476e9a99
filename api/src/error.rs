//! The one error of the API: one place that picks status, code and words.
//!
//! Every error body has the same four keys. What went wrong inside us goes to the log with its whole chain and to the
//! caller only as "our fault"; what went wrong with the request names the field.

mod files;
mod people;
mod protocol;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use chrono::TimeDelta;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::limit;
use shared::{
    account::{AuthError, Beyond, KeyError, TermsError},
    billing::MoveError,
    catalog::InvalidInput,
    db::is_transient,
    dialog::BeginError,
    job::SubmitError,
    rate::RateState,
};

/// Seconds after which a caller may try again while a dependency of ours is away.
const UNAVAILABLE_RETRY_SECS: u32 = 5;

/// An answer that is an error.
#[derive(Debug)]
pub struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) param: Option<String>,
    pub(crate) retry_after_secs: Option<u32>,
    /// Boxed, so that answers without errors stay small.
    rate: Option<Box<RateState>>,
}

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody {
    error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// What went wrong, for programs; more may come.
    code: &'static str,
    /// What went wrong, for people.
    message: String,
    /// The field, parameter or header that is wrong, if it is one of them.
    #[schema(required)]
    param: Option<String>,
    /// The kind of error, such as `invalid_request_error`.
    #[serde(rename = "type")]
    kind: &'static str,
}

impl ApiError {
    /// An error that names no field.
    pub(crate) fn new(
        status: StatusCode,
        kind: &'static str,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { status, kind, code, message: message.into(), param: None, retry_after_secs: None, rate: None }
    }

    /// Whether it is about something that is away just now, and may be back at the next look.
    pub(crate) fn is_passing(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
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

    /// 401: a good key whose time is over.
    pub fn key_expired() -> Self {
        Self { code: "key_expired", ..Self::unauthorized("this API key has expired") }
    }

    /// 403: a good key, but not with this, which `param` names.
    pub fn refused(code: &'static str, param: Option<&str>, message: impl Into<String>) -> Self {
        Self { code, param: param.map(str::to_owned), ..Self::forbidden(message) }
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

    /// 429: too often; how often is allowed stands in the headers.
    pub fn rate_limited(message: impl Into<String>, rate: RateState, retry_after: TimeDelta) -> Self {
        Self { rate: Some(Box::new(rate)), ..Self::too_often(message, retry_after) }
    }

    /// 429: too often, and how often is allowed is not told.
    pub fn too_often(message: impl Into<String>, retry_after: TimeDelta) -> Self {
        Self {
            retry_after_secs: Some(u32::try_from(limit::whole_secs(retry_after)).unwrap_or(u32::MAX).max(1)),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "rate_limited", message)
        }
    }

    /// What the caller reads.
    pub fn shown(&self) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                message: self.message.clone(),
                kind: self.kind,
                param: self.param.clone(),
                code: self.code,
            },
        }
    }

    /// The same, to be told in another form.
    pub(crate) fn body(&self) -> Value {
        json!(self.shown())
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
            SubmitError::RateLimited { rate, retry_after } => Self::rate_limited(
                format!("this account may submit {} jobs an hour", rate.limit),
                rate,
                retry_after,
            ),
            SubmitError::KeyLimit { needed, room } => Self::new(
                StatusCode::PAYMENT_REQUIRED,
                "billing_error",
                "key_limit_reached",
                format!("this job holds {needed} and this API key may spend {room} more within its limits"),
            ),
            SubmitError::Suspended => Self::forbidden("this account is not active"),
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

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unknown => Self::unauthorized("this API key is unknown or was revoked"),
            AuthError::Expired => Self::key_expired(),
            AuthError::IpNotAllowed => {
                Self::refused("ip_not_allowed", None, "this API key may not be used from your network")
            }
            AuthError::Db(error) => error.into(),
        }
    }
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::NotFound => {
                Self::not_found("api_key_not_found", Some("id"), "there is no such API key")
            }
            KeyError::Revoked => Self::conflict("api_key_revoked", "this API key was revoked"),
            KeyError::Beyond(beyond) => beyond.into(),
            KeyError::Db(error) => error.into(),
        }
    }
}

impl From<Beyond> for ApiError {
    fn from(beyond: Beyond) -> Self {
        Self::refused("beyond_permissions", Some(beyond.param), beyond.message)
    }
}

impl From<BeginError> for ApiError {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::TooMany(most) => Self::conflict(
                "too_many_dialogs",
                format!("an account has at most {most} dialogs: delete one that is over"),
            ),
            BeginError::Inactive => Self::forbidden("this account is not active"),
            BeginError::Db(error) => error.into(),
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

impl From<TermsError> for ApiError {
    fn from(error: TermsError) -> Self {
        match error {
            TermsError::UnknownAccount => Self::not_found("account_not_found", Some("id"), "no such account"),
            TermsError::UnknownTier => {
                Self::bad_request("tier_not_found", "base_tier", "there is no such tier")
            }
            TermsError::UnknownPriceGroup => {
                Self::bad_request("price_group_not_found", "price_group", "there is no such price group")
            }
            TermsError::Operators => Self::forbidden(error.to_string()),
            TermsError::Db(error) => error.into(),
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
        let mut response = (self.status, Json(self.shown())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_secs {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(rate) = self.rate {
            limit::show(headers, *rate);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
