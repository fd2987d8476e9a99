//! The page of metrics, as an operator's Prometheus reads it: what was asked of the doors, and what came of it at the workers.

use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;

use crate::support::TestApp;

/// The sum of all that a page says under this name with these labels.
fn sum(page: &str, name: &str, labels: &[&str]) -> u64 {
    let begin = format!("{name}{{");
    page.lines()
        .filter(|line| line.starts_with(&begin) && labels.iter().all(|label| line.contains(label)))
        .map(|line| line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a count"))
        .sum()
}

#[tokio::test]
async fn the_page_of_metrics_says_what_was_asked_what_waits_and_how_it_ended() {
    let app = TestApp::new().await;
    let recorder = PrometheusBuilder::new().build_recorder();
    let guard = metrics::set_default_local_recorder(&recorder);
    let door = app.measured_door(recorder.handle()).await;
    let read = async |door: &str| app.http.get(format!("{door}/metrics")).send().await.expect("ask");
    let page = async || {
        let answer = read(&door).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4");
        answer.text().await.expect("a page")
    };
    let alice = app.account(100_000).await;
    app.simulator
        .order(json!({ "provider": "gemini", "contains": "once", "fault": "fail", "times": 1 }))
        .await;
    for prompt in ["a fox", "not at once"] {
        alice.submit("nano-banana", json!({ "prompt": prompt })).await;
    }
    let queued = page().await;
    let asked = ["method=\"POST\"", "route=\"/v1/jobs\"", "status=\"202\""];
    assert_eq!(sum(&queued, "kiln_http_requests_total", &asked), 2, "{queued}");
    assert_eq!(sum(&queued, "kiln_jobs_submitted_total", &["model=\"nano-banana\""]), 2, "{queued}");
    assert_eq!(sum(&queued, "kiln_queue_jobs", &["pool=\"image\""]), 2, "{queued}");
    assert_eq!(sum(&queued, "kiln_provider_requests_total", &[]), 0, "{queued}");

    app.drain().await;
    let done = page().await;
    for (name, label, count) in [
        ("kiln_queue_jobs", "pool=\"image\"", 0),
        ("kiln_job_outcomes_total", "outcome=\"done\"", 2),
        ("kiln_job_outcomes_total", "outcome=\"retry\"", 1),
        ("kiln_provider_requests_total", "verb=\"submit\"", 3),
        ("kiln_provider_requests_total", "error=\"none\"", 2),
        ("kiln_provider_request_seconds_count", "provider=\"gemini\"", 3),
    ] {
        assert_eq!(sum(&done, name, &[label]), count, "{name} {label}: {done}");
    }
    drop(guard);
    assert_eq!(read(&app.base).await.status(), 404, "where nothing is counted there is no page");
    app.finish().await;
}
