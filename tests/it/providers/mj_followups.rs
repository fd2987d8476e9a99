//! What follows a picture or a film at Midjourney: buttons, windows, films that go on.

use reqwest::StatusCode;
use serde_json::{Value, json};
use shared::id::JobId;

use crate::{
    flow::picture,
    support::{Account, TestApp},
};

/// What a button costs.
const ACTION: i64 = 12_000;

/// A job that succeeds.
pub(super) async fn succeed(app: &TestApp, alice: &Account, model: &str, input: Value) -> Value {
    let id = alice.submit(model, input).await;
    app.drain().await;
    let job = alice.job(id).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    job
}

/// The input that presses the button with this label.
pub(super) fn press(job: &Value, label: &str) -> Value {
    let actions = job["output"]["actions"].as_array().expect("actions");
    let found = actions.iter().find(|action| action["label"] == label);
    let found = found.unwrap_or_else(|| panic!("{label} is not offered: {job}"));
    json!({ "job": job["id"], "action": found["id"] })
}

/// The same, with what a window asks for.
fn press_with(job: &Value, label: &str, more: Value) -> Value {
    let mut input = press(job, label);
    input.as_object_mut().expect("an input").extend(more.as_object().expect("fields").clone());
    input
}

/// A picture of four and one of them alone.
async fn pictures(app: &TestApp, alice: &Account) -> (Value, Value) {
    let grid = succeed(app, alice, "midjourney", json!({ "prompt": "a fox" })).await;
    let single = succeed(app, alice, "midjourney-action", press(&grid, "U2")).await;
    (grid, single)
}

#[tokio::test]
async fn buttons_take_a_picture_further() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let (grid, single) = pictures(&app, &alice).await;
    assert_eq!(single["output"]["files"][0]["mime_type"], "image/png");
    assert_eq!(single["price"]["charged"], ACTION);
    assert_eq!(app.simulator.paid("upsample").await, 1);
    let offered = single["output"]["actions"].to_string();
    assert!(
        !offered.contains("animate") && !offered.contains("BOOKMARK"),
        "no picture comes of it: {offered}"
    );

    // The proxy has done it before and bills nothing.
    succeed(&app, &alice, "midjourney-action", press(&grid, "U2")).await;
    assert_eq!(app.simulator.paid("upsample").await, 1);
    for label in ["🔄", "V3"] {
        let again = succeed(&app, &alice, "midjourney-action", press(&grid, label)).await;
        assert!(again["output"]["actions"].as_array().is_some_and(|actions| actions.len() == 9), "{again}");
    }
    let wider = succeed(&app, &alice, "midjourney-action", press(&single, "Zoom Out 2x")).await;
    assert_eq!(wider["attempts"], 1);
    app.finish().await;
}

#[tokio::test]
async fn a_window_is_answered_with_words_and_mask() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let (_, single) = pictures(&app, &alice).await;
    let masked = json!({ "prompt": "a hat", "mask": picture() });
    succeed(&app, &alice, "midjourney-action", press_with(&single, "Vary (Region)", masked)).await;
    let zoomed = press_with(&single, "Custom Zoom", json!({ "prompt": "a forest" }));
    let zoomed = succeed(&app, &alice, "midjourney-action", zoomed).await;
    // What came of a window can be taken further as well.
    succeed(&app, &alice, "midjourney-action", press(&zoomed, "V1")).await;
    assert_eq!(app.simulator.paid("Inpaint").await, 1);
    assert_eq!(app.simulator.paid("CustomZoom").await, 1);

    for input in [
        press(&single, "Custom Zoom"),
        press_with(&single, "Vary (Region)", json!({ "prompt": "without a mask" })),
    ] {
        let before = alice.tokens().await;
        let id = alice.submit("midjourney-action", input).await;
        app.drain().await;
        assert_eq!(alice.job(id).await["error"]["code"], "provider_rejected_input");
        assert_eq!(alice.tokens().await, before);
    }
    app.finish().await;
}

#[tokio::test]
async fn a_window_whose_answer_was_lost_is_answered_once() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let (_, single) = pictures(&app, &alice).await;
    for (fault, mask, attempts) in [
        ("drop", false, 1),
        ("malformed", false, 1),
        ("drop_before", false, 1),
        ("rate_limit", false, 1),
        ("drop", true, 1),
        // Only a submit has the mask at hand: the button is pressed anew.
        ("drop_before", true, 2),
    ] {
        let words = format!("after {fault} {mask}");
        app.simulator.order(json!({ "fault": fault, "op": "submit", "contains": words, "times": 1 })).await;
        let (label, more) = match mask {
            true => ("Vary (Region)", json!({ "prompt": words, "mask": picture() })),
            false => ("Custom Zoom", json!({ "prompt": words })),
        };
        let job = succeed(&app, &alice, "midjourney-action", press_with(&single, label, more)).await;
        assert_eq!(job["attempts"], attempts, "{fault} {mask}");
        assert_eq!(app.simulator.paid(&words).await, 1, "{fault} {mask}");
    }
    let refused = json!({ "prompt": "[[sim:refuse]]" });
    let id = alice.submit("midjourney-action", press_with(&single, "Custom Zoom", refused)).await;
    app.drain().await;
    assert_eq!(alice.job(id).await["error"]["code"], "content_refused");
    app.finish().await;
}

#[tokio::test]
async fn a_button_whose_answer_was_lost_is_looked_up() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let grid = succeed(&app, &alice, "midjourney", json!({ "prompt": "a fox" })).await;
    let input = press(&grid, "V4");
    let action = input["action"].clone();
    app.simulator.order(json!({ "fault": "drop", "op": "submit", "contains": action, "times": 1 })).await;
    let job = succeed(&app, &alice, "midjourney-action", input).await;
    assert_eq!(job["attempts"], 1);
    assert_eq!(app.simulator.paid(action.as_str().expect("an id")).await, 1);
    app.finish().await;
}

#[tokio::test]
async fn only_what_a_job_offers_is_taken_further_and_only_by_its_owner() {
    let app = TestApp::new().await;
    let (alice, bob) = (app.account(1_000_000).await, app.account(1_000_000).await);
    let (grid, single) = pictures(&app, &alice).await;
    let refused = async |account: &Account, input: Value| {
        let answer = account.post("/v1/jobs", json!({ "model": "midjourney-action", "input": input })).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.json);
    };
    refused(&bob, press(&grid, "U1")).await;
    refused(&alice, json!({ "job": single["id"], "action": press(&grid, "U1")["action"] })).await;
    refused(&alice, json!({ "job": JobId::new().to_string(), "action": press(&grid, "U1")["action"] })).await;
    app.finish().await;
}

#[tokio::test]
async fn a_film_goes_on_with_or_without_words() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let film = succeed(&app, &alice, "midjourney-video", json!({ "prompt": "it runs" })).await;
    let seconds = |job: &Value| job["output"]["files"][0]["duration_seconds"].as_f64().expect("a length");
    let longer = json!({ "job": film["id"], "prompt": "and jumps", "motion": "high" });
    let longer = succeed(&app, &alice, "midjourney-video-extend", longer).await;
    assert!(seconds(&longer) > seconds(&film), "{longer}");
    let longest = json!({ "job": longer["id"] });
    let longest = succeed(&app, &alice, "midjourney-video-extend", longest).await;
    assert!(seconds(&longest) > seconds(&longer), "{longest}");
    assert_eq!(
        app.simulator.paid("and jumps").await,
        2,
        "the words of the film before count where nothing is said"
    );
    app.finish().await;
}
