//! How the verbs about people say no over HTTP.
//!
//! A wrong password and an unknown address are one answer. Links and tokens that do not work are one answer each as well,
//! whatever is the matter with them: whoever has a good one can get another, and nobody else learns anything.

use http::StatusCode;

use super::ApiError;
use shared::account::{
    AcceptError, HashError, InvalidEmail, LoginError, MemberError, RefreshError, VerifyError, WeakPassword,
};

impl ApiError {
    /// 400: a mailed link that opens nothing.
    pub fn dead_link() -> Self {
        let message = "this link is unknown, was used, or is too old: ask for a new one";
        Self::bad_request("invalid_token", "token", message)
    }

    /// 400: the password of someone who is logged in, or about to join, is another.
    pub fn wrong_password(param: &str) -> Self {
        Self::bad_request("wrong_password", param, "this is not your password")
    }

    /// 401: an access token whose time is over.
    pub fn token_expired() -> Self {
        let message = "this access token has expired: get another at POST /v1/auth/refresh";
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", "token_expired", message)
    }

    /// 401: an access token that is not ours, or whose session has ended.
    pub fn invalid_token() -> Self {
        let message = "this access token is not valid, or its session has ended: log in again";
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", "invalid_token", message)
    }

    /// 415: not a list as we read them.
    pub fn not_csv() -> Self {
        let message = "the request body must be a list, with content-type: text/csv";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid_request_error",
            "unsupported_media_type",
            message,
        )
    }

    /// Its status, for pages that people look at.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its words, for pages that people look at.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<HashError> for ApiError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Busy => Self::unavailable(),
            HashError::Broken => {
                tracing::error!("a password could not be hashed or checked");
                Self::internal()
            }
        }
    }
}

impl From<InvalidEmail> for ApiError {
    fn from(error: InvalidEmail) -> Self {
        Self::bad_request("invalid_email", "email", error.to_string())
    }
}

impl From<WeakPassword> for ApiError {
    fn from(error: WeakPassword) -> Self {
        Self::bad_request("weak_password", "password", error.to_string())
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Wrong => Self::new(
                StatusCode::UNAUTHORIZED,
                "authentication_error",
                "invalid_credentials",
                "wrong e-mail address or password",
            ),
            LoginError::NotVerified => Self::new(
                StatusCode::FORBIDDEN,
                "permission_error",
                "email_not_verified",
                "first follow the link in the mail we sent you; POST /v1/auth/verify/resend sends it again",
            ),
            LoginError::NoAccount => Self {
                param: Some("account".into()),
                ..Self::new(
                    StatusCode::FORBIDDEN,
                    "permission_error",
                    "no_account",
                    "you belong to no active account, or not to the one you named",
                )
            },
            LoginError::Hash(error) => error.into(),
            LoginError::Db(error) => error.into(),
        }
    }
}

impl From<VerifyError> for ApiError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Unknown => Self::dead_link(),
            VerifyError::WrongPassword => {
                let message = "this is not the password of the last registration with this address: if you do not know it, \
                               ask for a link to set a new one, at /v1/auth/password/forgot";
                Self::bad_request("wrong_password", "password", message)
            }
            VerifyError::Hash(error) => error.into(),
            VerifyError::Start(error) => error.into(),
            VerifyError::Db(error) => error.into(),
        }
    }
}

impl From<RefreshError> for ApiError {
    fn from(error: RefreshError) -> Self {
        let unauthorized =
            |code, message| Self::new(StatusCode::UNAUTHORIZED, "authentication_error", code, message);
        match error {
            RefreshError::Unknown => unauthorized(
                "invalid_token",
                "this refresh token is unknown or too old, or its session has ended: log in again",
            ),
            RefreshError::Reused => unauthorized(
                "refresh_token_reused",
                "this refresh token was used before, so its session has now ended: log in again",
            ),
            RefreshError::Raced => Self::conflict(
                "refresh_raced",
                "another request is exchanging this refresh token: use what that one is answered",
            ),
            RefreshError::Db(error) => error.into(),
        }
    }
}

impl From<MemberError> for ApiError {
    fn from(error: MemberError) -> Self {
        match error {
            MemberError::Unknown => Self::not_found("not_found", Some("id"), "no such id in this account"),
            MemberError::LastOwner => Self::conflict("last_owner", "an account keeps at least one owner"),
            MemberError::NotAllowed => Self::forbidden(error.to_string()),
            MemberError::Beyond(beyond) => beyond.into(),
            MemberError::Db(error) => error.into(),
        }
    }
}

impl From<AcceptError> for ApiError {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Unknown => Self::dead_link(),
            AcceptError::WrongPassword => Self::wrong_password("password"),
            AcceptError::Weak(weak) => weak.into(),
            AcceptError::Raced => {
                Self::conflict("raced", "something changed at this moment: please try again")
            }
            AcceptError::Hash(error) => error.into(),
            AcceptError::Start(error) => error.into(),
            AcceptError::Db(error) => error.into(),
        }
    }
}
