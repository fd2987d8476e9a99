//! Small makers of HTTP answers, shared by every vendor.
//!
//! They know status, media type and bytes; what a vendor would say is the vendor modules' business.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::Value;

/// What a proxy in front of a vendor shows when it cannot reach it.
const PROXY_PAGE: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
    <center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";

/// An HTML page where a file was promised, as an expired login or a storage console would serve it.
pub(crate) const STRAY_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head>\
    <body><h1>Please sign in to view this file</h1></body></html>\n";

/// A JSON body with a status.
pub(crate) fn json(status: StatusCode, body: &Value) -> Response {
    bytes(status, "application/json", body.to_string())
}

/// Any body with a status and a media type.
pub(crate) fn bytes(status: StatusCode, media_type: &'static str, body: impl Into<Body>) -> Response {
    (status, [(header::CONTENT_TYPE, media_type)], body.into()).into_response()
}

/// The 502 page of a proxy.
pub(crate) fn proxy_page() -> Response {
    bytes(StatusCode::BAD_GATEWAY, "text/html", PROXY_PAGE)
}

/// Adds one header, unless its value cannot be sent.
pub(crate) fn with_header(mut response: Response, name: &'static str, value: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
    response
}

/// The token of `Authorization: Bearer …`, if there is one that is not empty.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Where the client reached this server, to build URLs it can reach again.
pub(crate) fn root_url(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    format!("http://{host}")
}
