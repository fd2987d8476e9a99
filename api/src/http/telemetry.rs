//! One log line and two metrics a request: ids and figures, never bodies, queries or keys.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use http::Method;

use super::REQUEST_ID;

/// Watches one request pass.
pub async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    // A client may send any word as its method.
    let method = match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    };
    // The pattern and not the path: the number of paths has no bound.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let response = next.run(request).await;
    let (status, elapsed) = (response.status().as_u16(), started.elapsed());
    metrics::histogram!("kiln_http_request_seconds", "route" => route.clone()).record(elapsed.as_secs_f64());
    metrics::counter!("kiln_http_requests_total", "method" => method, "route" => route.clone(),
                      "status" => status.to_string())
    .increment(1);
    let elapsed_ms = elapsed.as_millis();
    tracing::debug!(
        request.id = id,
        http.method = method,
        http.route = route,
        http.status = status,
        elapsed_ms,
        "request {id}"
    );
    response
}
