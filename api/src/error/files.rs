//! How a form with a file is told that it is refused.
//!
//! What is too long or too much is 413 and not 429: OpenAI's clients send a 429 again by themselves, and nothing would be
//! different then.

use chrono::TimeDelta;
use http::StatusCode;

use super::ApiError;
use shared::upload::{FORMATS, KeepError};

/// When to come again that has too many uploads under way: one of the usual length ends in that time.
const BUSY_RETRY: TimeDelta = TimeDelta::seconds(5);

impl ApiError {
    /// 400: the form cannot be read.
    pub fn invalid_form(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_form", message)
    }

    /// 415: the body is no form.
    pub fn not_a_form() -> Self {
        let message =
            "the request body must be a form, with content-type: multipart/form-data and its boundary";
        let code = "unsupported_media_type";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", code, message)
    }

    /// 415: the bytes of the file are of no kind that is taken.
    pub fn unsupported_file() -> Self {
        let kinds = FORMATS.map(|format| format.mime_type()).join(", ");
        let message =
            format!("the bytes of this file are none of {kinds}; its name and claimed type do not count");
        Self {
            param: Some("file".into()),
            ..Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "invalid_request_error",
                "unsupported_file_type",
                message,
            )
        }
    }

    /// 413: the file is too long.
    pub fn file_too_large(limit_bytes: i64) -> Self {
        let message = format!("the file is longer than {limit_bytes} bytes");
        Self {
            param: Some("file".into()),
            ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", "file_too_large", message)
        }
    }

    /// 413: the account has no room for the file.
    pub fn no_room(used_bytes: i64, quota_bytes: i64) -> Self {
        let message = format!(
            "this account's uploads take {used_bytes} of the {quota_bytes} bytes they may, and there is no room for this \
             file: delete some (GET /v1/files lists them), or wait until they expire"
        );
        Self {
            param: Some("file".into()),
            ..Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "invalid_request_error",
                "upload_quota_exceeded",
                message,
            )
        }
    }

    /// 429: the account sends as many files at the same time as it may.
    pub fn too_many_uploads(limit: usize) -> Self {
        Self::too_often(format!("this account may send {limit} files at the same time"), BUSY_RETRY)
    }
}

impl From<KeepError> for ApiError {
    fn from(error: KeepError) -> Self {
        match error {
            KeepError::NotActive => Self::forbidden("this account is not active"),
            KeepError::NoRoom { used_bytes, quota_bytes } => Self::no_room(used_bytes, quota_bytes),
            KeepError::Db(error) => error.into(),
        }
    }
}
