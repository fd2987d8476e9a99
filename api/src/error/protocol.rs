//! How a request is told that it cannot be taken as it came, or not here and now, whatever it is about.

use http::StatusCode;

use super::ApiError;

/// When to come again where a process is stopping: another one answers at once.
const STOPPING_RETRY_SECS: u32 = 1;

impl ApiError {
    /// 415: the body is compressed.
    pub fn encoded_body() -> Self {
        let message = "the request body must come as it is, without content-encoding";
        let code = "unsupported_content_encoding";
        Self {
            param: Some("Content-Encoding".into()),
            ..Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", code, message)
        }
    }

    /// 503: the process is stopping and takes nothing new.
    pub fn stopping() -> Self {
        Self {
            retry_after_secs: Some(STOPPING_RETRY_SECS),
            message: "this server is stopping; please send the request again".into(),
            ..Self::unavailable()
        }
    }

    /// 503: the answer took longer than it may.
    pub fn took_too_long() -> Self {
        Self {
            code: "timeout",
            message: "we could not answer in time; what was asked for may have been done".into(),
            ..Self::unavailable()
        }
    }
}
