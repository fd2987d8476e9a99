//! What every request and every answer passes, whatever its route.
//!
//! From the outside in: a request gets its name, and whatever becomes of it is answered under that name and tells browsers to be
//! careful; it is counted with the status that it is answered with; browsers of other origins are answered; the answer is compressed;
//! what panics is answered like any other defect; a stopping process takes nothing new; addresses are counted. So an error has our
//! body, the name and the headers wherever it comes from. Deliberately absent: who may use a route, how long its body is and how long
//! its answer may take, which the page of routes says.

use std::time::Duration;

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version, header};
use tower_http::{
    CompressionLevel,
    catch_panic::CatchPanicLayer,
    compression::{
        CompressionLayer,
        predicate::{Predicate, SizeAbove},
    },
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
};

use super::{REQUEST_ID, answer_panic, openai, telemetry};
use crate::{ApiError, Ctx, limit};

/// Longest name of a request that a caller may give.
const REQUEST_ID_LEN: usize = 128;

/// Shorter answers fit into one packet either way.
const COMPRESSED_BYTES_MIN: u64 = 1024;

/// Of gzip's 9 and brotli's 11: beyond, an answer takes longer to make than it saves on the way.
const COMPRESSION_QUALITY: i32 = 4;

/// How long a browser remembers to come by https only: a year.
const HTTPS_ONLY: &str = "max-age=31536000";

/// All that is around the routes.
pub fn around(routes: Router<Ctx>, ctx: &Ctx) -> Router<Ctx> {
    let routes = routes
        .layer(middleware::from_fn_with_state(ctx.clone(), count))
        .layer(middleware::from_fn_with_state(ctx.clone(), admit))
        .layer(CatchPanicLayer::custom(answer_panic))
        .layer(compression());
    let routes = match ctx.cors.layer() {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    routes
        .layer(middleware::from_fn(telemetry::observe))
        .layer(middleware::from_fn_with_state(ctx.clone(), be_careful))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .layer(middleware::from_fn(tame))
}

/// Takes from a request what it may not say of itself: a name that is none, and that it takes its answer in no form that there is,
/// which would be answered 406 after all was done.
async fn tame(mut request: Request, next: Next) -> Response {
    let headers = request.headers_mut();
    let mut names = headers.get_all(REQUEST_ID).iter();
    let is_named = names.next().is_some_and(is_name) && names.next().is_none();
    if !is_named {
        headers.remove(REQUEST_ID);
    }
    if !headers.get_all(header::ACCEPT_ENCODING).iter().any(names_encoding) {
        headers.remove(header::ACCEPT_ENCODING);
    }
    next.run(request).await
}

/// Whether a request may be called so in headers and logs: short, and of letters, digits and a few signs.
fn is_name(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@~".contains(byte);
    (1..=REQUEST_ID_LEN).contains(&bytes.len()) && bytes.iter().all(fits)
}

/// Whether it speaks of an encoding of ours.
fn names_encoding(value: &HeaderValue) -> bool {
    let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
    text.contains("gzip") || text.contains("br")
}

/// Answers as long texts are: compressed, if their reader takes that.
fn compression() -> CompressionLayer<impl Predicate + Send + Sync + 'static> {
    CompressionLayer::new()
        .quality(CompressionLevel::Precise(COMPRESSION_QUALITY))
        .compress_when(SizeAbove::new(COMPRESSED_BYTES_MIN).and(is_text))
}

/// Whether an answer is text, and whole: events must not wait for each other, and media are compressed already.
fn is_text(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let kind = crate::request::content_type(headers);
    match kind.as_str() {
        "text/event-stream" => false,
        "application/json" | "application/javascript" => true,
        kind => kind.starts_with("text/") || kind.ends_with("+json"),
    }
}

/// Has browsers take an answer for nothing but what it is, show it nowhere and keep it nowhere, unless it says otherwise itself.
async fn be_careful(State(ctx): State<Ctx>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    caution(response.headers_mut(), ctx.public_url.starts_with("https://"));
    response
}

fn caution(headers: &mut HeaderMap, is_https: bool) {
    let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(policy);
    // Events say that they are to be looked up anew, which still lets them be kept.
    if headers.get(header::CACHE_CONTROL).is_none_or(|value| value == "no-cache") {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if is_https {
        headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(HeaderValue::from_static(HTTPS_ONLY));
    }
}

/// Lets a request in, unless the process is stopping or its body is compressed: how long that is would be known too late.
async fn admit(State(ctx): State<Ctx>, request: Request, next: Next) -> Response {
    if ctx.process.is_stopping() && !is_about_us(request.uri().path()) {
        return ApiError::stopping().into_response();
    }
    if is_encoded(request.headers()) {
        let mut refused = ApiError::encoded_body().into_response();
        refused.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        return refused;
    }
    next.run(request).await
}

/// Counts addresses. One that asks too often is told so in the words of the path that it asks.
async fn count(State(ctx): State<Ctx>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let answer = limit::requests(State(ctx), request, next).await;
    answer.unwrap_or_else(|error| openai::refusal(&path, error))
}

/// Whether it asks how this process is, which it says until its end.
fn is_about_us(path: &str) -> bool {
    path.starts_with("/health/") || path == "/metrics"
}

fn is_encoded(headers: &HeaderMap) -> bool {
    let is_plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    headers.get_all(header::CONTENT_ENCODING).iter().any(|value| !is_plain(value))
}

/// Gives the handler of a route so long to begin its answer, if there is a limit.
pub async fn within(
    State(limit): State<Option<Duration>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(limit) = limit else { return Ok(next.run(request).await) };
    let route = request.extensions().get::<MatchedPath>().cloned();
    tokio::time::timeout(limit, next.run(request)).await.map_err(|_| {
        let route = route.as_ref().map_or("none", MatchedPath::as_str);
        tracing::error!(http.route = route, ?limit, "no answer in time");
        ApiError::took_too_long()
    })
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use proptest::{collection::vec, prelude::*, test_runner::Config};
    use tower::ServiceExt;

    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        let check = |text: &str, expected: bool| {
            assert_eq!(HeaderValue::from_str(text).is_ok_and(|value| is_name(&value)), expected, "{text:?}");
        };
        check("mine-1", true);
        check("4bf92f35:77b3/4da6+a3ce=929d_0e0e~4736.x@y", true);
        check(&"x".repeat(REQUEST_ID_LEN), true);
        check(&"x".repeat(REQUEST_ID_LEN + 1), false);
        for bad in ["", " ", "two words", "\"quoted\"", "a,b", "a\tb", "<b>", "ünï", "${jndi}"] {
            check(bad, false);
        }
    }

    #[test]
    fn a_request_goes_by_the_name_it_gave_or_by_one_of_ours() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let router: Router = Router::new()
            .route("/", get(|| async {}))
            .layer(PropagateRequestIdLayer::new(REQUEST_ID))
            .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
            .layer(middleware::from_fn(tame));
        let value = prop_oneof![
            vec(any::<u8>(), 0..200),
            "[a-zA-Z0-9_.:/+=@~-]{1,130}".prop_map(String::into_bytes),
            "[a-z]{1,5}[ ,\"<${}\t]?[a-z]{0,5}".prop_map(String::into_bytes),
        ];
        let value = value.prop_filter_map("no header", |bytes| HeaderValue::from_bytes(&bytes).ok());
        let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
        proptest!(config, |(sent in vec(value, 0..3))| {
            let mut request = Request::builder().uri("/").body(Body::empty()).unwrap();
            for value in &sent {
                request.headers_mut().append(REQUEST_ID, value.clone());
            }
            let answer = runtime.block_on(router.clone().oneshot(request)).unwrap();
            let told: Vec<_> = answer.headers().get_all(REQUEST_ID).iter().collect();
            prop_assert!(told.len() == 1 && is_name(told[0]), "{sent:?}: {told:?}");
            let is_theirs = sent.len() == 1 && is_name(&sent[0]);
            prop_assert_eq!(sent.contains(told[0]), is_theirs, "{:?}: {:?}", sent, told);
        });
    }

    #[test]
    fn text_is_compressed_and_events_and_media_are_not() {
        let check = |kind: &'static str, expected: bool| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
            let found = is_text(StatusCode::OK, Version::HTTP_11, &headers, &Extensions::new());
            assert_eq!(found, expected, "{kind}");
        };
        check("application/json", true);
        check("application/problem+json", true);
        check("text/csv; charset=utf-8", true);
        check("text/html; charset=utf-8", true);
        check("text/event-stream", false);
        check("image/png", false);
        check("video/mp4", false);
        check("audio/mpeg", false);
        check("application/zip", false);
        check("application/octet-stream", false);
    }

    #[test]
    fn what_an_answer_says_itself_stays_and_https_is_asked_for_only_by_https() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'self'"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
        caution(&mut headers, false);
        assert_eq!(headers[header::CONTENT_SECURITY_POLICY], "default-src 'self'");
        assert_eq!(headers[header::CACHE_CONTROL], "max-age=60");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert!(!headers.contains_key(header::STRICT_TRANSPORT_SECURITY));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        caution(&mut headers, true);
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert_eq!(headers[header::STRICT_TRANSPORT_SECURITY], HTTPS_ONLY);
    }

    #[tokio::test]
    async fn a_handler_that_hangs_is_answered_for_and_one_without_a_limit_has_its_time() {
        let router = |limit: Option<Duration>, wait: Duration| {
            let handler = get(move || async move {
                tokio::time::sleep(wait).await;
                "done"
            });
            Router::new().route("/", handler.layer(middleware::from_fn_with_state(limit, within)))
        };
        let status = async |router: Router| {
            let request = Request::builder().uri("/").body(Body::empty()).expect("a request");
            router.oneshot(request).await.expect("an answer").status()
        };
        let (short, long) = (Duration::from_millis(5), Duration::from_secs(3600));
        assert_eq!(status(router(Some(short), long)).await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(router(Some(long), short)).await, StatusCode::OK);
        assert_eq!(status(router(None, short)).await, StatusCode::OK);
    }
}
