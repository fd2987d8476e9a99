//! When jobs are said to end: by what their route takes lately and by who stands before them.

use std::f64::consts::LN_2;

use chrono::TimeDelta;
use serde_json::{Value, json};
use shared::id::JobId;

use crate::support::{Account, TestApp, execute};

/// What a film takes lately, in seconds.
const TAKES: i64 = 60;

/// Kling makes a film in a minute, and one comes every ten seconds.
async fn know_kling(app: &TestApp) {
    // What comes evenly has faded to as many as come in a half-life, a minute, by the logarithm of two.
    let good = 60.0 / LN_2 / 10.0;
    let sql = format!(
        "insert into provider_routes (provider, upstream_model, seen_at, good, bad, succeeded, failed, latency_ms)
         values ('kling', 'kling-v2-5-turbo', '{}', {good}, 0, 1, 0, {})",
        app.now().to_rfc3339(),
        TAKES * 1000
    );
    assert_eq!(execute(&app.db, &sql).await.expect("a standing"), 1);
    app.door.standings.refresh(&app.db).await.expect("look");
}

async fn quote(account: &Account) -> Value {
    let order = json!({ "model": "kling", "input": { "prompt": "a film" } });
    account.post("/v1/jobs/quote", order).await.json["eta_seconds"].clone()
}

#[tokio::test]
async fn a_job_is_said_to_end_when_those_before_it_are_taken_up_and_its_route_had_its_time() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let eta = async |job: JobId| alice.job(job).await["eta_seconds"].clone();
    let film = json!({ "prompt": "a film" });
    assert_eq!(quote(&alice).await, Value::Null, "nothing is known");
    let first = alice.submit("kling", film.clone()).await;
    assert_eq!(eta(first).await, Value::Null);

    know_kling(&app).await;
    let second = alice.submit("kling", film.clone()).await;
    let third = alice.submit("kling", film.clone()).await;
    assert_eq!(
        [eta(first).await, eta(second).await, eta(third).await],
        [json!(TAKES), json!(TAKES + 10), json!(TAKES + 20)]
    );
    app.door.estimator.refresh(&app.db).await.expect("count");
    assert_eq!(quote(&alice).await, TAKES + 30);
    let listed = alice.get("/v1/jobs").await.json;
    assert_eq!(listed["data"][0]["eta_seconds"], Value::Null, "places are not counted in lists");
    let later = json!({ "model": "kling", "input": film, "start_at": app.now() + TimeDelta::hours(1), "deadline_seconds": 600 });
    let later = alice.post("/v1/jobs", later).await;
    assert_eq!(later.json["eta_seconds"], 3600 + TAKES);
    assert_eq!(eta(later.job()).await, 3600 + TAKES);

    app.run_due().await;
    assert_eq!([eta(first).await, eta(third).await], [json!(TAKES), json!(TAKES)], "all are under way");
    app.clock.advance(TimeDelta::seconds(45));
    assert_eq!(eta(first).await, TAKES - 45);
    assert_eq!(alice.get("/v1/jobs").await.json["data"][1]["eta_seconds"], TAKES - 45);
    app.clock.advance(TimeDelta::seconds(45));
    assert_eq!(eta(first).await, 0, "any moment");
    app.drain().await;
    assert_eq!(eta(first).await, Value::Null, "it has ended");
    app.finish().await;
}

#[tokio::test]
async fn no_job_is_said_to_end_after_its_deadline_and_a_pool_at_rest_says_nothing_of_its_line() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    know_kling(&app).await;
    let short = json!({ "model": "kling", "input": { "prompt": "a film" }, "deadline_seconds": 20 });
    let first = alice.post("/v1/jobs", short).await;
    assert_eq!(first.json["eta_seconds"], 20);
    let second = alice.submit("kling", json!({ "prompt": "a film" })).await;
    app.clock.advance(TimeDelta::minutes(25));
    assert_eq!(alice.job(second).await["eta_seconds"], Value::Null, "nothing was made for long");
    app.drain().await;
    app.finish().await;
}
