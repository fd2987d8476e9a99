//! Midjourney's proxy and the relays of Suno: every task, and the ways in which they fail.

use chrono::TimeDelta;
use serde_json::{Value, json};
use shared::{id::JobId, job::Medium};
use workers::{Station, run};

use crate::{
    flow::picture,
    support::{Account, TestApp},
};

const SUCCEEDED: (&str, Option<&str>) = ("succeeded", None);
const FAILED: (&str, Option<&str>) = ("failed", Some("provider_failed"));
const REFUSED: (&str, Option<&str>) = ("failed", Some("content_refused"));
const REJECTED: (&str, Option<&str>) = ("failed", Some("provider_rejected_input"));
const UNAVAILABLE: (&str, Option<&str>) = ("failed", Some("provider_unavailable"));
const UNUSABLE: (&str, Option<&str>) = ("failed", Some("provider_result_unusable"));

/// Who makes what in the cases below: a model, the vendor it is ordered from, and its price.
type Maker = (&'static str, &'static str, i64);

const PICTURE: Maker = ("midjourney", "midjourney", 12_000);
const FILM: Maker = ("midjourney-video", "midjourney", 55_000);
const RELAYED: Maker = ("suno", "suno", 15_000);
const SONG: Maker = ("suno", "sunoapi", 15_000);
const ALL: [Maker; 4] = [PICTURE, FILM, RELAYED, SONG];

/// What an account has in the cases below.
const PURSE: i64 = 60_000;

async fn order(alice: &Account, (model, vendor, _): Maker, prompt: &str) -> JobId {
    let body = json!({ "model": model, "input": { "prompt": prompt }, "routing": { "only": [vendor] } });
    alice.post("/v1/jobs", body).await.job()
}

/// Runs one job to its good end and checks price and bill.
async fn run_one(app: &TestApp, body: Value, price: i64) -> Value {
    let alice = app.account(price).await;
    let before = app.simulator.paid("").await;
    let id = alice.post("/v1/jobs", body).await.job();
    assert_eq!(alice.tokens().await, (0, price), "the price is held");
    app.drain().await;
    let job = alice.job(id).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    assert_eq!(job["price"]["charged"], price, "{job}");
    assert_eq!(alice.tokens().await, (0, 0), "and charged");
    assert_eq!(app.simulator.paid("").await - before, 1, "{job}");
    job
}

fn file(job: &Value, n: usize) -> &Value {
    &job["output"]["files"][n]
}

#[tokio::test]
async fn midjourney_makes_pictures_with_buttons_that_make_pictures() {
    let app = TestApp::new().await;
    let input = json!({ "prompt": "a fox", "aspect_ratio": "16:9" });
    let job = run_one(&app, json!({ "model": "midjourney", "input": input }), 12_000).await;
    assert_eq!(file(&job, 0)["mime_type"], "image/png");
    assert_eq!((&file(&job, 0)["width"], &file(&job, 0)["height"]), (&json!(256), &json!(144)));
    let actions = job["output"]["actions"].as_array().expect("actions");
    let labels: Vec<_> = actions.iter().filter_map(|action| action["label"].as_str()).collect();
    assert_eq!(labels, ["U1", "U2", "U3", "U4", "🔄", "V1", "V2", "V3", "V4"]);
    assert!(actions.iter().all(|action| action["id"].as_str().is_some_and(|id| id.starts_with("MJ::"))));

    let input = json!({ "image": picture(), "image_2": picture(), "aspect_ratio": "2:3" });
    let job = run_one(&app, json!({ "model": "midjourney-blend", "input": input }), 12_000).await;
    assert_eq!((&file(&job, 0)["width"], &file(&job, 0)["height"]), (&json!(170), &json!(256)));
    assert!(job["output"]["actions"].as_array().is_some_and(|actions| !actions.is_empty()), "{job}");
    app.finish().await;
}

#[tokio::test]
async fn midjourney_describes_swaps_faces_and_films() {
    let app = TestApp::new().await;
    let body = json!({ "model": "midjourney-describe", "input": { "image": picture() } });
    let job = run_one(&app, body, 6000).await;
    assert!(job["output"]["text"].as_str().is_some_and(|text| text.contains("a picture of")), "{job}");
    assert_eq!(job["output"]["files"], json!([]), "{job}");

    let input = json!({ "image": picture(), "source": picture(), "consent": true });
    let job = run_one(&app, json!({ "model": "face-swap", "input": input }), 9000).await;
    assert_eq!((&file(&job, 0)["width"], &file(&job, 0)["mime_type"]), (&json!(320), &json!("image/png")));
    assert_eq!(job["output"]["actions"], json!([]), "{job}");

    let input = json!({ "prompt": "it runs", "image": picture(), "resolution": "720P" });
    let job = run_one(&app, json!({ "model": "midjourney-video", "input": input }), 55_000).await;
    assert_eq!(file(&job, 0)["mime_type"], "video/mp4");
    assert!(file(&job, 0)["duration_seconds"].as_f64().is_some_and(|seconds| seconds > 4.0), "{job}");
    app.finish().await;
}

#[tokio::test]
async fn a_face_is_not_swapped_without_consent() {
    let app = TestApp::new().await;
    let alice = app.account(9000).await;
    for consent in [json!(false), Value::Null] {
        let input = json!({ "image": picture(), "source": picture(), "consent": consent });
        let answer = alice.post("/v1/jobs", json!({ "model": "face-swap", "input": input })).await;
        assert_eq!(answer.error(), (400, "invalid_input", "input.consent"));
    }
    assert_eq!(alice.tokens().await, (9000, 0));
    app.finish().await;
}

#[tokio::test]
async fn suno_makes_two_songs_by_either_relay() {
    let app = TestApp::new().await;
    for vendor in ["suno", "sunoapi"] {
        for input in [
            json!({ "prompt": "a fox" }),
            json!({ "prompt": "a fox", "style": "folk", "instrumental": true }),
            json!({ "lyrics": "la la\nlo", "style": "folk", "title": "Fox" }),
        ] {
            let body = json!({ "model": "suno", "input": input, "routing": { "only": [vendor] } });
            let job = run_one(&app, body, 15_000).await;
            assert_eq!(job["output"]["files"].as_array().map(Vec::len), Some(2), "{vendor}: {job}");
            for n in 0..2 {
                assert_eq!(file(&job, n)["mime_type"], "audio/mpeg", "{vendor}: {job}");
                assert!(file(&job, n)["duration_seconds"].as_f64().is_some_and(|seconds| seconds > 3.0));
                let track = &job["output"]["tracks"][n];
                for said in ["title", "lyrics", "style", "cover_url"] {
                    assert!(
                        track[said].as_str().is_some_and(|text| !text.is_empty()),
                        "{vendor} {said}: {job}"
                    );
                }
            }
        }
    }
    app.finish().await;
}

/// A vendor, a fault, how the job ends, and how often the vendor would have been paid.
type Case = (Maker, Value, (&'static str, Option<&'static str>), u64);

async fn check_all(cases: Vec<Case>) {
    let app = TestApp::new().await;
    for (n, (maker, mut fault, ends, paid)) in cases.into_iter().enumerate() {
        app.providers_forgive();
        let (model, vendor, price) = maker;
        let alice = app.account(PURSE).await;
        let prompt = format!("case number {n} of {vendor}");
        fault["contains"] = json!(prompt);
        app.simulator.order(fault.clone()).await;
        let id = order(&alice, maker, &prompt).await;
        app.drain().await;
        let job = alice.job(id).await;
        let ended = (job["status"].as_str(), job["error"]["code"].as_str());
        assert_eq!(ended, (Some(ends.0), ends.1), "{model} {vendor} {fault}: {job}");
        assert_eq!(app.simulator.paid(&prompt).await, paid, "{model} {vendor} {fault}: paid submits");
        let left = if ends == SUCCEEDED { PURSE - price } else { PURSE };
        assert_eq!(alice.tokens().await, (left, 0), "{model} {vendor} {fault}");
        let shown = job["error"]["message"].as_str().unwrap_or_default().to_lowercase();
        for theirs in ["case number", "reticulating", "banned", "flagged", "suno", "midjourney", "code"] {
            assert!(!shown.contains(theirs), "a vendor's words stay inside: {shown}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn a_submit_to_a_proxy_or_relay_fails_in_every_way() {
    let mut cases = vec![
        (PICTURE, json!({ "fault": "quota", "value": "30" }), UNAVAILABLE, 0),
        (PICTURE, json!({ "fault": "refuse" }), REFUSED, 0),
        (RELAYED, json!({ "fault": "refuse", "value": "submit" }), REJECTED, 0),
    ];
    for maker in ALL {
        cases.extend([
            (maker, json!({ "fault": "rate_limit", "value": "5", "times": 1 }), SUCCEEDED, 1),
            (maker, json!({ "fault": "quota", "times": 1 }), SUCCEEDED, 1),
            (maker, json!({ "fault": "auth", "times": 1 }), SUCCEEDED, 1),
            // A 200 that is none, and one that says so.
            (maker, json!({ "fault": "fail", "op": "submit", "times": 1 }), SUCCEEDED, 1),
            (maker, json!({ "fault": "fail", "op": "submit", "value": "503", "times": 1 }), SUCCEEDED, 1),
            (maker, json!({ "fault": "rate_limit" }), UNAVAILABLE, 0),
            (maker, json!({ "fault": "quota" }), UNAVAILABLE, 0),
            (maker, json!({ "fault": "auth" }), UNAVAILABLE, 0),
            (maker, json!({ "fault": "fail", "op": "submit" }), UNAVAILABLE, 0),
            (maker, json!({ "fault": "bad_input" }), REJECTED, 0),
        ]);
    }
    cases.push((PICTURE, json!({ "fault": "slow", "value": "1", "times": 1 }), SUCCEEDED, 1));
    check_all(cases).await;
}

#[tokio::test]
async fn a_lost_answer_is_looked_up_at_the_proxy_and_asked_for_again_at_relays() {
    let mut cases = Vec::new();
    for maker in ALL {
        // Midjourney's list of tasks has our reference; songs cost little, and are made twice.
        let paid = if maker.1 == "midjourney" { 1 } else { 2 };
        cases.extend([
            (maker, json!({ "fault": "drop", "times": 1 }), SUCCEEDED, paid),
            (maker, json!({ "fault": "malformed", "op": "submit", "times": 1 }), SUCCEEDED, paid),
            (maker, json!({ "fault": "drop_before", "times": 1 }), SUCCEEDED, 1),
            (maker, json!({ "fault": "html", "times": 1 }), SUCCEEDED, 1),
        ]);
    }
    check_all(cases).await;
}

#[tokio::test]
async fn a_poll_of_a_proxy_or_relay_that_fails_leaves_the_task_alone() {
    let mut cases = Vec::new();
    for maker in ALL {
        for fault in [
            json!({ "fault": "fail", "op": "poll", "value": "503", "times": 3 }),
            json!({ "fault": "fail", "op": "poll", "times": 2 }),
            json!({ "fault": "rate_limit", "op": "poll", "times": 2 }),
            json!({ "fault": "auth", "op": "poll", "times": 2 }),
            json!({ "fault": "malformed", "op": "poll", "times": 2 }),
            json!({ "fault": "html", "op": "poll", "times": 2 }),
            json!({ "fault": "drop", "op": "poll", "times": 2 }),
            json!({ "fault": "unknown_status", "value": "3" }),
            json!({ "fault": "missing", "value": "2" }),
            json!({ "fault": "backwards" }),
            json!({ "fault": "truncated", "op": "download", "times": 1 }),
            json!({ "fault": "fail", "op": "download", "times": 2 }),
            json!({ "fault": "expired", "times": 1 }),
        ] {
            cases.push((maker, fault, SUCCEEDED, 1));
        }
    }
    check_all(cases).await;
}

#[tokio::test]
async fn a_verdict_of_a_proxy_or_relay_ends_the_job_and_a_bad_result_is_made_anew() {
    let mut cases = vec![
        (PICTURE, json!({ "fault": "task_fail", "value": "CANCEL" }), FAILED, 1),
        (PICTURE, json!({ "fault": "refuse", "op": "poll" }), REFUSED, 1),
        (RELAYED, json!({ "fault": "refuse" }), REFUSED, 1),
        (SONG, json!({ "fault": "refuse" }), REFUSED, 1),
        (SONG, json!({ "fault": "task_fail", "value": "CREATE_TASK_FAILED" }), FAILED, 1),
    ];
    for maker in ALL {
        cases.push((maker, json!({ "fault": "task_fail" }), FAILED, 1));
        for fault in ["empty", "corrupt", "wrong_type", "no_result"] {
            cases.push((maker, json!({ "fault": fault, "times": 1 }), SUCCEEDED, 2));
        }
        cases.push((maker, json!({ "fault": "no_result" }), UNUSABLE, 5));
    }
    check_all(cases).await;
}

#[tokio::test]
async fn a_task_of_a_proxy_or_relay_that_never_ends_expires() {
    let app = TestApp::new().await;
    for maker in ALL {
        for fault in ["never_finish", "unknown_status", "purged"] {
            let alice = app.account(PURSE).await;
            let began = app.now();
            let id = order(&alice, maker, &format!("[[sim:{fault}]] for {}", maker.1)).await;
            app.drain().await;
            let job = alice.job(id).await;
            assert_eq!(job["status"], "expired", "{maker:?} {fault}: {job}");
            assert!(app.now() - began >= TimeDelta::minutes(15), "only the deadline ends it");
            assert_eq!(alice.tokens().await, (PURSE, 0));
            let shown = job.to_string().to_lowercase();
            assert!(!shown.contains("reticulating"), "a vendor's odd word is not shown: {job}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn a_callback_that_failed_at_sunoapi_is_no_verdict() {
    let app = TestApp::new().await;
    let alice = app.account(PURSE).await;
    let id = order(&alice, SONG, "unheard [[sim:task_fail=CALLBACK_EXCEPTION]]").await;
    app.drain().await;
    assert_eq!(alice.job(id).await["status"], "expired", "no song came, and nobody said that none will");
    assert_eq!(alice.tokens().await, (PURSE, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_picture_or_song_ends_well_wherever_its_worker_dies() {
    let mut app = TestApp::new().await;
    for maker in [PICTURE, RELAYED, SONG] {
        for station in [
            Station::Intended,
            Station::Answered,
            Station::Parked,
            Station::Stored,
            Station::Saved,
            Station::Closing,
        ] {
            let alice = app.account(PURSE).await;
            let prompt = format!("crash of {} at {station:?}", maker.1);
            let id = order(&alice, maker, &prompt).await;
            assert!(app.drain_crashing_at(station).await, "{maker:?} {station:?} is on the way");
            assert_eq!(alice.job(id).await["status"], "succeeded", "{maker:?} {station:?}");
            assert_eq!(alice.tokens().await, (PURSE - maker.2, 0), "{maker:?} {station:?}");
            // Only a song, and only with the answer in hand and unsaved, is made again.
            let limit = if maker.1 != "midjourney" && station == Station::Answered { 2 } else { 1 };
            assert!(app.simulator.paid(&prompt).await <= limit, "{maker:?} {station:?}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn a_canceled_picture_is_stopped_at_the_proxy() {
    let app = TestApp::new().await;
    let alice = app.account(PURSE).await;
    let id = order(&alice, PICTURE, "stop [[sim:never_finish]]").await;
    app.run_due().await;
    assert_eq!(alice.cancel(id).await.status.as_u16(), 202);
    for claimed in app.claim(Medium::Image).await {
        run::run_job(&app.worker, &claimed).await;
    }
    assert_eq!(alice.job(id).await["status"], "canceled");
    assert_eq!(alice.tokens().await, (PURSE, 0));
    let tasks = app.http.get(format!("{}/midjourney/mj/task/list", app.simulator.url)).bearer_auth("any");
    let tasks: Value = tasks.send().await.expect("ask").json().await.expect("JSON");
    assert_eq!(tasks[0]["status"], "CANCEL");
    app.finish().await;
}

#[tokio::test]
async fn a_key_of_a_proxy_or_relay_is_proved_without_paying_where_that_can_be_asked() {
    let app = TestApp::new().await;
    let check = async |vendor: &str, key: &str| {
        let desk = app.worker.providers.get(vendor).expect("a vendor");
        let found = desk.check(&key.to_owned().into()).await;
        let credit = |found: Option<workers::providers::Checkup>| {
            found.map(|checkup| checkup.credit.map(|credit| credit.amount.to_string()))
        };
        found.map(credit).map_err(|error| format!("{:?}", error.class))
    };
    assert_eq!(check("midjourney", "good").await, Ok(Some(None)));
    assert_eq!(check("sunoapi", "good").await, Ok(Some(Some("1234".to_owned()))));
    assert_eq!(check("suno", "good").await, Ok(None));
    for vendor in ["midjourney", "sunoapi"] {
        assert_eq!(check(vendor, "wrong").await, Err("Auth".to_owned()), "{vendor}");
    }
    app.finish().await;
}
