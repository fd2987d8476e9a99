//! What an account and a key may do in an hour, a day, a month: decided in the statement that submits.

use chrono::TimeDelta;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Account, Answer, TestApp, scalar};

async fn ask(account: &Account, n: usize) -> Answer {
    account.post("/v1/jobs", json!({ "model": "gpt-4o", "input": { "prompt": format!("{n}") } })).await
}

fn header(answer: &Answer, name: &str) -> String {
    answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("none").to_owned()
}

#[tokio::test]
async fn a_free_account_submits_five_an_hour_and_is_told_where_it_stands() {
    let app = TestApp::new().await;
    let alice = app.account_of_tier("free", 100_000).await;
    for n in 1..=5 {
        let answer = ask(&alice, n).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{n}: {}", answer.json);
        assert_eq!(header(&answer, "x-ratelimit-limit-requests"), "5");
        assert_eq!(header(&answer, "x-ratelimit-remaining-requests"), (5 - n).to_string());
    }
    let refused = ask(&alice, 6).await;
    assert_eq!((refused.error().0, refused.error().1), (429, "rate_limited"), "{}", refused.json);
    assert_eq!(header(&refused, "retry-after"), "720", "one comes back every twelve minutes");
    assert_eq!(header(&refused, "x-ratelimit-remaining-requests"), "0");
    assert_eq!(alice.tokens().await, (95_000, 5000), "nothing is held for a refusal");
    app.clock.advance(TimeDelta::seconds(719));
    assert_eq!(ask(&alice, 7).await.status, StatusCode::TOO_MANY_REQUESTS);
    app.clock.advance(TimeDelta::seconds(1));
    assert_eq!(ask(&alice, 8).await.status, StatusCode::ACCEPTED, "as it was told");
    assert_eq!(alice.get("/v1/jobs").await.status, StatusCode::OK, "looking is not limited");
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn submits_at_the_same_moment_never_exceed_the_limit() {
    let app = TestApp::new().await;
    let alice = app.account_of_tier("free", 100_000).await;
    let answers = futures::future::join_all((0..40).map(|n| ask(&alice, n))).await;
    let accepted = answers.iter().filter(|answer| answer.status == StatusCode::ACCEPTED).count();
    let refused = answers.iter().filter(|answer| answer.error().1 == "rate_limited").count();
    assert_eq!((accepted, refused), (5, 35));
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn a_repeat_of_an_accepted_request_is_no_new_one() {
    let app = TestApp::new().await;
    let alice = app.account_of_tier("free", 100_000).await;
    let body = json!({ "model": "gpt-4o", "input": { "prompt": "once" } });
    for n in 0..10 {
        let answer =
            alice.send(reqwest::Method::POST, "/v1/jobs", &[("Idempotency-Key", "k")], Some(&body)).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{n}: {}", answer.json);
    }
    assert_eq!(alice.tokens().await.1, 1000);
    for n in 0..4 {
        assert_eq!(ask(&alice, n).await.status, StatusCode::ACCEPTED);
    }
    assert_eq!(ask(&alice, 5).await.status, StatusCode::TOO_MANY_REQUESTS);
    let again = alice.send(reqwest::Method::POST, "/v1/jobs", &[("Idempotency-Key", "k")], Some(&body)).await;
    assert_eq!(again.status, StatusCode::ACCEPTED, "even then");
    app.drain().await;
    app.finish().await;
}

/// A key with limits, of the same account.
async fn limited(app: &TestApp, account: &Account, limits: &Value) -> Account {
    let key = app.key(account.id, shared::account::KeyRole::Member).await;
    for (limit, column) in [("day", "day_limit"), ("month", "month_limit"), ("total", "total_limit")] {
        if let Some(tokens) = limits[limit].as_i64() {
            let sql = format!(
                "update api_keys set {column} = {tokens} where secret_hash = sha256('{}'::bytea) returning 1",
                key.key
            );
            let _: i32 = scalar(&app.db, &sql).await;
        }
    }
    key
}

#[tokio::test]
async fn a_key_spends_no_more_than_its_day_its_month_and_its_total() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let key = limited(&app, &alice, &json!({ "day": 2000, "month": 3000, "total": 4500 })).await;
    let mut day = TimeDelta::zero();
    // Each line: how many fit on that day. A month begins after the second.
    for (days_on, fit) in [(0, 2), (1, 1), (32, 1), (1, 0)] {
        day += TimeDelta::days(days_on);
        app.clock.advance(TimeDelta::days(days_on));
        for n in 0..fit {
            let answer = ask(&key, n).await;
            assert_eq!(answer.status, StatusCode::ACCEPTED, "day {day} {n}: {}", answer.json);
        }
        let refused = ask(&key, 9).await;
        assert_eq!((refused.error().0, refused.error().1), (402, "key_limit_reached"), "day {day}");
        app.drain().await;
    }
    assert_eq!(alice.tokens().await, (996_000, 0));
    assert_eq!(ask(&alice, 1).await.status, StatusCode::ACCEPTED, "other keys are not concerned");
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn what_a_keys_job_gave_back_may_be_spent_again() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let key = limited(&app, &alice, &json!({ "day": 1000, "total": 1500 })).await;
    for _ in 0..3 {
        key.submit("gpt-4o", json!({ "prompt": "[[sim:refuse]]" })).await;
        assert_eq!(ask(&key, 1).await.error().1, "key_limit_reached");
        app.drain().await;
    }
    assert_eq!(ask(&key, 1).await.status, StatusCode::ACCEPTED);
    app.drain().await;
    assert_eq!(ask(&key, 2).await.error().1, "key_limit_reached");
    app.finish().await;
}

#[tokio::test]
async fn submits_of_a_limited_key_at_the_same_moment_never_exceed_its_limit() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let key = limited(&app, &alice, &json!({ "day": 3000 })).await;
    let answers = futures::future::join_all((0..30).map(|n| ask(&key, n))).await;
    let accepted = answers.iter().filter(|answer| answer.status == StatusCode::ACCEPTED).count();
    let refused = answers.iter().filter(|answer| answer.error().1 == "key_limit_reached").count();
    assert_eq!((accepted, refused), (3, 27));
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn a_limit_set_while_jobs_run_is_not_paid_back_by_them() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let key = limited(&app, &alice, &json!({})).await;
    let before = key.submit("gpt-4o", json!({ "prompt": "before" })).await;
    let sql = format!(
        "update api_keys set total_limit = 2000 where secret_hash = sha256('{}'::bytea) returning 1",
        key.key
    );
    let _: i32 = scalar(&app.db, &sql).await;
    assert_eq!(ask(&key, 1).await.status, StatusCode::ACCEPTED);
    assert_eq!(ask(&key, 2).await.status, StatusCode::ACCEPTED);
    assert_eq!(key.cancel(before).await.status, StatusCode::OK);
    assert_eq!(
        ask(&key, 3).await.error().1,
        "key_limit_reached",
        "it never counted, so it gives nothing back"
    );
    app.drain().await;
    app.finish().await;
}
