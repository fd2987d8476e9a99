//! A model with two routes: what one provider cannot do the other does, within one hold, and its owner pays once.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use shared::{config, job::Medium, process::Process};
use sqlx::AssertSqlSafe;
use workers::{Ctx, runtime};

use crate::support::{Account, TestApp, eventually, scalar};

/// What a picture of flux costs; fal makes it, and Replicate where fal does not.
const FLUX: i64 = 7500;

/// A flux job with these wishes, to its end: its view, the providers of its attempts in order, and how many submits were paid.
async fn run(app: &TestApp, alice: &Account, prompt: &str, routing: Value) -> (Value, String, u64) {
    let order = json!({ "model": "flux", "input": { "prompt": prompt }, "routing": routing });
    let id = alice.post("/v1/jobs", order).await.job();
    assert_eq!(alice.tokens().await, (10_000 - FLUX, FLUX), "one hold");
    app.drain().await;
    let tried: Option<String> = attempts(app, &id.0.to_string()).await;
    (alice.job(id).await, tried.unwrap_or_default(), app.simulator.paid(prompt).await)
}

#[expect(clippy::disallowed_methods, reason = "a look behind the front door")]
async fn attempts(app: &TestApp, job: &str) -> Option<String> {
    let sql =
        format!("select string_agg(provider, ' ' order by attempt) from attempts where job_id = '{job}'");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&app.db).await.expect("the attempts")
}

#[tokio::test]
async fn a_failure_of_one_provider_is_made_good_by_the_next_at_once() {
    let app = TestApp::new().await;
    for (n, (fault, paid)) in [
        (json!({ "fault": "fail" }), 1),
        (json!({ "fault": "auth" }), 1),
        (json!({ "fault": "quota" }), 1),
        (json!({ "fault": "rate_limit", "value": "300" }), 1),
        (json!({ "fault": "bad_input" }), 1),
        // The first took the work, and then could not do it, or lost its answer, or made nothing of use.
        (json!({ "fault": "task_fail" }), 2),
        (json!({ "fault": "drop", "times": 1 }), 2),
        (json!({ "fault": "corrupt" }), 2),
        // A good picture, four times as wide as high, where a square is meant.
        (json!({ "fault": "odd" }), 2),
    ]
    .into_iter()
    .enumerate()
    {
        app.providers_forgive();
        let alice = app.account(10_000).await;
        let prompt = format!("fallback number {n}.");
        let mut order = fault.clone();
        order["contains"] = json!(prompt);
        order["provider"] = json!("fal");
        app.simulator.order(order).await;
        let (job, tried, bill) = run(&app, &alice, &prompt, json!({})).await;
        assert_eq!(
            (job["status"].as_str(), tried.as_str()),
            (Some("succeeded"), "fal replicate"),
            "{fault}: {job}"
        );
        assert_eq!(bill, paid, "{fault}: paid submits");
        assert_eq!(alice.tokens().await, (10_000 - FLUX, 0), "{fault}: charged once");
    }
    app.finish().await;
}

#[tokio::test]
async fn what_was_not_ordered_is_made_elsewhere_charged_once_and_what_it_cost_is_noted() {
    let app = TestApp::new().await;
    let alice = app.account(50_000).await;
    app.simulator.order(json!({ "fault": "odd", "provider": "fal", "contains": "two wide foxes" })).await;
    let input = json!({ "prompt": "two wide foxes", "n": 2, "aspect_ratio": "16:9" });
    let id = alice.submit("flux", input).await;
    app.drain().await;
    let job = alice.job(id).await;
    let made = job["output"]["files"].as_array().cloned().unwrap_or_default();
    let sizes: Vec<_> = made.iter().map(|file| (file["width"].as_i64(), file["height"].as_i64())).collect();
    assert_eq!(sizes, vec![(Some(1344), Some(768)); 2], "{job}");
    assert_eq!(job["price"]["charged"], 2 * FLUX, "{job}");
    assert_eq!(alice.tokens().await, (50_000 - 2 * FLUX, 0));
    assert_eq!(app.simulator.paid("two wide foxes").await, 2);
    assert_eq!(attempts(&app, &id.0.to_string()).await.as_deref(), Some("fal replicate"));
    let noted: i64 =
        scalar(&app.db, &format!("select count(*) from attempts where job_id = '{}' and cost_usd > 0", id.0))
            .await;
    assert_eq!(noted, 2, "the first was made as well, and will be billed");
    app.finish().await;
}

#[tokio::test]
async fn what_no_provider_can_do_fails_after_its_tries_and_costs_nothing() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    app.simulator.order(json!({ "contains": "nobody", "fault": "quota" })).await;
    let (job, tried, bill) = run(&app, &alice, "nobody can", json!({})).await;
    assert_eq!(job["error"]["code"], "provider_unavailable", "{job}");
    // How often each is asked depends on what it says of our key meanwhile.
    let tried: Vec<_> = tried.split(' ').collect();
    assert!((2..=5).contains(&tried.len()) && tried.starts_with(&["fal", "replicate"]), "{tried:?}");
    assert_eq!(bill, 0);
    assert_eq!(alice.tokens().await, (10_000, 0));
    app.finish().await;
}

#[tokio::test]
async fn nobody_else_is_asked_where_the_content_is_refused_or_the_caller_says_so() {
    let app = TestApp::new().await;
    for (n, (routing, fault, code)) in [
        (json!({}), json!({ "fault": "refuse", "value": "submit" }), "content_refused"),
        (json!({ "allow_fallbacks": false }), json!({ "fault": "task_fail" }), "provider_failed"),
        (json!({ "only": ["fal"] }), json!({ "fault": "task_fail" }), "provider_failed"),
        (json!({ "ignore": ["replicate"] }), json!({ "fault": "task_fail" }), "provider_failed"),
    ]
    .into_iter()
    .enumerate()
    {
        app.providers_forgive();
        let alice = app.account(10_000).await;
        let prompt = format!("stays number {n}.");
        let mut order = fault.clone();
        order["contains"] = json!(prompt);
        app.simulator.order(order).await;
        let (job, tried, _) = run(&app, &alice, &prompt, routing).await;
        assert_eq!((job["error"]["code"].as_str(), tried.as_str()), (Some(code), "fal"), "{fault}: {job}");
        assert_eq!(alice.tokens().await, (10_000, 0), "{fault}");
    }
    app.finish().await;
}

#[tokio::test]
async fn the_order_that_a_caller_wishes_is_the_order_of_the_fallbacks() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    app.simulator
        .order(json!({ "contains": "the other way", "provider": "replicate", "fault": "auth" }))
        .await;
    let (job, tried, _) = run(&app, &alice, "the other way", json!({ "order": ["replicate"] })).await;
    assert_eq!((job["status"].as_str(), tried.as_str()), (Some("succeeded"), "replicate fal"), "{job}");
    app.finish().await;
}

#[tokio::test]
async fn what_a_worker_has_let_go_of_is_taken_up_again_when_it_is_due_and_not_at_a_poll() {
    let app = TestApp::new().await;
    let alice = app.account(2000).await;
    // The next vendor is tried at once.
    app.simulator.order(json!({ "fault": "fail", "provider": "openai", "contains": "to and fro" })).await;
    let timing = config::Queue { poll: Duration::from_secs(3600), ..app.worker.timing.clone() };
    let worker = Process::new();
    let serving = runtime::serve(Ctx { timing, ..app.worker.clone() }, Medium::Text, 4, &worker);
    let asking = async {
        let id = alice.submit("gpt-4o", json!({ "prompt": "to and fro" })).await;
        eventually("it is made by the next vendor", async || {
            app.clock.advance(TimeDelta::milliseconds(1));
            alice.job(id).await["status"] == "succeeded"
        })
        .await;
        worker.finish().await;
    };
    let (served, ()) = tokio::join!(serving, asking);
    served.expect("it served");
    app.finish().await;
}

#[tokio::test]
async fn the_second_provider_has_what_the_first_has_left_of_the_time() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    app.simulator.order(json!({ "provider": "fal", "contains": "late", "fault": "task_fail" })).await;
    app.simulator
        .order(json!({ "provider": "replicate", "contains": "late", "fault": "never_finish" }))
        .await;
    let began = app.now();
    let order = json!({ "model": "flux", "input": { "prompt": "a late fox" }, "deadline_seconds": 300 });
    let id = alice.post("/v1/jobs", order).await.job();
    let deadline = alice.job(id).await["deadline"].clone();
    // The first is still at work when it is first looked for, and gives up when most of the time is gone.
    for _ in 0..2 {
        app.run_due().await;
        app.clock.advance(TimeDelta::seconds(140));
    }
    app.drain().await;
    let job = alice.job(id).await;
    assert_eq!((&job["status"], &job["deadline"]), (&json!("expired"), &deadline), "{job}");
    assert_eq!(attempts(&app, &id.0.to_string()).await.as_deref(), Some("fal replicate"));
    let second = format!("select started_at from attempts where job_id = '{}' and attempt = 2", id.0);
    let second: DateTime<Utc> = scalar(&app.db, &second).await;
    let ended: DateTime<Utc> =
        scalar(&app.db, &format!("select finished_at from jobs where id = '{}'", id.0)).await;
    assert!(second - began >= TimeDelta::seconds(280), "most of the time is gone: {}", second - began);
    let took = (ended - began).num_seconds();
    assert!((300..400).contains(&took), "ended after {took} s");
    assert_eq!(alice.tokens().await, (10_000, 0));
    app.finish().await;
}
