//! Songs as a client of sunoapi.org meets them.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::House;

const SUBMIT: &str = "/sunoapi/api/v1/generate";

fn order(prompt: &str) -> Value {
    json!({ "customMode": false, "instrumental": false, "model": "V5", "callBackUrl": "https://nobody.invalid/", "prompt": prompt })
}

impl House {
    /// A task at sunoapi.org and the path to poll it at.
    async fn tune(&self, order: Value) -> String {
        let (_, answer) = self.ask(SUBMIT, order).await;
        assert_eq!(answer["code"], 200, "{answer}");
        format!("{SUBMIT}/record-info?taskId={}", answer["data"]["taskId"].as_str().unwrap())
    }
}

async fn word(house: &House, poll: &str) -> String {
    let (_, answer) = house.look(poll).await;
    answer["data"]["status"].as_str().unwrap_or("not found").to_owned()
}

#[tokio::test]
async fn a_task_ends_in_two_songs() {
    let house = House::open().await;
    let poll = house.tune(order("a fox")).await;
    let (_, answer) = house.look(&poll).await;
    let songs = answer["data"]["response"]["sunoData"].as_array().unwrap();
    assert_eq!((&answer["data"]["status"], songs.len()), (&json!("SUCCESS"), 2));
    let file = house.client.get(songs[1]["audioUrl"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(file.headers()["content-type"], "audio/mpeg");
    assert_eq!(house.look(&format!("{SUBMIT}/credit")).await.1["data"], 1234);
}

#[tokio::test]
async fn a_callback_comes_once_the_task_is_final() {
    let house = House::open().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut asked = order("a fox");
    asked["callBackUrl"] = json!(format!("http://{}/ring", listener.local_addr().unwrap()));
    let poll = house.tune(asked).await;
    assert_eq!(word(&house, &poll).await, "SUCCESS");
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut heard = String::new();
    while !heard.contains("source_audio_url") {
        let mut part = [0; 4096];
        let length = socket.read(&mut part).await.unwrap();
        assert!(length > 0, "{heard}");
        heard.push_str(&String::from_utf8_lossy(&part[..length]));
    }
    socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert!(heard.starts_with("POST /ring") && heard.contains("\"callbackType\":\"complete\""), "{heard}");
}

#[tokio::test]
async fn an_order_is_read_strictly_and_a_no_has_a_number() {
    let house = House::open().await;
    let with = |field: &str, value: Value| {
        let mut body = order("a fox");
        body[field] = value;
        body
    };
    for body in [
        with("callBackUrl", Value::Null),
        with("model", json!("V3")),
        with("prompt", json!("x".repeat(501))),
        with("style", json!("folk")),
        with("customMode", json!(true)),
        with("mv", json!("chirp")),
    ] {
        let (status, answer) = house.ask(SUBMIT, body).await;
        assert_eq!((status, &answer["code"]), (200, &json!(400)), "{answer}");
    }
    for (fault, status, code) in [
        ("rate_limit", 200, 430),
        ("quota", 200, 429),
        ("auth", 200, 401),
        ("bad_input", 200, 400),
        ("fail", 200, 500),
        ("fail=503", 503, 500),
    ] {
        let (got, answer) = house.ask(SUBMIT, order(&format!("a fox [[sim:{fault}]]"))).await;
        assert_eq!((got, &answer["code"]), (status, &json!(code)), "{fault}");
    }
    assert_eq!(house.accepted("fox").await, 0);
}

#[tokio::test]
async fn a_task_can_look_odd_and_end_badly() {
    let house = House::open().await;
    for (fault, seen) in [
        ("missing=1", ["not found", "SUCCESS"]),
        ("unknown_status=1", ["RETICULATING", "SUCCESS"]),
        ("backwards", ["FIRST_SUCCESS", "PENDING"]),
        ("refuse", ["SENSITIVE_WORD_ERROR", "SENSITIVE_WORD_ERROR"]),
        ("task_fail", ["GENERATE_AUDIO_FAILED", "GENERATE_AUDIO_FAILED"]),
        ("task_fail=CALLBACK_EXCEPTION", ["CALLBACK_EXCEPTION", "CALLBACK_EXCEPTION"]),
    ] {
        let poll = house.tune(order(&format!("a fox [[sim:{fault}]]"))).await;
        for expected in seen {
            assert_eq!(word(&house, &poll).await, expected, "{fault}");
        }
    }
}
