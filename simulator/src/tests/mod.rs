//! The simulator through its front door: a real server on a real port, asked over HTTP.
//!
//! Each test has its own server. The files of one vendor's tests stand in a module of its name.

mod content;
mod fal;
mod gemini;
mod images;
mod kling;
mod luma;
mod midjourney;
mod minimax;
mod openai;
mod persistence;
mod recraft;
mod removebg;
mod replicate;
mod stability;
mod suno;
mod sunoapi;
mod text;
mod veo;
mod videos;

use std::{path::Path, time::Duration};

use jsonwebtoken::{EncodingKey, Header, encode};
use reqwest::{
    Client, RequestBuilder, Response,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet};

use crate::{Options, Pace, clock, content::png, seed::Seed, serve, vendors::kling::auth as kling_auth};

/// A running server and a client for it.
struct House {
    root: String,
    client: Client,
    server: JoinSet<anyhow::Result<()>>,
    stop: oneshot::Sender<()>,
}

impl House {
    async fn open() -> Self {
        Self::open_with(None, Pace::AfterPolls(1)).await
    }

    async fn open_with(state_dir: Option<&Path>, pace: Pace) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let options = Options { state_dir: state_dir.map(Path::to_owned), pace };
        let mut server = JoinSet::new();
        server.spawn(serve(listener, options, async move {
            let _ = stopped.await;
        }));
        let client = Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        Self { root, client, server, stop }
    }

    async fn close(mut self) {
        self.stop.send(()).unwrap();
        self.server.join_next().await.unwrap().unwrap().unwrap();
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.root)).bearer_auth(bearer(path))
    }

    fn post(&self, path: &str) -> RequestBuilder {
        let request = self.client.post(format!("{}{path}", self.root)).bearer_auth(bearer(path));
        request.header("x-goog-api-key", "key").header("x-api-key", "key")
    }

    async fn ask(&self, path: &str, body: Value) -> (u16, Value) {
        told(self.post(path).json(&body).send().await.unwrap()).await
    }

    /// Sends a form.
    async fn fill_in(&self, path: &str, form: Form) -> Response {
        self.post(path).multipart(form).send().await.unwrap()
    }

    async fn look(&self, path: &str) -> (u16, Value) {
        told(self.get(path).send().await.unwrap()).await
    }

    /// How much of what was asked for with this in the prompt would be billed.
    async fn accepted(&self, contains: &str) -> u64 {
        let (_, submits) = self.look(&format!("/control/submits?contains={contains}")).await;
        submits["accepted"].as_u64().unwrap()
    }

    /// A Kling task and the path to poll it at.
    async fn kling_task(&self, prompt: &str) -> String {
        let (status, body) = self.ask("/kling/v1/videos/text2video", json!({ "prompt": prompt })).await;
        assert_eq!((status, &body["code"]), (200, &json!(0)), "{body}");
        format!("/kling/v1/videos/text2video/{}", body["data"]["task_id"].as_str().unwrap())
    }

    /// A MiniMax task and the path to poll it at.
    async fn minimax_task(&self, prompt: &str) -> String {
        let order = json!({ "model": "MiniMax-Hailuo-02", "prompt": prompt });
        let (_, body) = self.ask("/minimax/v1/video_generation", order).await;
        assert_eq!(body["base_resp"]["status_code"], 0, "{body}");
        format!("/minimax/v1/query/video_generation?task_id={}", body["task_id"].as_str().unwrap())
    }
}

/// A picture of that size as a part of a form.
fn part(width: u32, height: u32) -> Part {
    let file = png::picture(&Seed::of("a part", "1"), (width, height)).unwrap();
    Part::bytes(file).file_name("picture.png")
}

async fn told(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn bearer(path: &str) -> String {
    if !path.starts_with("/kling") {
        return "key".to_owned();
    }
    let now = clock::now_secs();
    let claims = json!({ "iss": kling_auth::ACCESS_KEY, "exp": now + 1800, "nbf": now - 5 });
    encode(&Header::default(), &claims, &EncodingKey::from_secret(kling_auth::SECRET_KEY.as_bytes())).unwrap()
}

#[tokio::test]
async fn the_front_page_lists_every_fault() {
    let house = House::open().await;
    let page = house.get("/").send().await.unwrap().text().await.unwrap();
    for (_, name, _) in crate::fault::FAULTS {
        assert!(page.contains(name), "{name} is not on the page");
    }
    assert_eq!(house.look("/health").await.0, 200);
}

#[tokio::test]
async fn an_order_for_an_unknown_fault_is_refused() {
    let house = House::open().await;
    let (status, body) = house.ask("/control/faults", json!({ "fault": "gremlin" })).await;
    assert_eq!(status, 400);
    assert!(body["error"].as_str().unwrap().contains("gremlin"));
}

#[tokio::test]
async fn a_reset_forgets_faults_tasks_and_counts() {
    let house = House::open().await;
    house.ask("/control/faults", json!({ "fault": "quota", "provider": "minimax" })).await;
    let poll = house.kling_task("a fox").await;
    assert_eq!(house.ask("/control/reset", json!({})).await.0, 204);
    assert_eq!(house.look(&poll).await.0, 404);
    assert_eq!(house.accepted("fox").await, 0);
    house.minimax_task("a hen").await;
}

#[tokio::test]
async fn what_a_request_says_it_is_part_of_is_kept_until_a_reset() {
    let house = House::open().await;
    house.get("/health").header("traceparent", "00-1-2-3").send().await.unwrap();
    house.get("/health").send().await.unwrap();
    let kept = json!({ "data": [{ "method": "GET", "path": "/health", "traceparent": "00-1-2-3" }] });
    assert_eq!(house.look("/control/traces").await, (200, kept));
    house.ask("/control/reset", json!({})).await;
    assert_eq!(house.look("/control/traces").await, (200, json!({ "data": [] })));
}
