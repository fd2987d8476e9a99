//! Tokens move only for success, exactly once, and never below zero.

use chrono::TimeDelta;
use reqwest::StatusCode;
use serde_json::json;
use shared::account::KeyRole;

use crate::support::{TestApp, scalar};

#[tokio::test]
async fn of_many_submits_at_once_only_as_many_are_held_as_the_balance_pays_for() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let answers = futures::future::join_all((0..200).map(|n| {
        let alice = alice.clone();
        async move {
            alice.post("/v1/jobs", json!({ "model": "gpt-4o", "input": { "prompt": format!("{n}") } })).await
        }
    }))
    .await;
    let accepted = answers.iter().filter(|answer| answer.status == StatusCode::ACCEPTED).count();
    let refused = answers.iter().filter(|answer| answer.error().1 == "insufficient_tokens").count();
    assert_eq!((accepted, refused), (10, 190));
    assert_eq!(alice.tokens().await, (0, 10_000));
    app.drain().await;
    assert_eq!(alice.tokens().await, (0, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_refused_job_gives_the_tokens_back() {
    let app = TestApp::new().await;
    let alice = app.account(40_000).await;
    for (model, input) in [
        ("gpt-4o", json!({ "prompt": "[[sim:refuse]]" })),
        ("nano-banana", json!({ "prompt": "[[sim:refuse]]" })),
        ("kling", json!({ "prompt": "[[sim:refuse]]" })),
        ("hailuo", json!({ "prompt": "[[sim:refuse]]" })),
        ("tts-1", json!({ "text": "[[sim:refuse]]" })),
    ] {
        let id = alice.submit(model, input).await;
        app.drain().await;
        let job = alice.job(id).await;
        assert_eq!(job["error"]["code"], "content_refused", "{model}: {job}");
        assert_eq!(job["error"]["retryable"], false, "{model}");
        assert_eq!(
            (&job["price"]["charged"], job["status"].as_str()),
            (&json!(0), Some("failed")),
            "{model}"
        );
        assert_eq!(alice.tokens().await, (40_000, 0), "{model}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_canceled_job_gives_the_tokens_back_wherever_it_is() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let queued = alice.submit("kling", json!({ "prompt": "queued" })).await;
    let answer = alice.cancel(queued).await;
    assert_eq!((answer.status, answer.json["status"].as_str()), (StatusCode::OK, Some("canceled")));
    assert_eq!(alice.tokens().await, (100_000, 0));

    let parked = alice.submit("kling", json!({ "prompt": "parked" })).await;
    app.run_due().await;
    assert_eq!(alice.job(parked).await["status"], "running");
    let answer = alice.cancel(parked).await;
    assert_eq!((answer.status, answer.json["phase"].as_str()), (StatusCode::ACCEPTED, Some("canceling")));
    assert_eq!(app.run_due().await, 1, "a worker takes it up at once");
    assert_eq!(alice.job(parked).await["status"], "canceled");
    assert_eq!(alice.tokens().await, (100_000, 0));

    assert_eq!(alice.cancel(parked).await.error().0, 409);
    assert_eq!(alice.cancel(queued).await.error().1, "job_already_final");
    let bob = app.account(0).await;
    assert_eq!(bob.cancel(parked).await.error().0, 404, "another's job is not there");
    app.finish().await;
}

#[tokio::test]
async fn an_expired_job_gives_the_tokens_back() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let body =
        json!({ "model": "kling", "input": { "prompt": "[[sim:never_finish]]" }, "deadline_seconds": 60 });
    let id = alice.post("/v1/jobs", body).await.job();
    app.drain().await;
    let job = alice.job(id).await;
    assert_eq!(
        (job["status"].as_str(), job["error"]["code"].as_str()),
        (Some("expired"), Some("deadline_exceeded"))
    );
    assert_eq!(alice.tokens().await, (100_000, 0));
    app.finish().await;
}

#[tokio::test]
async fn polling_never_bills() {
    let app = TestApp::new().await;
    let alice = app.account(5000).await;
    let id = alice.submit("gpt-4o", json!({ "prompt": "poll me" })).await;
    for _ in 0..500 {
        alice.job(id).await;
    }
    app.drain().await;
    for _ in 0..500 {
        alice.job(id).await;
    }
    assert_eq!(alice.tokens().await, (4000, 0));
    app.finish().await;
}

#[tokio::test]
async fn every_movement_is_listed_newest_first() {
    let app = TestApp::new().await;
    let alice = app.account(5000).await;
    let done = alice.submit("gpt-4o", json!({ "prompt": "done" })).await;
    let refused = alice.submit("gpt-4o", json!({ "prompt": "[[sim:refuse]]" })).await;
    app.drain().await;
    let listed = alice.get("/v1/billing/transactions").await.json;
    let data = listed["data"].as_array().expect("a list");
    assert_eq!(data.len(), 5, "a grant, two holds, a charge and a release");
    assert_eq!(data[4]["kind"], "grant");
    let of = |kind: &str| data.iter().find(|entry| entry["kind"] == kind).expect("an entry");
    assert_eq!(
        (of("charge")["job"].as_str(), of("charge")["amount"].as_i64()),
        (Some(done.to_string().as_str()), Some(1000))
    );
    assert_eq!(of("release")["job"].as_str(), Some(refused.to_string().as_str()));
    let grants = alice.get("/v1/billing/transactions?kind=grant&limit=1").await.json;
    assert_eq!(
        (grants["data"][0]["amount"].as_i64(), grants["has_more"].as_bool()),
        (Some(5000), Some(false))
    );
    app.finish().await;
}

#[tokio::test]
async fn only_an_operator_moves_tokens_and_never_below_zero_or_twice() {
    let app = TestApp::new().await;
    let alice = app.account(100).await;
    let operators = app.account(0).await;
    let operator = app.key(operators.id, KeyRole::Operator).await;
    let path = "/v1/billing/balance";
    let give = json!({ "account": alice.id, "amount": 900, "reason": "a gift", "reference": "gift-1" });
    assert_eq!(alice.post(path, give.clone()).await.error(), (403, "forbidden", "none"));
    assert_eq!(operator.post(path, give.clone()).await.json["available"], 1000);
    assert_eq!(operator.post(path, give).await.error().1, "reference_used");
    let take = json!({ "account": alice.id, "amount": -1001, "reason": "too much" });
    assert_eq!(operator.post(path, take).await.error(), (400, "insufficient_tokens", "amount"));
    let take = json!({ "account": alice.id, "amount": -1000, "reason": "all of it" });
    assert_eq!(operator.post(path, take).await.json["available"], 0);
    for (body, param) in [
        (json!({ "account": alice.id, "amount": 0, "reason": "nothing" }), "amount"),
        (json!({ "account": alice.id, "amount": 1, "reason": " " }), "reason"),
        (
            json!({ "account": alice.id, "amount": 1, "reason": "x", "reference": "x".repeat(256) }),
            "reference",
        ),
        (json!({ "account": "acc_1", "amount": 1, "reason": "x" }), "account"),
        (json!({ "account": shared::id::AccountId::new(), "amount": 1, "reason": "x" }), "account"),
    ] {
        assert_eq!(operator.post(path, body).await.error().2, param);
    }
    app.finish().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "tries what the product never does")]
async fn the_ledger_refuses_to_be_changed() {
    let app = TestApp::new().await;
    app.account(100).await;
    for sql in ["update ledger set amount_tokens = 1", "delete from ledger", "truncate ledger"] {
        let error = sqlx::query(sql).execute(&app.db).await.expect_err(sql);
        assert!(error.to_string().contains("append-only"), "{sql}: {error}");
    }
    let count: i64 = scalar(&app.db, "select count(*) from ledger").await;
    assert_eq!(count, 1);
    app.clock.advance(TimeDelta::seconds(1));
    app.finish().await;
}
