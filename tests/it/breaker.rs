//! A route that mostly fails rests for all processes, is tried by one job at a time, and takes work again when that succeeds.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use shared::job::Medium;
use sqlx::AssertSqlSafe;
use workers::run;

use crate::support::{Account, TestApp, scalar};

const FLUX: i64 = 7500;

/// How many jobs fail before anybody looks. Ten are enough, of which some may have faded.
const SICK: i64 = 14;

/// Jobs that the first provider of flux fails, so that its route opens. Each is made by the second one.
async fn open_route(app: &TestApp, alice: &Account) {
    app.simulator.order(json!({ "fault": "fail", "provider": "fal", "contains": "sick" })).await;
    for n in 0..SICK {
        alice.submit("flux", json!({ "prompt": format!("sick {n}") })).await;
    }
    app.drain().await;
    app.worker.health.flush().await.expect("tell");
}

#[expect(clippy::disallowed_methods, reason = "a look behind the front door")]
async fn tried(app: &TestApp, prompt: &str) -> String {
    let sql = format!(
        "select coalesce(string_agg(a.provider, ' ' order by a.attempt), '') from attempts a join jobs j on j.id = a.job_id
         where j.input ->> 'prompt' = '{prompt}'"
    );
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&app.db).await.expect("the attempts")
}

async fn made(app: &TestApp, alice: &Account, prompt: &str, routing: Value) -> Value {
    let order = json!({ "model": "flux", "input": { "prompt": prompt }, "routing": routing });
    let id = alice.post("/v1/jobs", order).await.job();
    app.drain().await;
    alice.job(id).await
}

#[tokio::test]
async fn jobs_go_around_a_route_that_rests_and_spend_no_try_on_it() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    open_route(&app, &alice).await;
    assert!(!app.worker.health.takes_work("fal", "fal-ai/flux/dev"));
    let before = app.simulator.submits("well").await["data"].as_array().map_or(0, Vec::len);
    // This door has not looked since, so the job is ordered from the first route, and goes around it.
    let job = made(&app, &alice, "well", json!({})).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    assert_eq!(tried(&app, "well").await, "replicate");
    assert_eq!(before, 0);
    let tries: i64 = scalar(&app.db, "select count(*) from attempts where outcome is null").await;
    assert_eq!(tries, 0);
    assert_eq!(alice.tokens().await, (1_000_000 - (SICK + 1) * FLUX, 0));
    app.finish().await;
}

#[tokio::test]
async fn one_job_tries_a_route_whose_pause_is_over_and_its_success_opens_it_to_all() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    open_route(&app, &alice).await;
    for n in 0..3 {
        let order = json!({ "model": "flux", "input": { "prompt": format!("probe {n}") }, "routing": { "only": ["fal"] } });
        alice.post("/v1/jobs", order).await.job();
    }
    app.run_due().await;
    assert_eq!(app.simulator.paid("probe").await, 0, "all wait");
    app.clock.advance(TimeDelta::seconds(33));
    app.run_due().await;
    assert_eq!(app.simulator.paid("probe").await, 1, "one tries");
    app.drain().await;
    app.worker.health.flush().await.expect("tell");
    assert_eq!(app.simulator.paid("probe").await, 3);
    assert!(app.worker.health.takes_work("fal", "fal-ai/flux/dev"));
    app.finish().await;
}

#[tokio::test]
async fn a_trial_that_fails_lengthens_the_pause() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    open_route(&app, &alice).await;
    let rests = || app.worker.health.standing("fal", "fal-ai/flux/dev").open_until.expect("it rests");
    let first = rests();
    app.clock.advance_to(first + TimeDelta::seconds(1));
    let order =
        json!({ "model": "flux", "input": { "prompt": "sick still" }, "routing": { "only": ["fal"] } });
    let id = alice.post("/v1/jobs", order).await.job();
    app.run_due().await;
    app.worker.health.flush().await.expect("tell");
    assert!(rests() > app.now() + TimeDelta::seconds(50), "a minute from the trial on");
    alice.cancel(id).await;
    app.drain().await;
    app.finish().await;
}

/// Has a worker end the one film that is open, at its deadline.
async fn expire(app: &TestApp) {
    let deadline: DateTime<Utc> = scalar(&app.db, "select deadline from queue").await;
    app.clock.advance_to(deadline);
    let claimed = app.claim(Medium::Video).await.pop().expect("due at its deadline");
    run::expire(&app.worker, &claimed).await;
}

#[tokio::test]
async fn a_task_that_is_never_finished_counts_against_its_route() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let reliability = async || {
        app.worker.health.flush().await.expect("tell");
        app.worker.health.standing("kling", "kling-v2-5-turbo").reliability
    };
    let film = async || alice.submit("kling", json!({ "prompt": "[[sim:never_finish]]" })).await;
    // Its owner wants no more.
    let job = film().await;
    app.run_due().await;
    alice.cancel(job).await;
    app.run_due().await;
    assert_eq!(alice.job(job).await["status"], "canceled");
    // It came there when its time was almost over.
    film().await;
    app.clock.advance(TimeDelta::minutes(29));
    app.run_due().await;
    expire(&app).await;
    assert!(reliability().await > 0.9, "neither is the provider's fault");

    let job = film().await;
    app.run_due().await;
    expire(&app).await;
    assert_eq!(alice.job(job).await["status"], "expired");
    assert!(reliability().await < 0.1, "it had half an hour");
    assert_eq!(alice.tokens().await, (1_000_000, 0));
    app.finish().await;
}

#[tokio::test]
async fn doors_put_a_route_that_rests_last_and_tell_how_providers_fare() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    open_route(&app, &alice).await;
    app.door.standings.refresh(&app.db).await.expect("look");
    let order = json!({ "model": "flux", "input": { "prompt": "chosen" } });
    alice.post("/v1/jobs", order).await.job();
    let chosen: String =
        scalar(&app.db, "select provider from jobs where input ->> 'prompt' = 'chosen'").await;
    assert_eq!(chosen, "replicate");
    app.drain().await;
    let health = app.http.get(format!("{}/health/dependencies", app.base)).send().await.expect("ask");
    assert_eq!(health.status(), 200);
    let health: Value = health.json().await.expect("JSON");
    assert_eq!(health["providers"]["fal"]["status"], "unavailable", "{health}");
    assert_eq!(health["providers"]["replicate"]["status"], "ok", "{health}");
    app.finish().await;
}
