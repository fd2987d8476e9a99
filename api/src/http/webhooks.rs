//! What may be said of where a webhook goes, be it of a job or of an endpoint.

use crate::ApiError;
use shared::{address::check_url, webhook::events};

/// Longest URL.
pub const URL_LEN: usize = 2048;

/// Refuses a URL that we do not post to; `param` names it.
///
/// # Errors
/// 400.
pub fn check_target(param: &str, url: &str, allow_private: bool) -> Result<(), ApiError> {
    let invalid = |message| ApiError::bad_request("invalid_webhook", param, message);
    if url.len() > URL_LEN {
        return Err(invalid(format!("the URL is longer than {URL_LEN} characters")));
    }
    check_url(url, allow_private).map_err(|message| invalid(format!("{param} {message}")))?;
    Ok(())
}

/// Refuses events that there are not; `param` names their list.
///
/// # Errors
/// 400.
pub fn check_events(param: &str, wanted: &[String]) -> Result<(), ApiError> {
    let invalid = |message| Err(ApiError::bad_request("invalid_webhook", param, message));
    let known = events();
    if wanted.len() > known.len() {
        return invalid(format!("there are only {} events", known.len()));
    }
    if let Some(unknown) = wanted.iter().find(|event| !known.contains(event)) {
        return invalid(format!("there is no event {unknown:?}; there are {}", known.join(", ")));
    }
    Ok(())
}
