//! Films as a client of OpenAI's `/v1/videos` meets them.

use reqwest::multipart::{Form, Part};
use serde_json::json;

use super::{House, told};
use crate::{Pace, content::png, seed::Seed};

const VIDEOS: &str = "/openai/v1/videos";

#[tokio::test]
async fn a_video_goes_its_way_and_its_content_is_behind_the_key() {
    let house = House::open_with(None, Pace::AfterPolls(2)).await;
    let (status, made) =
        house.ask(VIDEOS, json!({ "prompt": "a fox", "seconds": "8", "size": "1280x720" })).await;
    assert_eq!((status, &made["status"], &made["seconds"]), (200, &json!("queued"), &json!("8")), "{made}");
    let poll = format!("{VIDEOS}/{}", made["id"].as_str().unwrap());
    let answer = house.get(&poll).send().await.unwrap();
    assert_eq!(answer.headers()["openai-poll-after-ms"], "3000");
    assert_eq!(told(answer).await.1["status"], "in_progress");
    let content = format!("{poll}/content");
    assert_eq!(house.look(&content).await.0, 404);
    assert_eq!(house.look(&poll).await.1["status"], "completed");
    let bare = house.client.get(format!("{}{content}", house.root)).send().await.unwrap();
    assert_eq!(bare.status(), 401);
    let film = house.get(&content).send().await.unwrap().bytes().await.unwrap();
    let film = re_mp4::Mp4::read_bytes(&film).unwrap();
    assert!(film.tracks().values().all(|track| track.width > track.height));
    assert_eq!(house.accepted("fox").await, 1);
}

#[tokio::test]
async fn a_first_frame_comes_in_a_form() {
    let house = House::open().await;
    let picture = png::picture(&Seed::of("a fox", "1"), (64, 48)).unwrap();
    let form = |bytes: Vec<u8>| {
        let part = Part::bytes(bytes).file_name("frame.png");
        Form::new().text("prompt", "a fox").text("model", "sora-2").part("input_reference", part)
    };
    let send = async |bytes| told(house.post(VIDEOS).multipart(form(bytes)).send().await.unwrap()).await;
    assert_eq!(send(picture).await.0, 200);
    assert_eq!(send(b"no picture".to_vec()).await.0, 400);
}

#[tokio::test]
async fn an_order_is_read_strictly_and_a_verdict_has_its_code() {
    let house = House::open().await;
    for body in [
        json!({}),
        json!({ "prompt": "a fox", "seconds": 8 }),
        json!({ "prompt": "a fox", "seconds": "5" }),
        json!({ "prompt": "a fox", "size": "1024x1792" }),
        json!({ "prompt": "a fox", "duration": "8" }),
    ] {
        assert_eq!(house.ask(VIDEOS, body.clone()).await.0, 400, "{body}");
    }
    let ordered = json!({ "op": "poll", "contains": "banned", "fault": "refuse" });
    house.ask("/control/faults", ordered).await;
    let (_, made) = house.ask(VIDEOS, json!({ "prompt": "banned" })).await;
    let (_, answer) = house.look(&format!("{VIDEOS}/{}", made["id"].as_str().unwrap())).await;
    assert_eq!(
        (&answer["status"], &answer["error"]["code"]),
        (&json!("failed"), &json!("moderation_blocked"))
    );
}
