//! Videos as a MiniMax client meets them: always HTTP 200, three steps to a file.

use serde_json::{Value, json};

use super::House;
use crate::Pace;

const SUBMIT: &str = "/minimax/v1/video_generation";

fn file_path(answer: &Value) -> String {
    format!("/minimax/v1/files/retrieve?file_id={}", answer["file_id"].as_str().unwrap())
}

fn file_url(answer: &Value) -> &str {
    answer["file"]["download_url"].as_str().unwrap()
}

#[tokio::test]
async fn a_task_takes_three_steps_to_a_film() {
    let house = House::open_with(None, Pace::AfterPolls(4)).await;
    let poll = house.minimax_task("a fox").await;
    for word in ["Preparing", "Processing", "Processing"] {
        let (status, answer) = house.look(&poll).await;
        assert_eq!((status, &answer["status"]), (200, &json!(word)));
        assert_eq!(answer["file_id"], "");
    }
    let (_, answer) = house.look(&poll).await;
    assert_eq!(answer["status"], "Success");
    let (_, file) = house.look(&file_path(&answer)).await;
    let film = house.client.get(file_url(&file)).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(file["file"]["bytes"], film.len());
    let film = re_mp4::Mp4::read_bytes(&film).unwrap();
    let track = film.tracks().values().next().unwrap();
    assert_eq!(answer["video_width"], track.width);
    assert_eq!(track.duration, 6 * track.timescale);
    let (_, requests) = house.look("/control/requests?provider=minimax").await;
    assert_eq!(requests, json!({ "submit": 1, "poll": 4, "file": 1, "download": 1 }));
}

#[tokio::test]
async fn every_error_is_http_200_with_a_code() {
    let house = House::open().await;
    let order = |prompt: &str| json!({ "model": "MiniMax-Hailuo-02", "prompt": prompt });
    let mut faulty = vec![
        (json!({ "prompt": "a fox" }), 2013),
        (json!({ "model": "MiniMax-Hailuo-02" }), 2013),
        (json!({ "model": "Hailuo", "prompt": "a fox" }), 2013),
        (json!({ "model": "I2V-01", "prompt": "a fox" }), 2013),
        (json!({ "model": "MiniMax-Hailuo-02", "prompt": "a fox", "duration": "6" }), 2013),
        (json!({ "model": "MiniMax-Hailuo-02", "prompt": "a fox", "duration": 8 }), 2013),
        (
            json!({ "model": "MiniMax-Hailuo-02", "prompt": "a fox", "duration": 10, "resolution": "1080P" }),
            2013,
        ),
    ];
    for (fault, code) in [
        ("refuse", 1026),
        ("rate_limit", 1002),
        ("quota", 1008),
        ("auth", 2049),
        ("bad_input", 2013),
        ("fail", 1000),
    ] {
        faulty.push((order(&format!("a fox [[sim:{fault}]]")), code));
    }
    for (body, code) in faulty {
        let (status, answer) = house.ask(SUBMIT, body).await;
        assert_eq!((status, &answer["base_resp"]["status_code"]), (200, &json!(code)), "{answer}");
    }
    assert_eq!(house.accepted("fox").await, 0);
    assert_eq!(house.ask(SUBMIT, order("[[sim:fail=503]]")).await.0, 503);
    let request = house.client.post(format!("{}{SUBMIT}", house.root)).json(&order("a fox"));
    let answer: Value = request.bearer_auth("wrong").send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["base_resp"]["status_code"], 2049);
    let (_, answer) = house.look("/minimax/v1/query/video_generation?task_id=1").await;
    assert_eq!(answer["base_resp"]["status_code"], 2013);
}

#[tokio::test]
async fn a_task_can_go_wrong_in_many_ways() {
    let house = House::open().await;
    let ask = async |fault: &str| {
        let poll = house.minimax_task(&format!("a fox [[sim:{fault}]]")).await;
        house.look(&poll).await.1
    };
    assert_eq!(ask("task_fail").await["status"], "Fail");
    assert_eq!(ask("task_fail=1027").await["base_resp"]["status_code"], 1027);
    assert_eq!(ask("unknown_status").await["status"], "Reticulating");
    assert_eq!(ask("never_finish").await["status"], "Processing");
    assert_eq!(ask("missing").await["base_resp"]["status_code"], 2013);
    let hollow = ask("no_result").await;
    assert_eq!((&hollow["status"], &hollow["file_id"]), (&json!("Success"), &json!("")));
}

#[tokio::test]
async fn a_new_url_replaces_an_expired_one() {
    let house = House::open().await;
    let poll = house.minimax_task("a fox [[sim:expired]]").await;
    let (_, answer) = house.look(&poll).await;
    let (_, file) = house.look(&file_path(&answer)).await;
    assert_eq!(house.client.get(file_url(&file)).send().await.unwrap().status(), 403);
    let (_, file) = house.look(&file_path(&answer)).await;
    assert_eq!(house.client.get(file_url(&file)).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_file_step_has_faults_of_its_own() {
    let house = House::open().await;
    let poll = house.minimax_task("a fox").await;
    let (_, answer) = house.look(&poll).await;
    house.ask("/control/faults", json!({ "op": "file", "fault": "rate_limit", "times": 1 })).await;
    house
        .ask("/control/faults", json!({ "op": "download", "fault": "fail", "value": "503", "times": 1 }))
        .await;
    let (_, file) = house.look(&file_path(&answer)).await;
    assert_eq!(file["base_resp"]["status_code"], 1002);
    let (_, file) = house.look(&file_path(&answer)).await;
    assert_eq!(house.client.get(file_url(&file)).send().await.unwrap().status(), 503);
    assert_eq!(house.client.get(file_url(&file)).send().await.unwrap().status(), 200);
}

const SUBMIT_V2: &str = "/minimax/v2/video_generation";

fn order_v2(prompt: &str) -> Value {
    json!({ "model": "MiniMax-H3", "content": [{ "type": "text", "text": prompt }], "ratio": "16:9" })
}

#[tokio::test]
async fn a_task_of_version_2_carries_its_film() {
    let house = House::open_with(None, Pace::AfterPolls(3)).await;
    let (_, taken) = house.ask(SUBMIT_V2, order_v2("a fox")).await;
    let id = taken["task_id"].as_str().unwrap();
    let poll = format!("/minimax/v2/query/video_generation/{id}");
    for word in ["queued", "running", "succeeded"] {
        assert_eq!(house.look(&poll).await.1["task"]["status"], word);
    }
    let (_, answer) = house.look(&poll).await;
    assert_eq!(answer["task"]["usage"]["output_seconds"], 5);
    let file = house.client.get(answer["task"]["content"]["url"].as_str().unwrap()).send().await.unwrap();
    assert!(re_mp4::Mp4::read_bytes(&file.bytes().await.unwrap()).is_ok());
    let (_, other) = house.look(&format!("/minimax/v1/query/video_generation?task_id={id}")).await;
    assert_eq!(other["base_resp"]["status_code"], 2013, "it is no task of version 1");
}

#[tokio::test]
async fn only_a_task_that_waits_can_be_cancelled() {
    let house = House::open_with(None, Pace::AfterPolls(3)).await;
    for (polls, code, status) in [(0, 0, "cancelled"), (1, 2013, "running")] {
        let (_, taken) = house.ask(SUBMIT_V2, order_v2("a fox")).await;
        let id = taken["task_id"].as_str().unwrap();
        let poll = format!("/minimax/v2/query/video_generation/{id}");
        for _ in 0..polls {
            house.look(&poll).await;
        }
        let delete = house.client.delete(format!("{}{SUBMIT_V2}/{id}", house.root)).bearer_auth("key");
        let (_, answer) = super::told(delete.send().await.unwrap()).await;
        assert_eq!(answer["base_resp"]["status_code"], code, "{answer}");
        assert_eq!(house.look(&poll).await.1["task"]["status"], status);
    }
}

#[tokio::test]
async fn an_order_of_version_2_is_read_strictly() {
    let house = House::open().await;
    let text = json!({ "type": "text", "text": "a fox" });
    let frame =
        |url: &str, role: &str| json!({ "type": "image_url", "image_url": { "url": url }, "role": role });
    let with = |content: Value| json!({ "model": "MiniMax-H3", "content": content });
    let framed = with(json!([text, frame("data:image/png;base64,AAAA", "first_frame")]));
    assert_eq!(house.ask(SUBMIT_V2, framed).await.1["base_resp"]["status_code"], 0);
    for body in [
        with(json!([text])),
        with(json!([])),
        with(json!([frame("https://example.com/a.png", "first_frame")])),
        with(json!([text, frame("file_1", "first_frame")])),
        with(json!([text, frame("https://example.com/a.png", "backdrop")])),
        json!({ "model": "MiniMax-Hailuo-02", "content": [text], "ratio": "16:9" }),
    ] {
        let (status, answer) = house.ask(SUBMIT_V2, body.clone()).await;
        assert_eq!((status, &answer["base_resp"]["status_code"]), (200, &json!(2013)), "{body}");
    }
}
