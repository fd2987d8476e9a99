//! How the door speaks HTTP, whatever is asked for: names, caution, compression, pages of other origins, traces.

use std::{collections::BTreeSet, io::Read};

use flate2::read::GzDecoder;
use reqwest::{Method, Response, Version, header::HeaderMap};
use serde_json::json;

use crate::support::{Settings, TestApp, read, scalar};

/// A page that may use the API.
const PAGE: &str = "https://app.example.com";

/// A request as it is, by nobody who says so.
async fn ask(app: &TestApp, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = app.http.request(method, format!("{}{path}", app.base));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.expect("an answer")
}

fn unzipped(bytes: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).expect("gzip");
    text
}

#[tokio::test]
async fn a_request_keeps_the_name_that_its_caller_gave_it_only_if_that_is_one() {
    let app = TestApp::new().await;
    let named = async |names: &[&str]| {
        let headers: Vec<_> = names.iter().map(|name| ("x-request-id", *name)).collect();
        let answer = ask(&app, Method::GET, "/v1/nowhere", &headers).await;
        assert_eq!(answer.status(), 404);
        answer.headers()["x-request-id"].to_str().expect("text").to_owned()
    };
    let (longest, too_long) = ("x".repeat(128), "x".repeat(129));
    for good in ["mine-1", "Root=1-67891233-abcdef012345678912345678", longest.as_str()] {
        assert_eq!(named(&[good]).await, good);
    }
    let mut ours = BTreeSet::new();
    let bad: [&[&str]; 5] = [&[], &["two words"], &["<b>"], &[too_long.as_str()], &["a", "b"]];
    for bad in bad {
        let name = named(bad).await;
        assert_eq!(name.len(), 36, "{bad:?} is called {name}");
        assert!(ours.insert(name), "no name is given twice");
    }
    app.finish().await;
}

#[tokio::test]
async fn every_answer_tells_browsers_to_be_careful() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    for (path, status) in [
        ("/health/live", 200),
        ("/v1/plans", 200),
        ("/v1/auth/password/forgot", 200),
        ("/v1/models", 401),
        ("/v1/nowhere", 404),
    ] {
        let answer = ask(&app, Method::GET, path, &[]).await;
        assert_eq!(answer.status(), status, "{path}");
        be_careful(path, answer.headers());
    }
    be_careful("balance", &alice.get("/v1/billing/balance").await.headers);
    let page = ask(&app, Method::GET, "/v1/auth/password/forgot", &[]).await;
    let policy = page.headers()["content-security-policy"].to_str().expect("text");
    assert!(policy.contains("style-src 'sha256-") && policy.contains("form-action 'self'"), "{policy}");
    app.finish().await;
}

fn be_careful(what: &str, headers: &HeaderMap) {
    assert_eq!(headers["x-content-type-options"], "nosniff", "{what}");
    assert_eq!(headers["referrer-policy"], "no-referrer", "{what}");
    assert_eq!(headers["cache-control"], "no-store", "{what}");
    let policy = headers["content-security-policy"].to_str().expect("text");
    assert!(
        policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
        "{what}: {policy}"
    );
    assert!(!headers.contains_key("strict-transport-security"), "this deployment has no https: {what}");
}

#[tokio::test]
async fn a_long_answer_is_compressed_for_whoever_takes_that_and_a_short_one_or_events_are_not() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    let key = format!("Bearer {}", alice.key);
    let get = async |path: &str, accepts: &str| {
        let headers = [("authorization", key.as_str()), ("accept-encoding", accepts)];
        let answer = ask(&app, Method::GET, path, &headers).await;
        assert_eq!(answer.status(), 200, "{path} {accepts}");
        let encoding =
            answer.headers().get("content-encoding").map(|value| value.to_str().expect("text").to_owned());
        (encoding.unwrap_or_default(), answer)
    };
    let (encoding, plain) = get("/v1/models", "identity").await;
    let plain = plain.text().await.expect("a body");
    assert_eq!(encoding, "");
    let (encoding, zipped) = get("/v1/models", "gzip").await;
    assert_eq!(encoding, "gzip");
    assert_eq!(zipped.headers()["vary"], "accept-encoding");
    assert_eq!(unzipped(&zipped.bytes().await.expect("a body")), plain);
    let (encoding, brotli) = get("/v1/models", "gzip, br").await;
    assert_eq!(encoding, "br");
    assert!(brotli.bytes().await.expect("a body").len() < plain.len() / 2);
    let (encoding, whatever) = get("/v1/models", "identity;q=0").await;
    assert_eq!(encoding, "");
    assert_eq!(whatever.text().await.expect("a body"), plain);
    assert_eq!(get("/health/live", "gzip").await.0, "", "a short one");
    let id = alice.submit("gpt-4o-mini", json!({ "prompt": "watch me" })).await;
    let (encoding, events) = get(&format!("/v1/jobs/{id}/events"), "gzip").await;
    assert_eq!(encoding, "", "events");
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    assert_eq!(events.headers()["cache-control"], "no-store");
    assert_eq!(events.headers()["x-accel-buffering"], "no");
    drop(events);
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn a_body_that_is_compressed_is_refused() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let order = json!({ "model": "gpt-4o-mini", "input": { "prompt": "hello" } });
    let quote = async |encoding: &str| {
        alice.send(Method::POST, "/v1/jobs/quote", &[("content-encoding", encoding)], Some(&order)).await
    };
    for encoding in ["gzip", "br", "identity, gzip"] {
        let refused = quote(encoding).await;
        assert_eq!(refused.error(), (415, "unsupported_content_encoding", "Content-Encoding"));
        assert_eq!(refused.headers["accept-encoding"], "identity");
    }
    assert_eq!(quote("identity").await.status, 200);
    app.finish().await;
}

#[tokio::test]
async fn a_provider_that_rings_with_too_many_words_is_told_so_in_our_own() {
    let app = TestApp::new().await;
    let alice = app.account(38_000).await;
    let id = alice.submit("kling", json!({ "prompt": "a bell" })).await;
    let url = app.worker.doorbell.as_ref().expect("a doorbell").url(id);
    let refused = read(app.http.post(url).body(vec![b'x'; 64 * 1024 + 1])).await;
    assert_eq!(refused.error(), (413, "request_too_large", "none"));
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn pages_of_other_origins_are_not_let_in_unless_that_is_set() {
    let app = TestApp::new().await;
    let preflight = [("origin", PAGE), ("access-control-request-method", "POST")];
    let asked = ask(&app, Method::OPTIONS, "/v1/jobs", &preflight).await;
    assert!(asked.status().is_client_error() && !asked.headers().contains_key("access-control-allow-origin"));
    let called = ask(&app, Method::GET, "/v1/plans", &[("origin", PAGE)]).await;
    assert!(called.status().is_success() && !called.headers().contains_key("access-control-allow-origin"));
    app.finish().await;
}

#[tokio::test]
async fn a_page_that_is_let_in_is_answered_before_anybody_is_asked_who_they_are() {
    let app = with_pages(PAGE).await;
    let wanted = "authorization,content-type,idempotency-key";
    let preflight = [
        ("origin", PAGE),
        ("access-control-request-method", "PATCH"),
        ("access-control-request-headers", wanted),
    ];
    for path in ["/v1/jobs", "/v1/account", "/v1/nowhere"] {
        let asked = ask(&app, Method::OPTIONS, path, &preflight).await;
        assert_eq!(asked.status(), 200, "{path}");
        let headers = asked.headers();
        assert_eq!(headers["access-control-allow-origin"], PAGE, "{path}");
        assert_eq!(headers["access-control-allow-headers"], wanted, "{path}");
        assert!(has(headers, "access-control-allow-methods", "PATCH"), "{headers:?}");
        assert!(has(headers, "vary", "origin") && headers.contains_key("x-request-id"), "{headers:?}");
        assert!(!headers.contains_key("access-control-allow-credentials"), "{headers:?}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_page_that_is_let_in_reads_errors_as_well_and_another_reads_nothing() {
    let app = with_pages(PAGE).await;
    let alice = app.account(1000).await;
    let order = json!({ "model": "gpt-4o-mini", "input": { "prompt": "hello" } });
    let answers = [
        ask(&app, Method::GET, "/v1/models", &[("origin", PAGE)]).await.headers().clone(),
        ask(&app, Method::GET, "/v1/nowhere", &[("origin", PAGE)]).await.headers().clone(),
        alice.send(Method::POST, "/v1/jobs", &[("origin", PAGE)], Some(&json!({}))).await.headers,
        alice.send(Method::POST, "/v1/jobs", &[("origin", PAGE)], Some(&order)).await.headers,
    ];
    for headers in answers {
        assert_eq!(headers["access-control-allow-origin"], PAGE);
        for name in ["x-request-id", "retry-after", "ratelimit", "idempotent-replayed", "location"] {
            assert!(has(&headers, "access-control-expose-headers", name), "{name}: {headers:?}");
        }
    }
    for other in ["https://evil.example.com", "https://app.example.com.evil.example", "null"] {
        let answer = ask(&app, Method::GET, "/v1/plans", &[("origin", other)]).await;
        assert!(!answer.headers().contains_key("access-control-allow-origin"), "{other}");
    }
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn every_page_may_be_let_in() {
    let app = with_pages("*").await;
    let answer = ask(&app, Method::GET, "/v1/plans", &[("origin", "https://anyone.example")]).await;
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    app.finish().await;
}

async fn with_pages(origins: &str) -> TestApp {
    let cors = origins.parse().expect("origins");
    TestApp::with(Settings { cors, ..Settings::default() }).await
}

/// Whether a list in a header has this in it.
fn has(headers: &HeaderMap, name: &str, entry: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|list| list.split(',')).any(|found| found.trim() == entry)
}

#[tokio::test]
async fn a_callers_trace_reaches_the_provider_and_the_webhook_each_under_a_name_of_its_own() {
    let app = TestApp::new().await;
    let alice = app.account(38_000).await;
    let receiver = app.receiver().await;
    let sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let body =
        json!({ "model": "kling", "input": { "prompt": "traced" }, "webhook": { "url": receiver.url } });
    let accepted = alice.send(Method::POST, "/v1/jobs", &[("traceparent", sent)], Some(&body)).await;
    assert_eq!(accepted.status, 202, "{}", accepted.json);
    let kept: String = scalar(&app.db, "select traceparent from jobs").await;
    assert_eq!(kept, sent);
    app.drain().await;
    app.deliver().await;
    let heard = app.simulator.traces().await;
    for part in ["/videos/text2video", "/videos/text2video/", "/files/kling/"] {
        assert!(heard.iter().any(|(path, _)| path.contains(part)), "{part}: {heard:?}");
    }
    let told = receiver.received().into_iter().map(|told| told.traceparent);
    let traces: Vec<_> = heard.into_iter().map(|(_, trace)| trace).chain(told).collect();
    assert!(traces.len() >= 4, "submit, looks, download, webhook: {traces:?}");
    for trace in &traces {
        assert!(
            trace.starts_with(&sent[..36]) && trace.ends_with("-01") && trace.len() == sent.len(),
            "{trace}"
        );
        assert_ne!(trace, sent);
    }
    let spans: BTreeSet<_> = traces.iter().collect();
    assert_eq!(spans.len(), traces.len(), "each call has a name of its own: {traces:?}");
    app.finish().await;
}

#[tokio::test]
async fn a_request_that_is_part_of_nothing_begins_a_trace() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let requests: [(&str, &[(&str, &str)]); 3] = [
        ("one", &[]),
        ("two", &[("traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01")]),
        ("three", &[("traceparent", "nonsense")]),
    ];
    for (prompt, headers) in requests {
        let body = json!({ "model": "gpt-4o-mini", "input": { "prompt": prompt } });
        assert_eq!(alice.send(Method::POST, "/v1/jobs", headers, Some(&body)).await.status, 202);
    }
    app.drain().await;
    let kept: String =
        scalar(&app.db, "select string_agg(split_part(traceparent, '-', 2), ' ') from jobs").await;
    let kept: BTreeSet<_> = kept.split(' ').map(str::to_owned).collect();
    assert_eq!(kept.len(), 3, "one for each: {kept:?}");
    let heard = app.simulator.traces().await.into_iter().map(|(_, trace)| trace[3..35].to_owned());
    assert_eq!(heard.collect::<BTreeSet<_>>(), kept);
    app.finish().await;
}

#[tokio::test]
async fn a_proxy_may_speak_http_2_without_tls() {
    let app = TestApp::new().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
    let answer = client.get(format!("{}/health/live", app.base)).send().await.expect("an answer");
    assert_eq!((answer.version(), answer.status().as_u16()), (Version::HTTP_2, 200));
    drop((answer, client));
    app.finish().await;
}
