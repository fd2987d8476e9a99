//! Films as clients of Luma meet them, by either interface.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::House;
use crate::Pace;

const DREAM: &str = "/luma/dream-machine/v1/generations";
const AGENTS: &str = "/luma/agents/v1/generations";

fn dream(prompt: &str) -> Value {
    json!({ "model": "ray-2", "prompt": prompt })
}

fn work(prompt: &str) -> Value {
    json!({ "type": "video", "model": "ray-3.2", "prompt": prompt })
}

async fn state(house: &House, path: &str) -> String {
    house.look(path).await.1["state"].as_str().unwrap_or("not found").to_owned()
}

#[tokio::test]
async fn a_generation_goes_its_way_and_ends_in_a_film() {
    let house = House::open_with(None, Pace::AfterPolls(3)).await;
    for (path, order, working, film) in [
        (DREAM, dream("a fox"), "dreaming", "/assets/video"),
        (AGENTS, work("a fox"), "processing", "/output/0/url"),
    ] {
        let (status, begun) = house.ask(path, order).await;
        assert_eq!((status, &begun["state"]), (201, &json!("queued")), "{begun}");
        let poll = format!("{path}/{}", begun["id"].as_str().unwrap());
        assert_eq!(state(&house, &poll).await, "queued");
        assert_eq!(state(&house, &poll).await, working);
        let (_, answer) = house.look(&poll).await;
        assert_eq!(answer["state"], "completed");
        let url = answer.pointer(film).and_then(Value::as_str).unwrap();
        let file = house.client.get(url).send().await.unwrap().bytes().await.unwrap();
        assert!(re_mp4::Mp4::read_bytes(&file).is_ok());
    }
    assert_eq!(house.accepted("fox").await, 2);
}

#[tokio::test]
async fn a_deleted_generation_is_not_found_any_more() {
    let house = House::open_with(None, Pace::AfterPolls(3)).await;
    let (_, begun) = house.ask(DREAM, dream("a fox")).await;
    let path = format!("{DREAM}/{}", begun["id"].as_str().unwrap());
    let delete = house.client.delete(format!("{}{path}", house.root)).bearer_auth("key");
    assert_eq!(delete.try_clone().unwrap().send().await.unwrap().status(), 204);
    assert_eq!(house.look(&path).await.0, 404);
    assert_eq!(delete.send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn an_order_is_read_strictly() {
    let house = House::open().await;
    let with = |mut order: Value, field: &str, value: Value| {
        order[field] = value;
        order
    };
    let frames = json!({ "frame0": { "type": "image", "url": "https://example.com/a.png" } });
    assert_eq!(house.ask(DREAM, with(dream("a fox"), "keyframes", frames)).await.0, 201);
    let data = json!({ "frame0": { "type": "image", "url": "data:image/png;base64,AAAA" } });
    let framed = json!({ "duration": "10s", "start_frame": { "url": "https://example.com/a.png" } });
    for (path, order) in [
        (DREAM, json!({ "prompt": "a fox" })),
        (DREAM, with(dream("a fox"), "duration", json!(5))),
        (DREAM, with(dream("a fox"), "duration", json!("10s"))),
        (DREAM, with(dream("a fox"), "keyframes", data)),
        (DREAM, with(dream("a fox"), "negative_prompt", json!("rain"))),
        (AGENTS, json!({ "model": "ray-3.2", "prompt": "a fox" })),
        (AGENTS, with(work("a fox"), "callback_url", json!("https://example.com"))),
        (AGENTS, with(work("a fox"), "video", framed)),
    ] {
        let (status, answer) = house.ask(path, order.clone()).await;
        assert_eq!((status, answer["detail"].is_string()), (422, true), "{order}");
    }
}

#[tokio::test]
async fn luma_says_no_in_its_own_words() {
    let house = House::open().await;
    for (fault, status, words) in [
        ("rate_limit", 429, "Too many"),
        ("quota", 400, "Insufficient credits"),
        ("auth", 401, "Invalid API key"),
        ("refuse", 400, "moderation"),
        ("fail", 500, "Internal"),
    ] {
        let (got, answer) = house.ask(AGENTS, work(&format!("a fox [[sim:{fault}]]"))).await;
        assert!(got == status && answer["detail"].as_str().unwrap().contains(words), "{fault}: {answer}");
    }
    assert_eq!(house.accepted("fox").await, 0);
}

#[tokio::test]
async fn a_callback_is_made_once_a_generation_is_over() {
    let house = House::open().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut order = dream("a fox");
    order["callback_url"] = json!(format!("http://{}/hook", listener.local_addr().unwrap()));
    let (_, begun) = house.ask(DREAM, order).await;
    let poll = format!("{DREAM}/{}", begun["id"].as_str().unwrap());
    assert_eq!(state(&house, &poll).await, "completed");
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains("completed") {
        let mut piece = [0; 4096];
        let length = socket.read(&mut piece).await.unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&piece[..length]);
    }
    let heard = String::from_utf8_lossy(&heard).into_owned();
    assert!(heard.starts_with("POST /hook ") && heard.contains("/files/luma/"), "{heard}");
    socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
}
