//! Pictures, buttons and films as a client of a Midjourney proxy meets them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{House, told};
use crate::{Pace, content::png, seed::Seed};

const SUBMIT: &str = "/midjourney/mj/submit";

fn picture() -> String {
    let file = png::picture(&Seed::of("a fox", "1"), (64, 48)).unwrap();
    format!("data:image/png;base64,{}", STANDARD.encode(file))
}

impl House {
    /// Submits and gives the code and the task's id.
    async fn mj(&self, kind: &str, body: Value) -> (Value, String) {
        let (status, answer) = self.ask(&format!("{SUBMIT}/{kind}"), body).await;
        assert_eq!(status, 200, "{answer}");
        (answer["code"].clone(), answer["result"].as_str().unwrap_or_default().to_owned())
    }

    async fn mj_task(&self, id: &str) -> Value {
        let (status, task) = self.look(&format!("/midjourney/mj/task/{id}/fetch")).await;
        if status == 404 { json!({ "status": "not found" }) } else { task }
    }

    /// A finished picture of four.
    async fn grid(&self, prompt: &str) -> Value {
        let (code, id) = self.mj("imagine", json!({ "prompt": prompt })).await;
        assert_eq!(code, 1);
        let task = self.mj_task(&id).await;
        assert_eq!(task["status"], "SUCCESS", "{task}");
        task
    }
}

/// The id of the button with this label.
fn button(task: &Value, label: &str) -> String {
    let all = task["buttons"].as_array().unwrap();
    let found = all.iter().find(|button| button["label"] == label || button["emoji"] == label);
    found.unwrap_or_else(|| panic!("no {label} in {task}"))["customId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_picture_goes_its_way_and_has_buttons() {
    let house = House::open_with(None, Pace::AfterPolls(3)).await;
    let order = json!({ "prompt": "a fox --ar 2:1", "botType": "MID_JOURNEY", "state": "job-1" });
    let (code, id) = house.mj("imagine", order).await;
    assert_eq!(code, 1);
    for (status, progress) in [("NOT_START", "0%"), ("IN_PROGRESS", "46%"), ("SUCCESS", "100%")] {
        let task = house.mj_task(&id).await;
        assert_eq!((&task["status"], &task["progress"]), (&json!(status), &json!(progress)));
        assert_eq!((&task["state"], &task["action"]), (&json!("job-1"), &json!("IMAGINE")));
    }
    let task = house.mj_task(&id).await;
    let file = house.client.get(task["imageUrl"].as_str().unwrap()).send().await.unwrap();
    let picture = image::load_from_memory(&file.bytes().await.unwrap()).unwrap();
    assert_eq!(picture.width(), picture.height() * 2);
    assert!(button(&task, "U1").starts_with("MJ::JOB::upsample::1::"));
}

#[tokio::test]
async fn a_button_makes_another_picture_and_is_done_once() {
    let house = House::open().await;
    let grid = house.grid("a fox").await;
    let press = json!({ "taskId": grid["id"], "customId": button(&grid, "U2"), "state": "job-2" });
    let (code, first) = house.mj("action", press.clone()).await;
    assert_eq!(code, 1);
    let single = house.mj_task(&first).await;
    assert_eq!((&single["status"], &single["action"]), (&json!("SUCCESS"), &json!("UPSCALE")));
    let (_, again) = house.ask(&format!("{SUBMIT}/action"), press).await;
    assert_eq!((&again["code"], &again["result"]), (&json!(21), &json!(first)));
    assert!(again["properties"]["imageUrl"].as_str().is_some_and(|url| url.starts_with("http")));
    assert_eq!(house.accepted("upsample").await, 1);
    let gone = json!({ "taskId": "7", "customId": button(&grid, "U2") });
    assert_eq!(house.ask(&format!("{SUBMIT}/action"), gone).await.0, 404);
    let strange = json!({ "taskId": grid["id"], "customId": "MJ::JOB::upsample::9::x" });
    assert_eq!(house.mj("action", strange).await.0, 4);
}

#[tokio::test]
async fn a_window_waits_for_its_answer_and_only_that_is_billed() {
    let house = House::open().await;
    let grid = house.grid("a fox").await;
    let (_, single) =
        house.mj("action", json!({ "taskId": grid["id"], "customId": button(&grid, "U1") })).await;
    let single = house.mj_task(&single).await;
    let press = json!({ "taskId": single["id"], "customId": button(&single, "Vary (Region)") });
    let (code, id) = house.mj("action", press).await;
    assert_eq!(code, 21);
    assert_eq!(house.mj_task(&id).await["status"], "MODAL");
    assert_eq!(house.mj_task(&id).await["status"], "MODAL");
    assert_eq!(house.accepted("Inpaint").await, 0);
    let bare = json!({ "taskId": id, "prompt": "a hat" });
    assert_eq!(house.mj("modal", bare).await.0, 4, "a mask is missing");
    let answer = json!({ "taskId": id, "prompt": "a hat", "maskBase64": picture() });
    assert_eq!(house.mj("modal", answer.clone()).await.0, 1);
    assert_eq!(house.mj("modal", answer).await.0, 4, "it waits no longer");
    assert_eq!(house.mj_task(&id).await["status"], "SUCCESS");
    assert_eq!(house.accepted("Inpaint").await, 1);
}

#[tokio::test]
async fn tools_and_films_are_made() {
    let house = House::open().await;
    let (_, id) = house.mj("describe", json!({ "base64": picture(), "state": "job-1" })).await;
    let told = house.mj_task(&id).await;
    assert!(told["properties"]["finalPrompt"].as_str().is_some_and(|text| !text.is_empty()), "{told}");
    let (_, id) = house.mj("blend", json!({ "base64Array": [picture(), picture()], "state": "job-2" })).await;
    assert_eq!(house.mj_task(&id).await["status"], "SUCCESS");
    let swap = json!({ "sourceBase64": picture(), "targetBase64": picture() });
    let (_, answer) = house.ask("/midjourney/mj/insight-face/swap", swap).await;
    let swapped = house.mj_task(answer["result"].as_str().unwrap()).await;
    assert_eq!((&swapped["action"], &swapped["buttons"]), (&json!("SWAP_FACE"), &json!([])));

    let film =
        json!({ "prompt": "it runs", "videoType": "vid_1.1_i2v_480", "batchSize": 1, "image": picture() });
    let (_, id) = house.mj("video", film).await;
    assert!(house.mj_task(&id).await["videoUrls"][0]["url"].is_string());
    let extend = json!({ "prompt": "on", "batchSize": 1, "taskId": id, "index": 0, "action": "extend" });
    let (_, id) = house.mj("video", extend).await;
    let longer = house.mj_task(&id).await;
    let file = house.client.get(longer["videoUrl"].as_str().unwrap()).send().await.unwrap();
    let film = re_mp4::Mp4::read_bytes(&file.bytes().await.unwrap()).unwrap();
    let track = film.tracks().values().next().unwrap();
    assert_eq!(track.duration, 9 * track.timescale);
}

#[tokio::test]
async fn an_order_is_read_strictly() {
    let house = House::open().await;
    for (kind, body) in [
        ("imagine", json!({})),
        ("imagine", json!({ "prompt": "a fox", "hue": 1 })),
        ("imagine", json!({ "prompt": "a fox", "botType": "FOX" })),
        ("imagine", json!({ "prompt": "a fox --ar wide" })),
        ("imagine", json!({ "prompt": "a fox", "state": "x".repeat(256) })),
        ("blend", json!({ "base64Array": [picture()] })),
        ("blend", json!({ "base64Array": [picture(), "AAAA"] })),
        ("describe", json!({ "base64": "AAAA" })),
        ("video", json!({ "batchSize": 1 })),
        ("video", json!({ "prompt": "x", "batchSize": 1, "motion": "medium" })),
        ("modal", json!({ "taskId": "7", "prompt": "x" })),
        ("shrink", json!({})),
    ] {
        assert_eq!(house.mj(kind, body.clone()).await.0, 4, "{kind} {body}");
    }
    let bare =
        house.client.post(format!("{}{SUBMIT}/imagine", house.root)).json(&json!({ "prompt": "a fox" }));
    for request in [bare.try_clone().unwrap(), bare.try_clone().unwrap().header("mj-api-secret", "wrong")] {
        assert_eq!(told(request.send().await.unwrap()).await, (401, json!("")));
    }
    assert_eq!(bare.header("mj-api-secret", "right").send().await.unwrap().status(), 200);
    assert_eq!(house.accepted("fox").await, 1);
}

#[tokio::test]
async fn a_proxy_says_no_in_its_own_words() {
    let house = House::open().await;
    for (fault, status, code) in [
        ("rate_limit", 200, json!(23)),
        ("quota", 200, json!(4)),
        ("quota=30", 200, json!(30)),
        ("auth", 401, Value::Null),
        ("bad_input", 200, json!(4)),
        ("refuse", 200, json!(24)),
        ("fail", 200, json!(9)),
        ("fail=503", 503, json!(9)),
    ] {
        let order = json!({ "prompt": format!("a fox [[sim:{fault}]]") });
        let (got, answer) = house.ask(&format!("{SUBMIT}/imagine"), order).await;
        assert_eq!((got, answer.get("code").cloned().unwrap_or_default()), (status, code), "{fault}");
    }
    assert_eq!(house.accepted("fox").await, 0);
}

#[tokio::test]
async fn a_task_can_look_odd_for_a_while_and_end_badly() {
    let house = House::open().await;
    for (fault, seen) in [
        ("missing=1", ["not found", "SUCCESS"]),
        ("unknown_status=1", ["RETICULATING", "SUCCESS"]),
        ("never_finish", ["IN_PROGRESS", "IN_PROGRESS"]),
        ("backwards", ["IN_PROGRESS", "SUBMITTED"]),
        ("purged", ["not found", "not found"]),
        ("task_fail=no", ["FAILURE", "FAILURE"]),
        ("task_fail=CANCEL", ["CANCEL", "CANCEL"]),
    ] {
        let (_, id) = house.mj("imagine", json!({ "prompt": format!("a fox [[sim:{fault}]]") })).await;
        for word in seen {
            assert_eq!(house.mj_task(&id).await["status"], word, "{fault}");
        }
    }
    let hollow = house.grid("a fox [[sim:no_result]]").await;
    assert_eq!(hollow["imageUrl"], Value::Null);
}

#[tokio::test]
async fn a_lost_submit_is_in_the_list_and_a_task_can_be_stopped() {
    let house = House::open().await;
    let order = json!({ "prompt": "a fox [[sim:drop]]", "state": "job-1" });
    house.post(&format!("{SUBMIT}/imagine")).json(&order).send().await.unwrap_err();
    let (_, all) = house.look("/midjourney/mj/task/list").await;
    assert_eq!((&all[0]["state"], &all[0]["status"]), (&json!("job-1"), &json!("SUBMITTED")));
    let id = all[0]["id"].as_str().unwrap();
    let (_, stopped) = house.ask(&format!("/midjourney/mj/task/{id}/cancel"), json!({})).await;
    assert_eq!(stopped["code"], 1);
    assert_eq!(house.mj_task(id).await["status"], "CANCEL");
    assert_eq!(house.look("/midjourney/mj/task/queue").await, (200, json!([])));
}
