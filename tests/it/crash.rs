//! Crash at every station, expect the same ending.
//!
//! A job runs once undisturbed and once for each station at which its worker dies; leases lapse by the moved clock, the
//! scheduler rescues, another run resumes. The final view, the balance and the vendor's bill must be the same each time.

use reqwest::Method;
use serde_json::{Value, json};
use shared::id::JobId;
use workers::Station;

use crate::support::{Account, TestApp, scalar};

/// Every station of a job's way on which a worker can die. A new one joins by one line.
const STATIONS: [Station; 9] = [
    Station::Claimed,
    Station::Judged,
    Station::Intended,
    Station::Answered,
    Station::Parked,
    Station::Stored,
    Station::Saved,
    Station::Closing,
    Station::Closed,
];

/// What must not depend on where a worker died: all that the owner sees but ids, times, signatures and counts of attempts.
async fn ending(alice: &Account, id: JobId) -> Value {
    let mut job = alice.job(id).await;
    let fields = job.as_object_mut().expect("a job");
    for field in
        ["id", "created_at", "started_at", "finished_at", "deadline", "expires_at", "urls", "attempts"]
    {
        fields.remove(field);
    }
    for file in job["output"]["files"].as_array_mut().into_iter().flatten() {
        for field in ["id", "url", "preview_url", "expires_at", "size_bytes"] {
            file.as_object_mut().expect("a file").remove(field);
        }
    }
    json!({ "job": job, "tokens": alice.tokens().await })
}

/// Runs a job whose worker dies at each station in turn, and counts what the vendor would bill.
async fn crash_everywhere(model: &str, input: Value, may_pay_again_at: &[Station]) {
    let passed = crash_at_every_station(model, input, may_pay_again_at).await;
    assert!(passed.contains(&Station::Intended) && passed.contains(&Station::Closing), "{passed:?}");
}

/// The same, whatever is on the way; gives the stations that were.
async fn crash_at_every_station(model: &str, input: Value, may_pay_again_at: &[Station]) -> Vec<Station> {
    let mut app = TestApp::new().await;
    let whole = app.account(1_000_000).await;
    let id = whole.submit(model, input.clone()).await;
    app.drain().await;
    let expected = ending(&whole, id).await;
    assert_eq!(expected["job"]["status"], "succeeded", "{expected}");
    let mut passed = Vec::new();
    for station in STATIONS {
        let alice = app.account(1_000_000).await;
        let paid = app.simulator.paid("").await;
        let id = alice.submit(model, input.clone()).await;
        if app.drain_crashing_at(station).await {
            passed.push(station);
        }
        assert_eq!(ending(&alice, id).await, expected, "{model} crashed at {station:?}");
        let paid = app.simulator.paid("").await - paid;
        let limit = if may_pay_again_at.contains(&station) { 2 } else { 1 };
        assert!(paid <= limit, "{model} crashed at {station:?}: {paid} paid submits");
        let charges: i64 = scalar(
            &app.db,
            &format!("select count(*) from ledger where kind = 'charge' and reference = '{}'", id.0),
        )
        .await;
        assert_eq!(charges, 1, "{model} crashed at {station:?}");
    }
    app.finish().await;
    passed
}

#[tokio::test]
async fn a_kling_video_is_paid_once_wherever_its_worker_dies() {
    // Kling can be asked by our reference, so nothing is ever submitted twice.
    crash_everywhere("kling", json!({ "prompt": "crash" }), &[]).await;
}

#[tokio::test]
async fn a_picture_is_paid_once_wherever_its_worker_dies_but_with_the_answer_in_hand() {
    // A synchronous vendor cannot be asked again: what died with the answer unsaved is made again ("maybe twice").
    crash_everywhere("nano-banana", json!({ "prompt": "crash" }), &[Station::Answered, Station::Stored])
        .await;
}

#[tokio::test]
async fn a_chat_is_paid_once_wherever_its_worker_dies_but_with_the_answer_in_hand() {
    let unsaved = [Station::Answered, Station::Stored, Station::Closing];
    crash_everywhere("gpt-4o", json!({ "prompt": "crash" }), &unsaved).await;
}

#[tokio::test]
async fn a_local_job_ends_the_same_wherever_its_worker_dies() {
    let passed = crash_at_every_station("vectorize", json!({ "image": crate::flow::picture() }), &[]).await;
    assert!(!passed.contains(&Station::Intended), "nobody bills it, so no intent is written: {passed:?}");
    assert!(passed.contains(&Station::Answered) && passed.contains(&Station::Saved), "{passed:?}");
}

#[tokio::test]
async fn a_hailuo_video_is_never_paid_twice_even_if_that_loses_it() {
    // MiniMax cannot be asked: a worker that dies between intent and record gives up ("maybe never").
    let mut app = TestApp::new().await;
    for (station, status) in [
        (Station::Claimed, "succeeded"),
        (Station::Judged, "succeeded"),
        (Station::Intended, "failed"),
        (Station::Answered, "failed"),
        (Station::Parked, "succeeded"),
        (Station::Stored, "succeeded"),
        (Station::Saved, "succeeded"),
        (Station::Closing, "succeeded"),
        (Station::Closed, "succeeded"),
    ] {
        let alice = app.account(40_000).await;
        let prompt = format!("crash at {station:?}");
        let id = alice.submit("hailuo", json!({ "prompt": prompt })).await;
        assert!(app.drain_crashing_at(station).await, "{station:?} is on the way");
        let job = alice.job(id).await;
        assert_eq!(job["status"], status, "{station:?}: {job}");
        assert!(app.simulator.paid(&prompt).await <= 1, "{station:?}");
        let left = if status == "succeeded" { 0 } else { 40_000 };
        assert_eq!(alice.tokens().await, (left, 0), "{station:?}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_submit_whose_answer_was_lost_is_repeated_by_its_key_without_a_second_hold() {
    // Stations 2 and 3 from the caller's side: the commit stands, the answer is lost, the caller tries again.
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let body = json!({ "model": "gpt-4o", "input": { "prompt": "lost" } });
    let headers = [("Idempotency-Key", "lost-1")];
    let lost = alice.send(Method::POST, "/v1/jobs", &headers, Some(&body)).await.job();
    // No hint was heard by anyone: looking is enough.
    assert_eq!(app.run_due().await, 1);
    let again = alice.send(Method::POST, "/v1/jobs", &headers, Some(&body)).await;
    assert_eq!((again.job(), again.json["status"].as_str()), (lost, Some("succeeded")));
    assert_eq!(alice.tokens().await, (9000, 0));
    app.finish().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "breaks the database on purpose")]
async fn a_submit_that_fails_half_way_leaves_nothing() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    sqlx::query("alter table queue add constraint broken check (false) not valid")
        .execute(&app.db)
        .await
        .expect("break");
    let answer = alice.post("/v1/jobs", json!({ "model": "gpt-4o", "input": { "prompt": "x" } })).await;
    assert_eq!(answer.error(), (500, "internal_error", "none"));
    assert!(
        !answer.json.to_string().contains("broken"),
        "what is broken inside stays inside: {}",
        answer.json
    );
    assert_eq!(alice.tokens().await, (10_000, 0));
    let rows: i64 = scalar(
        &app.db,
        "select (select count(*) from jobs) + (select count(*) from ledger where kind = 'hold')",
    )
    .await;
    assert_eq!(rows, 0);
    app.finish().await;
}
