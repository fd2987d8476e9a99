//! Requests of programs that send again what they got no answer to, and say only which time it is.

use chrono::TimeDelta;
use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::account::KeyRole;

use crate::support::{Account, Answer, TestApp, scalar};

/// What a chat costs.
const CHAT: i64 = 1000;

fn chat(prompt: &str) -> Value {
    json!({ "model": "gpt-4o", "input": { "prompt": prompt } })
}

/// Sends a request for the first time, as 0, or again, as the SDKs of OpenAI do.
async fn send(account: &Account, time: u32, body: &Value) -> Answer {
    let time = time.to_string();
    let headers = [("x-stainless-retry-count", time.as_str())];
    let answer = account.send(Method::POST, "/v1/jobs", &headers, Some(body)).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.json);
    answer
}

async fn traces(app: &TestApp) -> i64 {
    scalar(&app.db, "select count(*) from idempotency_keys").await
}

#[tokio::test]
async fn a_request_sent_again_gets_the_newest_job_that_was_asked_for_so() {
    let app = TestApp::new().await;
    let alice = app.account(10 * CHAT).await;
    let body = chat("once");
    let (one, two) = (send(&alice, 0, &body).await, send(&alice, 0, &body).await);
    assert_ne!(one.job(), two.job(), "who sends it twice for the first time wants it twice");
    assert!(!two.headers.contains_key("idempotent-replayed"));
    for time in 1..=2 {
        let again = send(&alice, time, &body).await;
        assert_eq!(again.job(), two.job());
        assert_eq!(again.headers["idempotent-replayed"], "true");
    }
    assert_eq!(alice.tokens().await, (8 * CHAT, 2 * CHAT));
    assert_eq!(traces(&app).await, 1);

    let other = send(&alice, 1, &chat("twice")).await;
    assert!(!other.headers.contains_key("idempotent-replayed"), "one that never arrived is made");
    assert_eq!(send(&alice, 2, &chat("twice")).await.job(), other.job());
    let another_key = app.key(alice.id, KeyRole::Member).await;
    let bob = app.account(CHAT).await;
    for stranger in [another_key, bob] {
        let theirs = send(&stranger, 1, &body).await.job();
        assert!(theirs != one.job() && theirs != two.job(), "a request belongs to its key");
    }
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn a_job_answers_its_request_for_ten_minutes_after_its_success() {
    let app = TestApp::new().await;
    let alice = app.account(10 * CHAT).await;
    let body = chat("once");
    let first = send(&alice, 0, &body).await.job();
    app.drain().await;
    app.clock.advance(TimeDelta::minutes(9));
    let again = send(&alice, 1, &body).await;
    assert_eq!((again.job(), &again.json["status"]), (first, &json!("succeeded")));
    app.clock.advance(TimeDelta::minutes(2));
    let late = send(&alice, 1, &body).await.job();
    assert_ne!(late, first, "by then it is asked for anew");
    assert_eq!(send(&alice, 2, &body).await.job(), late);
    app.drain().await;
    assert_eq!(alice.tokens().await, (8 * CHAT, 0));
    app.finish().await;
}

#[tokio::test]
async fn what_may_succeed_or_is_being_canceled_is_made_when_it_is_sent_again() {
    let app = TestApp::new().await;
    let alice = app.account(200_000).await;
    for (fault, is_made) in [("[[sim:refuse]]", false), ("[[sim:quota]]", true)] {
        let body = chat(fault);
        let first = send(&alice, 0, &body).await.job();
        app.drain().await;
        let job = alice.job(first).await;
        assert_eq!(
            (&job["status"], &job["error"]["retryable"]),
            (&json!("failed"), &json!(is_made)),
            "{job}"
        );
        assert_eq!(send(&alice, 1, &body).await.job() != first, is_made, "{fault}");
        app.providers_forgive();
    }

    let film = json!({ "model": "kling", "input": { "prompt": "a fox" } });
    let first = send(&alice, 0, &film).await.job();
    app.run_due().await;
    assert_eq!(send(&alice, 1, &film).await.job(), first, "it is under way");
    assert_eq!(alice.cancel(first).await.status, StatusCode::ACCEPTED);
    assert_ne!(send(&alice, 2, &film).await.job(), first);
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn the_request_that_took_the_last_tokens_may_be_sent_again_whatever_it_costs_today() {
    let app = TestApp::new().await;
    let alice = app.account(CHAT).await;
    let mut body = chat("the last");
    body["max_price"] = json!(CHAT);
    let first = send(&alice, 0, &body).await.job();
    assert_eq!(send(&alice, 1, &body).await.job(), first);
    let operator = app.key(app.account(0).await.id, KeyRole::Operator).await;
    let dearer = json!({ "tokens": 2 * CHAT, "reason": "costs rose" });
    let set = operator.send(Method::PUT, "/v1/admin/prices/gpt-4o", &[], Some(&dearer)).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.json);
    assert_eq!(send(&alice, 2, &body).await.job(), first);
    let headers = [("x-stainless-retry-count", "0")];
    let anew = alice.send(Method::POST, "/v1/jobs", &headers, Some(&body)).await;
    assert_eq!(anew.error(), (400, "price_above_max", "max_price"));
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn a_key_counts_before_the_time_and_who_says_nothing_leaves_no_trace() {
    let app = TestApp::new().await;
    let alice = app.account(10 * CHAT).await;
    let body = chat("keyed");
    alice.post("/v1/jobs", body.clone()).await.job();
    assert_eq!(traces(&app).await, 0);
    for header in ["", "often", "-1"] {
        let headers = [("x-stainless-retry-count", header)];
        let answer = alice.send(Method::POST, "/v1/jobs", &headers, Some(&body)).await;
        assert_eq!((answer.status, traces(&app).await), (StatusCode::ACCEPTED, 0), "{header:?}");
    }
    let keyed = async |key: &str, time: &str| {
        let headers = [("Idempotency-Key", key), ("x-stainless-retry-count", time)];
        alice.send(Method::POST, "/v1/jobs", &headers, Some(&body)).await.job()
    };
    let (one, two) = (keyed("one", "0").await, keyed("two", "1").await);
    assert_ne!(one, two, "another key is another request");
    assert_eq!((keyed("one", "1").await, traces(&app).await), (one, 2));
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn however_many_are_sent_again_at_once_they_are_one_job() {
    let app = TestApp::new().await;
    let alice = app.account(100 * CHAT).await;
    let body = chat("at once");
    let first = send(&alice, 0, &body).await.job();
    let answers = join_all((0..20).map(|_| send(&alice, 1, &body))).await;
    assert!(answers.iter().all(|answer| answer.job() == first));
    let lost = chat("lost");
    let answers = join_all((0..20).map(|_| send(&alice, 1, &lost))).await;
    assert!(answers.iter().all(|answer| answer.job() == answers[0].job()));
    assert_eq!(alice.tokens().await, (98 * CHAT, 2 * CHAT));
    // The first time and the second may meet in one statement, where neither can be before the other.
    let both = chat("both");
    let answers = join_all((0..20).map(|time| send(&alice, time % 2, &both))).await;
    let newest = send(&alice, 1, &both).await.job();
    assert!(answers.iter().any(|answer| answer.job() == newest));
    app.drain().await;
    app.finish().await;
}
