//! Answers that take long: that they are still coming is shown all the while, and what became of them is told.

use std::{io::Read, time::Duration};

use flate2::read::GzDecoder;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{PATH, chat, chunks, request, words};
use crate::support::{Account, Events, TestApp};

/// The same account at a door that is hardly ever silent.
async fn at_a_lively_door(app: &TestApp, alice: &Account) -> Account {
    let short = Duration::from_millis(20);
    let waits = api::Waits { heartbeat: short, silence: short, ..api::Waits::default() };
    Account { base: app.waiting_door(waits).await, ..alice.clone() }
}

/// What was sent, as far as it has come.
fn plain(encoding: &str, sent: &[u8]) -> Vec<u8> {
    if encoding != "gzip" {
        return sent.to_vec();
    }
    let mut text = Vec::new();
    // As long as more is to come, this ends too soon.
    drop(GzDecoder::new(sent).read_to_end(&mut text));
    text
}

/// Waits until an answer shows that it is coming, and gives what has come of it.
async fn white_space(response: &mut Response, encoding: &str) -> Vec<u8> {
    let mut sent = Vec::new();
    while plain(encoding, &sent).is_empty() {
        sent.extend(response.chunk().await.expect("it goes on").expect("and has not ended"));
    }
    let text = plain(encoding, &sent);
    assert!(text.iter().all(|byte| b" \n".contains(byte)), "{text:?}");
    sent
}

#[tokio::test]
async fn the_events_of_a_job_that_stands_still_are_comments() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    let lively = at_a_lively_door(&app, &alice).await;
    let id = alice.submit("gpt-4o", json!({ "prompt": "wait" })).await;
    let url = format!("{}/v1/jobs/{id}/events", lively.base);
    let mut events = Events::of(app.http.get(url).bearer_auth(&alice.key)).await;
    assert_eq!(events.next().await.expect("the job").json()["status"], "queued");
    for _ in 0..3 {
        events.beat().await;
    }
    let (rest, ()) = tokio::join!(events.rest(), app.drain());
    assert_eq!(rest.last().expect("the end").json()["status"], "succeeded");
    app.finish().await;
}

#[tokio::test]
async fn a_stream_without_words_yet_has_comments() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    let lively = at_a_lively_door(&app, &alice).await;
    let body = chat("gpt-4o", "think first", json!({ "stream": true }));
    let mut events = Events::of(request(&lively, &body)).await;
    for _ in 0..3 {
        events.beat().await;
    }
    let (rest, ()) = tokio::join!(events.rest(), app.drain());
    assert!(words(&chunks(&rest), 0).contains("think first"));
    assert_eq!(alice.tokens().await, (0, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_stream_that_has_only_comments_ends_with_the_error_of_its_job() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    let lively = at_a_lively_door(&app, &alice).await;
    let body = chat("gpt-4o", "think, and then [[sim:refuse]]", json!({ "stream": true }));
    let mut events = Events::of(request(&lively, &body)).await;
    events.beat().await;
    let (rest, ()) = tokio::join!(events.rest(), app.drain());
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert_eq!(rest[0].json()["error"]["code"], "content_policy_violation");
    assert_eq!(alice.tokens().await, (1000, 0));
    app.finish().await;
}

#[tokio::test]
async fn an_answer_that_takes_long_has_white_space_before_it() {
    let app = TestApp::new().await;
    let alice = app.account(2000).await;
    let lively = at_a_lively_door(&app, &alice).await;
    // White space must not wait for more to compress.
    for encoding in ["identity", "gzip"] {
        let asked = request(&lively, &chat("gpt-4o", "slowly", json!({})));
        let mut response = asked.header("accept-encoding", encoding).send().await.expect("it begins");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert!(response.headers().contains_key("x-kiln-job"));
        assert_eq!(response.headers().contains_key("content-encoding"), encoding == "gzip");
        let mut sent = white_space(&mut response, encoding).await;
        app.drain().await;
        sent.extend(response.bytes().await.expect("it comes to its end"));
        let whole: Value = serde_json::from_slice(&plain(encoding, &sent)).expect("JSON, all in all");
        assert_eq!(whole["object"], "chat.completion");
        let text = whole["choices"][0]["message"]["content"].as_str().expect("words");
        assert!(text.contains("slowly"), "{text}");
    }
    assert_eq!(alice.tokens().await, (0, 0));
    app.finish().await;
}

#[tokio::test]
async fn an_answer_that_fails_late_breaks_off_and_its_repeat_is_told_why() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    let lively = at_a_lively_door(&app, &alice).await;
    for (encoding, fault, expected) in [
        ("identity", "refuse", (400, "content_policy_violation", "none")),
        ("gzip", "no_result", (502, "provider_result_unusable", "none")),
    ] {
        let body = chat("gpt-4o", &format!("late [[sim:{fault}]]"), json!({}));
        let asked = request(&lively, &body).header("idempotency-key", fault);
        let mut response = asked.header("accept-encoding", encoding).send().await.expect("it begins");
        assert_eq!(response.status(), StatusCode::OK);
        white_space(&mut response, encoding).await;
        app.drain().await;
        response.bytes().await.expect_err("the connection ends before the answer does");
        let repeat = alice.send(Method::POST, PATH, &[("idempotency-key", fault)], Some(&body)).await;
        assert_eq!(repeat.error(), expected, "{}", repeat.json);
    }
    let jobs = alice.get("/v1/jobs").await.json;
    assert_eq!(jobs["data"].as_array().map(Vec::len), Some(2), "{jobs}");
    assert_eq!(alice.tokens().await, (1000, 0));
    app.finish().await;
}
