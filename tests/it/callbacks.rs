//! Providers that ring: the job is looked at sooner, and nothing else happens, whoever rings and however often.

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::StatusCode;
use serde_json::{Value, json};
use shared::{id::JobId, job::Medium};
use workers::run;

use crate::support::{TestApp, eventually, scalar};

/// Rings at an address; status and body of the answer.
async fn ring(app: &TestApp, url: &str, body: Value) -> (StatusCode, Value) {
    let answer = app.http.post(url).json(&body).send().await.expect("ring");
    (answer.status(), answer.json().await.expect("JSON"))
}

#[tokio::test]
async fn a_provider_that_rings_is_asked_at_once_and_not_believed() {
    let app = TestApp::new().await;
    let alice = app.account(38_000).await;
    let id: JobId = alice.submit("kling", json!({ "prompt": "a bell" })).await;
    let url = app.worker.doorbell.as_ref().expect("a doorbell").url(id);
    assert_eq!(ring(&app, &url, json!({})).await.0, StatusCode::OK, "too early is no error");
    assert_eq!(app.run_due().await, 1);
    assert_eq!(app.run_due().await, 0, "the provider is at work, and the job rests");

    // What is said is that it has failed; what counts is what the provider answers when it is asked.
    let lie = json!({ "task_status": "failed", "challenge": "echo" });
    assert_eq!(ring(&app, &url, lie.clone()).await, (StatusCode::OK, json!({ "challenge": "echo" })));
    assert_eq!(ring(&app, &url, lie).await.0, StatusCode::OK, "a second time does nothing");
    assert_eq!(app.run_due().await, 1, "the next look is due");
    assert_eq!(alice.job(id).await["status"], "running");
    app.drain().await;
    let ended = alice.job(id).await;
    assert_eq!(ended["status"], "succeeded");
    assert_eq!(ring(&app, &url, json!({})).await, (StatusCode::OK, json!({})), "too late is no error");
    assert_eq!(alice.job(id).await, ended);
    app.finish().await;
}

#[tokio::test]
async fn an_address_that_was_not_given_out_rings_nobody() {
    let app = TestApp::new().await;
    let alice = app.account(76_000).await;
    let id = alice.submit("kling", json!({ "prompt": "mine" })).await;
    let other = alice.submit("kling", json!({ "prompt": "another" })).await;
    assert_eq!(app.run_due().await, 2);
    let url = app.worker.doorbell.as_ref().expect("a doorbell").url(id);
    let word = url.rsplit_once('-').map_or("", |(_, word)| word);
    for guess in [
        url.replace(&id.to_string(), &other.to_string()),
        format!("{url}A"),
        url.strip_suffix(word).expect("the word ends it").to_owned(),
        url.replace("job_", "acc_"),
    ] {
        assert_eq!(ring(&app, &guess, json!({})).await.0, StatusCode::NOT_FOUND, "{guess}");
    }
    assert_eq!(app.run_due().await, 0);
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn each_provider_that_rings_is_told_where_and_makes_the_next_look_due() {
    let app = TestApp::new().await;
    for (provider, model) in [
        ("kling", "kling"),
        ("kling", "kling-image"),
        ("minimax", "hailuo"),
        ("minimax_v2", "hailuo-h3"),
        ("luma", "luma"),
        ("veo", "veo-3.1"),
        ("sunoapi", "suno"),
        ("midjourney", "midjourney"),
        ("midjourney", "midjourney-video"),
        ("replicate", "flux"),
        ("fal", "flux"),
    ] {
        // No look of ours ends the task, so that nothing but the ring can tell that it is over.
        app.simulator.finish_after_polls(u32::MAX).await;
        let alice = app.account(200_000).await;
        let id = alice.submit_to(provider, model, json!({ "prompt": format!("{model} rings") })).await;
        assert_eq!(app.run_due().await, 1, "{provider} {model} is handed over");
        assert_eq!(app.run_due().await, 0, "{provider} {model} is at work, and the job rests");
        app.simulator.finish_at_once().await;
        // The clock stands still: without a ring nothing would ever be due.
        eventually(&format!("a ring of {provider} for {model}"), async || app.run_due().await == 1).await;
        let job = alice.job(id).await;
        assert_eq!(job["status"], "succeeded", "{provider} {model}: {job}");
    }
    app.finish().await;
}

/// All that is kept of jobs and of what they cost, but for the moment of the next look.
async fn kept(app: &TestApp) -> String {
    let sql = "select jsonb_build_array(
                   (select jsonb_agg(to_jsonb(j) order by j.id) from jobs j),
                   (select jsonb_agg(to_jsonb(q) - 'run_at' order by q.job_id) from queue q),
                   (select jsonb_agg(to_jsonb(a) order by a.job_id, a.attempt) from attempts a),
                   (select jsonb_agg(to_jsonb(l) order by l.id) from ledger l))::text";
    scalar(&app.db, sql).await
}

/// When the only open job is looked at next, where it rests until then.
async fn next_look(app: &TestApp) -> Option<DateTime<Utc>> {
    scalar(&app.db, "select (select run_at from queue)").await
}

/// Rings for a job, with forged words and with the right one, and says whether the next look is due by that. Nothing else changes.
async fn is_woken(app: &TestApp, id: JobId) -> bool {
    let doorbell = app.worker.doorbell.as_ref().expect("a doorbell");
    let (url, other) = (doorbell.url(id), JobId::new());
    let before = (kept(app).await, next_look(app).await);
    let word_of_another = doorbell.url(other).replace(&other.to_string(), &id.to_string());
    let (address, _) = url.split_once(&format!("{id}-")).expect("the job is named");
    for forged in [word_of_another, format!("{address}{id}-AAAAAAAAAAAAAAAAAAAAAA")] {
        let (status, _) = ring(app, &forged, json!({ "task_status": "succeed" })).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{forged}");
        assert_eq!((kept(app).await, next_look(app).await), before, "{forged}");
    }
    let (status, _) = ring(app, &url, json!({ "task_status": "succeed" })).await;
    assert_eq!(status, StatusCode::OK, "no ring is an error of the provider's");
    assert_eq!(kept(app).await, before.0);
    let look = next_look(app).await;
    assert!(look == before.1 || look == Some(app.now()), "{look:?}");
    look != before.1
}

#[tokio::test]
async fn a_ring_changes_nothing_but_the_next_look_at_a_task_that_is_known() {
    let app = TestApp::new().await;
    let alice = app.account(38_000).await;
    // The answer with the reference is lost.
    let id = alice.submit("kling", json!({ "prompt": "a bell [[sim:drop]]" })).await;
    assert!(!is_woken(&app, id).await, "too early: nobody has begun");
    let claimed = app.claim(Medium::Video).await;
    assert_eq!(claimed.len(), 1);
    assert!(!is_woken(&app, id).await, "too early: a worker has it");
    for claimed in &claimed {
        run::run_job(&app.worker, claimed).await;
    }
    assert!(next_look(&app).await.is_some_and(|look| look > app.now()), "it rests");
    assert!(!is_woken(&app, id).await, "too early: the reference is not known");

    app.clock.advance(TimeDelta::seconds(6));
    assert_eq!(app.run_due().await, 1, "it is looked up");
    assert!(is_woken(&app, id).await);
    assert!(!is_woken(&app, id).await, "a second time");
    app.drain().await;
    assert!(!is_woken(&app, id).await, "too late");
    let job = alice.job(id).await;
    assert_eq!((job["status"].as_str(), job["attempts"].as_i64()), (Some("succeeded"), Some(1)), "{job}");
    assert_eq!((app.simulator.paid("a bell").await, alice.tokens().await), (1, (0, 0)));
    app.finish().await;
}
