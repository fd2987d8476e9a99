//! Providers that ring: the job is looked at sooner, and nothing else happens, whoever rings and however often.

use reqwest::StatusCode;
use serde_json::{Value, json};
use shared::id::JobId;

use crate::support::TestApp;

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
