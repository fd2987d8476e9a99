//! Requests as a client of fal's queue meets them.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    House,
    replicate::{listen, picture},
    told,
};
use crate::Pace;

const FLUX: &str = "/fal/fal-ai/flux/dev";

impl House {
    async fn fal(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.root) };
        let mut request = self.client.request(method, url).header("Authorization", "Key key");
        if let Some(body) = body {
            request = request.json(body);
        }
        told(request.send().await.unwrap()).await
    }

    /// A request's address.
    async fn flux(&self, prompt: &str) -> String {
        let (status, answer) = self.fal(Method::POST, FLUX, Some(&json!({ "prompt": prompt }))).await;
        assert_eq!((status, &answer["status"]), (200, &json!("IN_QUEUE")), "{answer}");
        answer["response_url"].as_str().unwrap().to_owned()
    }

    async fn state(&self, request: &str) -> (u16, Value) {
        self.fal(Method::GET, &format!("{request}/status"), None).await
    }
}

#[tokio::test]
async fn a_request_lives_under_owner_and_name_and_ends_in_pictures() {
    let house = House::open_with(None, Pace::AfterPolls(3)).await;
    let request = house.flux("a fox").await;
    assert!(request.contains("/fal/fal-ai/flux/requests/"), "{request}");
    assert_eq!(house.fal(Method::GET, &request.replace("/flux/", "/flux/dev/"), None).await.0, 404);
    for (status, word) in [(202, "IN_QUEUE"), (202, "IN_PROGRESS")] {
        let (got, state) = house.state(&request).await;
        assert_eq!((got, &state["status"]), (status, &json!(word)));
        assert_eq!(house.fal(Method::GET, &request, None).await.0, 400, "there is no result yet");
    }
    let (status, state) = house.state(&request).await;
    assert_eq!((status, &state["status"], &state["error"]), (200, &json!("COMPLETED"), &Value::Null));
    let (_, result) = house.fal(Method::GET, &request, None).await;
    let file = house.client.get(result["images"][0]["url"].as_str().unwrap()).send().await.unwrap();
    let file = image::load_from_memory(&file.bytes().await.unwrap()).unwrap();
    assert_eq!((file.width(), file.height()), (1024, 768));
    assert_eq!(house.accepted("fox").await, 1);
}

#[tokio::test]
async fn a_drawing_is_an_svg() {
    let house = House::open().await;
    let order = json!({ "image_url": picture(320) });
    let (_, answer) = house.fal(Method::POST, "/fal/fal-ai/recraft/vectorize", Some(&order)).await;
    let request = answer["response_url"].as_str().unwrap();
    house.state(request).await;
    let (_, result) = house.fal(Method::GET, request, None).await;
    let file = house.client.get(result["image"]["url"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(file.headers()["content-type"], "image/svg+xml");
    assert!(file.text().await.unwrap().ends_with("</svg>\n"));
}

#[tokio::test]
async fn an_order_is_read_strictly() {
    let house = House::open().await;
    for (path, body, status) in [
        (FLUX, json!({}), 422),
        (FLUX, json!({ "prompt": "a fox", "aspect_ratio": "1:1" }), 422),
        (FLUX, json!({ "prompt": "a fox", "image_size": "1:1" }), 422),
        (FLUX, json!({ "prompt": "a fox", "num_images": 9 }), 422),
        ("/fal/fal-ai/flux/dev?webhook=http://x", json!({ "prompt": "a fox" }), 422),
        ("/fal/fal-ai/flux", json!({ "prompt": "a fox" }), 404),
        ("/fal/fal-ai/face-swap", json!({ "base_image_url": picture(64) }), 422),
        ("/fal/fal-ai/recraft/vectorize", json!({ "image_url": picture(200) }), 422),
    ] {
        assert_eq!(house.fal(Method::POST, path, Some(&body)).await.0, status, "{path} {body}");
    }
    // A bearer token is no key here.
    assert_eq!(house.ask(FLUX, json!({ "prompt": "a fox" })).await.0, 401);
}

#[tokio::test]
async fn a_vendor_says_no_in_its_own_words() {
    let house = House::open().await;
    for (fault, status) in [
        ("rate_limit", 429),
        ("quota", 403),
        ("quota=402", 402),
        ("auth", 401),
        ("bad_input", 422),
        ("refuse=submit", 422),
        ("fail", 500),
    ] {
        let order = json!({ "prompt": format!("a fox [[sim:{fault}]]") });
        assert_eq!(house.fal(Method::POST, FLUX, Some(&order)).await.0, status, "{fault}");
    }
    assert_eq!(house.accepted("fox").await, 0);
}

#[tokio::test]
async fn completed_is_said_of_failures_too() {
    let house = House::open().await;
    let failed = house.flux("a fox [[sim:task_fail]]").await;
    let (status, state) = house.state(&failed).await;
    assert_eq!((status, &state["status"]), (200, &json!("COMPLETED")));
    assert_eq!(state["error_type"], "runner_disconnected");

    let refused = house.flux("a fox [[sim:refuse]]").await;
    assert_eq!(house.state(&refused).await.1["error"], Value::Null);
    let (status, result) = house.fal(Method::GET, &refused, None).await;
    assert_eq!((status, &result["detail"][0]["type"]), (422, &json!("content_policy_violation")));

    let hollow = house.flux("a fox [[sim:no_result]]").await;
    house.state(&hollow).await;
    assert_eq!(house.fal(Method::GET, &hollow, None).await.1["images"], json!([]));
}

#[tokio::test]
async fn a_request_can_be_canceled_until_it_is_over() {
    let house = House::open_with(None, Pace::AfterPolls(2)).await;
    let request = house.flux("a fox").await;
    let cancel = format!("{request}/cancel");
    assert_eq!(house.fal(Method::PUT, &cancel, None).await.0, 202);
    assert_eq!(house.fal(Method::PUT, &cancel, None).await.0, 400);
    assert_eq!(house.state(&request).await.1["error_type"], "client_cancelled");
}

#[tokio::test]
async fn a_webhook_carries_the_result() {
    let house = House::open_with(None, Pace::AfterSeconds(0.1)).await;
    let mut server = JoinSet::new();
    let (url, mut hearing) = listen(&mut server).await;
    let encoded = url.replace(':', "%3A").replace('/', "%2F").replace('?', "%3F").replace('=', "%3D");
    let order = json!({ "prompt": "a fox" });
    house.fal(Method::POST, &format!("{FLUX}?fal_webhook={encoded}"), Some(&order)).await;
    let (_, body) = hearing.recv().await.unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["status"], "OK");
    assert!(body["payload"]["images"][0]["url"].is_string(), "{body}");
}
