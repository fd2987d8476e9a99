//! Pages of other origins that may use the API from a browser (CORS).
//!
//! A browser asks first, without credentials, and is answered before anybody is asked who they are. Whoever may call, may call
//! everything: what a caller may do is decided by their key or login. Deliberately absent: cookies, and with them credentials
//! that a browser sends by itself; so no page gains by being let in what its visitor did not hand to it.

use std::{str::FromStr, time::Duration};

use http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use url::Url;

/// How long a browser may remember what it was answered; none does so for longer than two hours.
const MAX_AGE: Duration = Duration::from_secs(2 * 60 * 60);

/// Headers of answers that pages may read, beside the few that they always may.
const EXPOSED: [&str; 14] = [
    "content-disposition",
    "idempotent-replayed",
    "location",
    "openai-poll-after-ms",
    "preference-applied",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "x-kiln-job",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-request-id",
    "x-should-retry",
];

/// The pages that are let in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origins {
    /// Those of no other origin.
    #[default]
    None,
    /// Those of every origin.
    Any,
    /// Those of these origins, written as browsers write them.
    These(Vec<HeaderValue>),
}

impl Origins {
    /// What answers browsers; `None` where there is nothing to answer.
    pub fn layer(&self) -> Option<CorsLayer> {
        let origins = match self {
            Self::None => return None,
            Self::Any => AllowOrigin::any(),
            Self::These(origins) => AllowOrigin::list(origins.clone()),
        };
        let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let layer = CorsLayer::new()
            .allow_origin(origins)
            .allow_methods(methods)
            // All that is asked for: SDKs send a dozen of their own, and a star would leave out Authorization.
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(EXPOSED.map(HeaderName::from_static))
            .max_age(MAX_AGE);
        Some(layer)
    }
}

impl FromStr for Origins {
    type Err = String;

    /// Origins separated by commas, or a star.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let origins: Vec<_> = parts.map(origin).collect::<Result<_, _>>()?;
        Ok(if origins.is_empty() { Self::None } else { Self::These(origins) })
    }
}

/// An origin as browsers write it: in lower case, without a port that goes without saying, without a slash at its end.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let bad =
        || format!("{text:?} is no origin: say scheme, host and port alone, as https://app.example.com");
    let url = Url::parse(text).map_err(|_| bad())?;
    let is_alone = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    // A star is a letter like any other in a host, and no browser calls a page so.
    if !matches!(url.scheme(), "http" | "https") || !is_alone || text.contains('*') {
        return Err(bad());
    }
    HeaderValue::from_str(&url.origin().ascii_serialization()).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&[&'static str]>) {
        let expected = expected.map(|origins| match origins {
            [] => Origins::None,
            ["*"] => Origins::Any,
            these => Origins::These(these.iter().copied().map(HeaderValue::from_static).collect()),
        });
        assert_eq!(text.parse::<Origins>().ok(), expected, "{text:?}");
    }

    #[test]
    fn origins_are_read_as_browsers_write_them_and_nothing_else_is() {
        check("", Some(&[]));
        check(" * ", Some(&["*"]));
        check("https://app.example.com", Some(&["https://app.example.com"]));
        check(
            "https://App.example.com:443/, http://localhost:5173",
            Some(&["https://app.example.com", "http://localhost:5173"]),
        );
        for bad in [
            "app.example.com",
            "null",
            "https://app.example.com/page",
            "https://app.example.com?x",
            "https://me@app.example.com",
            "ftp://app.example.com",
            "https://*.example.com",
            "*, https://app.example.com",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn nobody_is_let_in_unless_that_is_said() {
        assert!(Origins::default().layer().is_none());
        assert!(Origins::Any.layer().is_some());
    }
}
