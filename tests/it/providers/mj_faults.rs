//! What else Midjourney does, and the ways in which it fails: blends, descriptions, faces, buttons, films that go on.
//!
//! Most of it is asked without words. The simulator then knows the work by our name of the attempt, which begins with the job's id.

use serde_json::{Value, json};
use workers::Station;

use super::{
    SUCCEEDED,
    mj_followups::{press, succeed},
};
use crate::{
    flow::picture,
    support::{Account, TestApp},
};

const FAILED: (&str, Option<&str>) = ("failed", Some("provider_failed"));
const REFUSED: (&str, Option<&str>) = ("failed", Some("content_refused"));
const REJECTED: (&str, Option<&str>) = ("failed", Some("provider_rejected_input"));
const UNAVAILABLE: (&str, Option<&str>) = ("failed", Some("provider_unavailable"));
const UNUSABLE: (&str, Option<&str>) = ("failed", Some("provider_result_unusable"));

const BLEND: &str = "midjourney-blend";
const DESCRIBE: &str = "midjourney-describe";
const SWAP: &str = "face-swap";
const EXTEND: &str = "midjourney-video-extend";
const ACTION: &str = "midjourney-action";
const ALL: [&str; 5] = [BLEND, DESCRIBE, SWAP, EXTEND, ACTION];

/// More than a job and the one before it cost.
const PURSE: i64 = 200_000;

/// What a model is asked, and by what the simulator will know it where that is not the job's id.
async fn question(app: &TestApp, alice: &Account, model: &str) -> (Value, Option<String>) {
    match model {
        BLEND => (json!({ "image": picture(), "image_2": picture() }), None),
        DESCRIBE => (json!({ "image": picture() }), None),
        SWAP => (json!({ "image": picture(), "source": picture(), "consent": true }), None),
        EXTEND => {
            let film = succeed(app, alice, "midjourney-video", json!({ "prompt": "it runs" })).await;
            let words = format!("and jumps, after {}", film["id"]);
            (json!({ "job": film["id"], "prompt": words }), Some(words))
        }
        _ => {
            let grid = succeed(app, alice, "midjourney", json!({ "prompt": "a fox" })).await;
            let input = press(&grid, "V4");
            let button = input["action"].as_str().expect("an id").to_owned();
            (input, Some(button))
        }
    }
}

/// A model, a fault, how the job ends, and how often the proxy would have been paid.
type Case = (&'static str, Value, (&'static str, Option<&'static str>), u64);

async fn check_all(cases: Vec<Case>) {
    let app = TestApp::new().await;
    for (model, mut fault, ends, paid) in cases {
        app.providers_forgive();
        let alice = app.account(PURSE).await;
        let (input, known_as) = question(&app, &alice, model).await;
        let (purse, _) = alice.tokens().await;
        let id = alice.by("midjourney", model, input).await;
        let known_as = known_as.unwrap_or_else(|| id.to_string());
        fault["contains"] = json!(known_as);
        app.simulator.order(fault.clone()).await;
        app.drain().await;
        let job = alice.job(id).await;
        let ended = (job["status"].as_str(), job["error"]["code"].as_str());
        assert_eq!(ended, (Some(ends.0), ends.1), "{model} {fault}: {job}");
        assert_eq!(app.simulator.paid(&known_as).await, paid, "{model} {fault}: paid submits");
        let price = job["price"]["held"].as_i64().expect("a price");
        let left = if ends == SUCCEEDED { purse - price } else { purse };
        assert_eq!(alice.tokens().await, (left, 0), "{model} {fault}");
        let shown = job["error"]["message"].as_str().unwrap_or_default().to_lowercase();
        for theirs in ["jumps", "reticulating", "banned", "midjourney", "code"] {
            assert!(!shown.contains(theirs), "a vendor's words stay inside: {shown}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn a_submit_that_fails_is_understood_and_a_lost_one_is_looked_up() {
    let mut cases = Vec::new();
    for model in ALL {
        for fault in [
            json!({ "fault": "rate_limit", "value": "5", "times": 1 }),
            json!({ "fault": "quota", "times": 1 }),
            json!({ "fault": "auth", "times": 1 }),
            // A 200 that is none.
            json!({ "fault": "fail", "op": "submit", "times": 1 }),
            json!({ "fault": "drop", "op": "submit", "times": 1 }),
            json!({ "fault": "malformed", "op": "submit", "times": 1 }),
            json!({ "fault": "drop_before", "op": "submit", "times": 1 }),
            json!({ "fault": "html", "op": "submit", "times": 1 }),
        ] {
            cases.push((model, fault, SUCCEEDED, 1));
        }
        cases.push((model, json!({ "fault": "auth" }), UNAVAILABLE, 0));
        cases.push((model, json!({ "fault": "bad_input" }), REJECTED, 0));
        cases.push((model, json!({ "fault": "refuse" }), REFUSED, 0));
    }
    check_all(cases).await;
}

#[tokio::test]
async fn a_look_that_fails_leaves_the_task_alone() {
    let mut cases = Vec::new();
    for model in ALL {
        for fault in [
            json!({ "fault": "fail", "op": "poll", "value": "503", "times": 2 }),
            json!({ "fault": "rate_limit", "op": "poll", "times": 1 }),
            json!({ "fault": "malformed", "op": "poll", "times": 1 }),
            json!({ "fault": "html", "op": "poll", "times": 1 }),
            json!({ "fault": "drop", "op": "poll", "times": 1 }),
            json!({ "fault": "unknown_status", "value": "3" }),
            json!({ "fault": "missing", "value": "2" }),
            json!({ "fault": "backwards" }),
        ] {
            cases.push((model, fault, SUCCEEDED, 1));
        }
        // A description comes with the look itself.
        if model != DESCRIBE {
            cases.push((model, json!({ "fault": "truncated", "op": "download", "times": 1 }), SUCCEEDED, 1));
            cases.push((model, json!({ "fault": "expired", "times": 1 }), SUCCEEDED, 1));
        }
    }
    check_all(cases).await;
}

#[tokio::test]
async fn a_verdict_ends_the_job_and_a_bad_result_is_made_anew() {
    let mut cases = Vec::new();
    for model in ALL {
        cases.push((model, json!({ "fault": "task_fail" }), FAILED, 1));
        cases.push((model, json!({ "fault": "refuse", "op": "poll" }), REFUSED, 1));
        cases.push((model, json!({ "fault": "no_result", "times": 1 }), SUCCEEDED, 2));
        if model != DESCRIBE {
            cases.push((model, json!({ "fault": "corrupt", "times": 1 }), SUCCEEDED, 2));
        }
    }
    cases.push((DESCRIBE, json!({ "fault": "no_result" }), UNUSABLE, 5));
    check_all(cases).await;
}

#[tokio::test]
async fn no_work_of_midjourneys_is_paid_twice_wherever_its_worker_dies() {
    let mut app = TestApp::new().await;
    for model in ALL {
        for station in [
            Station::Intended,
            Station::Answered,
            Station::Parked,
            Station::Stored,
            Station::Saved,
            Station::Closing,
        ] {
            // A text is written down with the end of its job.
            if model == DESCRIBE && station == Station::Saved {
                continue;
            }
            let alice = app.account(PURSE).await;
            let (input, known_as) = question(&app, &alice, model).await;
            let (purse, _) = alice.tokens().await;
            let id = alice.by("midjourney", model, input).await;
            let known_as = known_as.unwrap_or_else(|| id.to_string());
            assert!(app.drain_crashing_at(station).await, "{model} {station:?} is on the way");
            let job = alice.job(id).await;
            assert_eq!(job["status"], "succeeded", "{model} {station:?}: {job}");
            let price = job["price"]["held"].as_i64().expect("a price");
            assert_eq!(alice.tokens().await, (purse - price, 0), "{model} {station:?}");
            assert_eq!(app.simulator.paid(&known_as).await, 1, "{model} {station:?}");
        }
    }
    app.finish().await;
}
