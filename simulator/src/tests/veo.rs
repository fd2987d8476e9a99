//! Films as a client of Veo meets them: operations, and a film behind a key and a redirect.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::House;
use crate::{Pace, content::png, seed::Seed};

const SUBMIT: &str = "/veo/v1beta/models/veo-3.1-generate-001:predictLongRunning";

fn order(prompt: &str, parameters: Value) -> Value {
    json!({ "instances": [{ "prompt": prompt }], "parameters": parameters })
}

impl House {
    /// An operation and the path to ask after it at.
    async fn veo_operation(&self, prompt: &str) -> String {
        let (status, body) = self.ask(SUBMIT, order(prompt, json!({}))).await;
        assert_eq!(status, 200, "{body}");
        format!("/veo/v1beta/{}", body["name"].as_str().unwrap())
    }

    async fn look_at_veo(&self, path: &str) -> (u16, Value) {
        super::told(self.get(path).header("x-goog-api-key", "key").send().await.unwrap()).await
    }
}

#[tokio::test]
async fn an_operation_ends_in_a_film_behind_a_key_and_a_redirect() {
    let house = House::open_with(None, Pace::AfterPolls(2)).await;
    let poll = house.veo_operation("a fox").await;
    assert_eq!(house.look_at_veo(&poll).await.1["done"], false);
    let (_, answer) = house.look_at_veo(&poll).await;
    let samples = &answer["response"]["generateVideoResponse"]["generatedSamples"];
    let uri = samples[0]["video"]["uri"].as_str().unwrap();
    assert_eq!(house.client.get(uri).send().await.unwrap().status(), 403);
    let file = house.client.get(uri).header("x-goog-api-key", "key").send().await.unwrap();
    assert!(file.url().path().starts_with("/files/veo/"), "{}", file.url());
    let film = re_mp4::Mp4::read_bytes(&file.bytes().await.unwrap()).unwrap();
    assert!(film.tracks().values().all(|track| track.duration == 8 * track.timescale));
    assert_eq!(house.accepted("fox").await, 1);
}

#[tokio::test]
async fn an_order_is_read_strictly() {
    let house = House::open().await;
    let picture = STANDARD.encode(png::picture(&Seed::of("a fox", "1"), (64, 48)).unwrap());
    let frame = json!({ "bytesBase64Encoded": picture, "mimeType": "image/png" });
    let framed = json!({ "instances": [{ "prompt": "a fox", "image": frame, "lastFrame": frame }] });
    assert_eq!(house.ask(SUBMIT, framed).await.0, 200);
    for body in [
        json!({}),
        json!({ "instances": [] }),
        json!({ "instances": [{ "prompt": "a" }, { "prompt": "b" }] }),
        json!({ "instances": [{ "prompt": "a fox", "image": { "bytesBase64Encoded": "%", "mimeType": "image/png" } }] }),
        order("a fox", json!({ "durationSeconds": "8" })),
        order("a fox", json!({ "durationSeconds": 5 })),
        order("a fox", json!({ "aspectRatio": "1:1" })),
        order("a fox", json!({ "resolution": "1080p", "durationSeconds": 4 })),
        order("a fox", json!({ "seed": 1 })),
        order("a fox", json!({ "generateAudio": true })),
    ] {
        let (status, answer) = house.ask(SUBMIT, body.clone()).await;
        assert_eq!((status, &answer["error"]["status"]), (400, &json!("INVALID_ARGUMENT")), "{body}");
    }
    let unknown = "/veo/v1beta/models/veo-2:predictLongRunning";
    assert_eq!(house.ask(unknown, order("a fox", json!({}))).await.0, 404);
}

#[tokio::test]
async fn an_operation_that_is_done_may_hold_no_film() {
    let house = House::open().await;
    let ordered = json!({ "provider": "veo", "op": "poll", "contains": "filtered", "fault": "refuse" });
    house.ask("/control/faults", ordered).await;
    for (prompt, at, expected) in [
        ("filtered", "/response/generateVideoResponse/raiMediaFilteredCount", json!(1)),
        ("[[sim:task_fail=no]]", "/error/message", json!("no")),
        ("[[sim:no_result]]", "/response/generateVideoResponse", json!({})),
        ("[[sim:unknown_status]]", "/metadata/state", json!("RETICULATING")),
    ] {
        let poll = house.veo_operation(prompt).await;
        let (_, answer) = house.look_at_veo(&poll).await;
        assert_eq!(answer.pointer(at), Some(&expected), "{prompt}: {answer}");
    }
}
