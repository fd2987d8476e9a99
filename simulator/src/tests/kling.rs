//! Videos as a Kling client meets them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{House, told};
use crate::{Pace, content::png, seed::Seed};

const TEXT: &str = "/kling/v1/videos/text2video";
const IMAGE: &str = "/kling/v1/videos/image2video";

fn video_url(answer: &Value) -> &str {
    answer["data"]["task_result"]["videos"][0]["url"].as_str().unwrap()
}

async fn word(house: &House, poll: &str) -> String {
    let (_, answer) = house.look(poll).await;
    answer["data"]["task_status"].as_str().unwrap_or("not found").to_owned()
}

#[tokio::test]
async fn a_task_goes_its_way_and_ends_in_a_film() {
    let house = House::open_with(None, Pace::AfterPolls(3)).await;
    let order =
        json!({ "prompt": "a fox", "duration": "10", "aspect_ratio": "9:16", "external_task_id": "job-1" });
    let (_, answer) = house.ask(TEXT, order).await;
    assert_eq!(answer["data"]["task_status"], "submitted");
    let poll = format!("{TEXT}/job-1");
    assert_eq!(word(&house, &poll).await, "submitted");
    assert_eq!(word(&house, &poll).await, "processing");
    let (_, answer) = house.look(&poll).await;
    assert_eq!(answer["data"]["task_status"], "succeed");
    assert_eq!(answer["data"]["task_info"]["external_task_id"], "job-1");
    let file = house.client.get(video_url(&answer)).send().await.unwrap();
    assert_eq!(file.headers()["content-type"], "video/mp4");
    let film = re_mp4::Mp4::read_bytes(&file.bytes().await.unwrap()).unwrap();
    let track = film.tracks().values().next().unwrap();
    assert!(track.height > track.width && track.duration == 10 * track.timescale);
}

#[tokio::test]
async fn an_odd_film_is_a_good_one_that_nobody_ordered() {
    let house = House::open().await;
    let ordered = json!({ "provider": "kling", "fault": "odd", "times": 1 });
    house.ask("/control/faults", ordered).await;
    let poll = house.kling_task("a fox").await;
    let (_, answer) = house.look(&poll).await;
    for (frame, seconds) in [((256, 64), 1), ((1280, 720), 5)] {
        let file = house.client.get(video_url(&answer)).send().await.unwrap().bytes().await.unwrap();
        let film = re_mp4::Mp4::read_bytes(&file).unwrap();
        let track = film.tracks().values().next().unwrap();
        assert_eq!((track.width, track.height), frame);
        assert_eq!(track.duration, seconds * track.timescale);
    }
}

#[tokio::test]
async fn a_client_reference_is_unique() {
    let house = House::open().await;
    let order = json!({ "prompt": "a fox", "external_task_id": "job-1" });
    assert_eq!(house.ask(TEXT, order.clone()).await.0, 200);
    let (status, answer) = house.ask(TEXT, order).await;
    assert_eq!((status, &answer["code"]), (400, &json!(1201)));
    let (_, submits) = house.look("/control/submits?provider=kling").await;
    assert_eq!(submits["accepted"], 1);
    assert_eq!(submits["data"][0]["client_ref"], "job-1");
    assert_eq!(submits["data"][1]["accepted"], false);
}

#[tokio::test]
async fn an_ambiguous_submit_can_be_looked_up() {
    let house = House::open().await;
    let order = json!({ "prompt": "a fox [[sim:drop]]", "external_task_id": "job-1" });
    house.post(TEXT).json(&order).send().await.unwrap_err();
    assert_eq!(word(&house, &format!("{TEXT}/job-1")).await, "succeed");
    assert_eq!(house.accepted("fox").await, 1);
    let unknown = house.look(&format!("{TEXT}/job-2")).await;
    assert_eq!((unknown.0, &unknown.1["code"]), (404, &json!(1203)));
}

#[tokio::test]
async fn an_order_is_read_strictly() {
    let house = House::open().await;
    let file = png::picture(&Seed::of("a fox", "1"), (400, 300)).unwrap();
    let small = png::picture(&Seed::of("a fox", "1"), (200, 200)).unwrap();
    let good = STANDARD.encode(file);
    assert_eq!(house.ask(IMAGE, json!({ "image": good })).await.0, 200);
    for (path, body) in [
        (TEXT, json!({})),
        (TEXT, json!({ "prompt": "a fox", "duration": 5 })),
        (TEXT, json!({ "prompt": "a fox", "duration": "6" })),
        (TEXT, json!({ "prompt": "a fox", "model_name": "kling-v0" })),
        (TEXT, json!({ "prompt": "a fox", "aspect_ratio": "21:9" })),
        (TEXT, json!({ "prompt": "a fox", "cfg_scale": 2 })),
        (TEXT, json!({ "prompt": "x".repeat(2501) })),
        (IMAGE, json!({ "prompt": "a fox" })),
        (IMAGE, json!({ "image": format!("data:image/png;base64,{good}") })),
        (IMAGE, json!({ "image": "AAAA" })),
        (IMAGE, json!({ "image": STANDARD.encode(small) })),
    ] {
        let (status, answer) = house.ask(path, body).await;
        assert_eq!((status, &answer["code"]), (400, &json!(1201)), "{answer}");
    }
    let bare = house.client.post(format!("{}{TEXT}", house.root)).json(&json!({ "prompt": "a fox" }));
    let (status, answer) = told(bare.try_clone().unwrap().send().await.unwrap()).await;
    assert_eq!((status, &answer["code"]), (401, &json!(1001)));
    let (status, answer) = told(bare.bearer_auth("wrong").send().await.unwrap()).await;
    assert_eq!((status, &answer["code"]), (401, &json!(1002)));
}

#[tokio::test]
async fn a_vendor_says_no_in_its_own_words() {
    let house = House::open().await;
    for (fault, status, code) in [
        ("rate_limit", 429, 1303),
        ("quota", 429, 1102),
        ("quota=1101", 429, 1101),
        ("auth", 401, 1002),
        ("bad_input", 400, 1201),
        ("refuse=submit", 400, 1301),
        ("fail", 500, 5000),
        ("fail=503", 503, 5001),
    ] {
        let (got, answer) = house.ask(TEXT, json!({ "prompt": format!("a fox [[sim:{fault}]]") })).await;
        assert_eq!((got, &answer["code"]), (status, &json!(code)), "{fault}");
    }
    assert_eq!(house.accepted("fox").await, 0);
}

#[tokio::test]
async fn a_no_may_come_under_a_200() {
    let house = House::open().await;
    let (status, answer) = house.ask(TEXT, json!({ "prompt": "a fox [[sim:code=1303]]" })).await;
    assert_eq!((status, &answer["code"], &answer["data"]), (200, &json!(1303), &Value::Null));
    assert_eq!(house.accepted("fox").await, 0);
    let poll = house.kling_task("a hen").await;
    let ordered = json!({ "op": "poll", "contains": "hen", "fault": "code", "times": 1 });
    house.ask("/control/faults", ordered).await;
    let (status, answer) = house.look(&poll).await;
    assert_eq!((status, &answer["code"]), (200, &json!(5000)));
    assert_eq!(word(&house, &poll).await, "succeed");
}

#[tokio::test]
async fn a_task_can_end_badly_and_stays_so() {
    let house = House::open().await;
    for (fault, why) in [("refuse", "risk control"), ("task_fail=no GPU left", "no GPU left")] {
        let poll = house.kling_task(&format!("a fox [[sim:{fault}]]")).await;
        for _ in 0..2 {
            let (status, answer) = house.look(&poll).await;
            assert_eq!((status, &answer["data"]["task_status"]), (200, &json!("failed")));
            assert!(answer["data"]["task_status_msg"].as_str().unwrap().contains(why));
        }
    }
}

#[tokio::test]
async fn a_task_can_look_odd_for_a_while() {
    let house = House::open().await;
    for (fault, seen) in [
        ("missing=2", ["not found", "not found", "succeed"]),
        ("unknown_status=1", ["reticulating", "succeed", "succeed"]),
        ("never_finish", ["processing", "processing", "processing"]),
        ("backwards", ["processing", "submitted", "succeed"]),
        ("purged", ["not found", "not found", "not found"]),
    ] {
        let poll = house.kling_task(&format!("a fox [[sim:{fault}]]")).await;
        for word_seen in seen {
            assert_eq!(word(&house, &poll).await, word_seen, "{fault}");
        }
    }
    let poll = house.kling_task("a fox [[sim:no_result]]").await;
    let (_, answer) = house.look(&poll).await;
    assert_eq!(answer["data"]["task_result"]["videos"], json!([]));
}

#[tokio::test]
async fn an_ordered_fault_strikes_polls_as_often_as_it_says() {
    let house = House::open().await;
    let poll = house.kling_task("a blue fox").await;
    let order = json!({ "provider": "kling", "op": "poll", "contains": "blue", "fault": "fail", "value": 502, "times": 2 });
    let (status, answer) = house.ask("/control/faults", order).await;
    assert_eq!((status, &answer["id"]), (201, &json!(1)));
    assert_eq!(house.look(&poll).await.0, 502);
    assert_eq!(house.look(&poll).await.0, 502);
    assert_eq!(house.look(&poll).await.0, 200);
    let (_, requests) = house.look("/control/requests?contains=blue").await;
    assert_eq!(requests, json!({ "submit": 1, "poll": 3, "file": 0, "download": 0 }));
}

#[tokio::test]
async fn an_expired_url_stays_expired_and_a_new_one_works() {
    let house = House::open().await;
    let poll = house.kling_task("a fox [[sim:expired]]").await;
    let (_, first) = house.look(&poll).await;
    let fetch = async |answer: &Value| house.client.get(video_url(answer)).send().await.unwrap();
    assert_eq!(fetch(&first).await.status(), 403);
    assert_eq!(fetch(&first).await.status(), 403);
    let (_, second) = house.look(&poll).await;
    assert_eq!(fetch(&second).await.status(), 200);
    assert_eq!(fetch(&first).await.status(), 403);
}

#[tokio::test]
async fn a_download_can_be_spoiled() {
    let house = House::open().await;
    let fetch = async |fault: &str| {
        let poll = house.kling_task(&format!("a fox [[sim:{fault}]]")).await;
        let (_, answer) = house.look(&poll).await;
        let response = house.client.get(video_url(&answer)).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "video/mp4");
        response.bytes().await
    };
    let whole = fetch("slow=0").await.unwrap();
    assert!(re_mp4::Mp4::read_bytes(&whole).is_ok());
    assert!(fetch("empty").await.unwrap().is_empty());
    assert!(fetch("wrong_type").await.unwrap().starts_with(b"<!DOCTYPE"));
    assert!(re_mp4::Mp4::read_bytes(&fetch("corrupt").await.unwrap()).is_err());
    fetch("truncated").await.unwrap_err();
}

#[tokio::test]
async fn the_pace_can_be_changed_while_running() {
    let house = House::open().await;
    house.ask("/control/pace", json!({ "after_seconds": 600 })).await;
    let poll = house.kling_task("a fox").await;
    assert_eq!(word(&house, &poll).await, "submitted");
    house.ask("/control/pace", json!({ "after_polls": 0 })).await;
    assert_eq!(word(&house, &poll).await, "succeed");
    house.ask("/control/pace", json!({ "after_polls": 9 })).await;
    assert_eq!(word(&house, &poll).await, "succeed", "an ending is for ever");
}

#[tokio::test]
async fn pictures_and_effects_have_paths_of_their_own() {
    let house = House::open().await;
    let pictures = "/kling/v1/images/generations";
    let order = json!({ "prompt": "a fox", "n": 2, "aspect_ratio": "9:16", "external_task_id": "job-1" });
    assert_eq!(house.ask(pictures, order).await.0, 200);
    let (_, answer) = house.look(&format!("{pictures}/job-1")).await;
    let images = answer["data"]["task_result"]["images"].as_array().unwrap();
    assert_eq!(images.len(), 2);
    let fetch = async |n: usize| {
        house.client.get(images[n]["url"].as_str().unwrap()).send().await.unwrap().bytes().await.unwrap()
    };
    let (first, second) = (fetch(0).await, fetch(1).await);
    assert!(
        first != second && image::load_from_memory(&first).is_ok_and(|image| image.height() > image.width())
    );
    assert_eq!(house.look(&format!("{TEXT}/job-1")).await.0, 404, "it is no video");

    let effects = "/kling/v1/videos/effects";
    let picture = STANDARD.encode(png::picture(&Seed::of("a fox", "1"), (400, 300)).unwrap());
    let one = json!({ "model_name": "kling-v1-6", "image": picture, "duration": "5" });
    let two = json!({ "model_name": "kling-v1-6", "images": [picture, picture], "duration": "10" });
    for (effect, input, status) in [
        ("squish", &one, 200),
        ("hug", &two, 200),
        ("hug", &one, 400),
        ("squish", &two, 400),
        ("melt", &one, 400),
    ] {
        assert_eq!(
            house.ask(effects, json!({ "effect_scene": effect, "input": input })).await.0,
            status,
            "{effect}"
        );
    }
    let flat =
        json!({ "effect_scene": "squish", "model_name": "kling-v1-6", "image": picture, "duration": "5" });
    assert_eq!(house.ask(effects, flat).await.0, 400);
    assert_eq!(house.accepted("squish").await, 1);
}
