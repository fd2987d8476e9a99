//! Predictions as a Replicate client meets them.

use axum::{Router, extract::State, http::HeaderMap, routing::post};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};

use super::{House, told};
use crate::{Pace, content::png, seed::Seed, vendors::replicate::WEBHOOK_SECRET};

const FLUX: &str = "/replicate/v1/models/black-forest-labs/flux-dev/predictions";
const BY_VERSION: &str = "/replicate/v1/predictions";
const FACE_SWAP: &str = "278a81e7ebb22db98bcba54de985d22cc1abeead2754eb1f2af717247be69b34";

/// A picture in a data URL.
pub(super) fn picture(side: u32) -> String {
    let file = png::picture(&Seed::of("a face", "1"), (side, side)).unwrap();
    format!("data:image/png;base64,{}", STANDARD.encode(file))
}

async fn flux(house: &House, prompt: &str) -> String {
    let (status, answer) = house.ask(FLUX, json!({ "input": { "prompt": prompt } })).await;
    assert_eq!((status, &answer["status"]), (201, &json!("starting")), "{answer}");
    format!("{BY_VERSION}/{}", answer["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_prediction_goes_its_way_and_lists_its_pictures() {
    let house = House::open_with(None, Pace::AfterPolls(3)).await;
    let order = json!({ "input": { "prompt": "a fox", "num_outputs": 2, "aspect_ratio": "16:9" } });
    let (_, answer) = house.ask(FLUX, order).await;
    let poll = format!("{BY_VERSION}/{}", answer["id"].as_str().unwrap());
    assert_eq!(house.look(&poll).await.1["status"], "starting");
    assert_eq!(house.look(&poll).await.1["status"], "processing");
    let (_, answer) = house.look(&poll).await;
    assert_eq!(
        (&answer["status"], answer["output"].as_array().map(Vec::len)),
        (&json!("succeeded"), Some(2))
    );
    assert!(answer["metrics"]["predict_time"].is_number());
    let file = house.client.get(answer["output"][1].as_str().unwrap()).send().await.unwrap();
    let file = image::load_from_memory(&file.bytes().await.unwrap()).unwrap();
    assert_eq!((file.width(), file.height()), (1344, 768));
    assert_eq!(house.accepted("fox").await, 1);
}

#[tokio::test]
async fn a_version_is_named_alone_or_with_its_model_and_gives_one_address() {
    let house = House::open().await;
    let input = json!({ "input_image": picture(64), "swap_image": "https://example.com/face.png" });
    for version in [FACE_SWAP.to_owned(), format!("codeplugtech/face-swap:{FACE_SWAP}")] {
        let (status, answer) = house.ask(BY_VERSION, json!({ "version": version, "input": input })).await;
        assert_eq!(status, 201, "{answer}");
        let (_, answer) = house.look(&format!("{BY_VERSION}/{}", answer["id"].as_str().unwrap())).await;
        assert!(answer["output"].is_string(), "{answer}");
    }
    let (status, answer) = house.ask(BY_VERSION, json!({ "version": "0".repeat(64), "input": input })).await;
    assert_eq!((status, &answer["title"]), (422, &json!("Invalid version or not permitted")));
}

#[tokio::test]
async fn an_order_is_read_strictly() {
    let house = House::open().await;
    let swap = |input: Value| json!({ "version": FACE_SWAP, "input": input });
    for (path, body, status) in [
        (FLUX, json!({ "input": {} }), 422),
        (FLUX, json!({ "input": { "prompt": "a fox", "image_size": "square" } }), 422),
        (FLUX, json!({ "input": { "prompt": "a fox", "num_outputs": 5 } }), 422),
        (FLUX, json!({ "version": FACE_SWAP, "input": { "prompt": "a fox" } }), 422),
        (FLUX, json!({ "input": { "prompt": "a fox" }, "webhook_events_filter": ["done"] }), 422),
        ("/replicate/v1/models/nobody/nothing/predictions", json!({ "input": {} }), 404),
        (BY_VERSION, json!({ "input": {} }), 422),
        (BY_VERSION, swap(json!({ "input_image": picture(64) })), 422),
        (BY_VERSION, swap(json!({ "input_image": picture(64), "swap_image": "file_1" })), 422),
        (BY_VERSION, swap(json!({ "input_image": picture(2000), "swap_image": picture(64) })), 422),
    ] {
        assert_eq!(house.ask(path, body).await.0, status, "{path}");
    }
    let bare =
        house.client.post(format!("{}{FLUX}", house.root)).json(&json!({ "input": { "prompt": "a fox" } }));
    assert_eq!(told(bare.send().await.unwrap()).await.0, 401);
    assert_eq!(house.look("/replicate/v1/account").await.0, 200);
}

#[tokio::test]
async fn a_vendor_says_no_and_a_task_ends_badly() {
    let house = House::open().await;
    for (fault, status) in [
        ("rate_limit", 429),
        ("quota", 402),
        ("auth", 401),
        ("bad_input", 422),
        ("refuse=submit", 422),
        ("fail", 500),
    ] {
        let order = json!({ "input": { "prompt": format!("a fox [[sim:{fault}]]") } });
        assert_eq!(house.ask(FLUX, order).await.0, status, "{fault}");
    }
    assert_eq!(house.accepted("fox").await, 0);
    for (fault, word, why) in [
        ("refuse", "failed", "NSFW"),
        ("task_fail=no face found", "failed", "no face found"),
        ("task_fail=aborted", "aborted", ""),
        ("unknown_status", "reticulating", ""),
        ("no_result", "succeeded", ""),
    ] {
        let (_, answer) = house.look(&flux(&house, &format!("a hen [[sim:{fault}]]")).await).await;
        assert_eq!((&answer["status"], &answer["output"]), (&json!(word), &Value::Null), "{fault}");
        assert!(answer["error"].as_str().unwrap_or_default().contains(why), "{fault}: {answer}");
    }
}

#[tokio::test]
async fn a_prediction_can_be_canceled_until_it_is_over() {
    let house = House::open_with(None, Pace::AfterPolls(2)).await;
    let open = flux(&house, "a fox").await;
    let (status, answer) = house.ask(&format!("{open}/cancel"), json!({})).await;
    assert_eq!((status, &answer["status"]), (200, &json!("canceled")));
    assert_eq!(house.look(&open).await.1["status"], "canceled");
    let over = flux(&house, "a hen").await;
    house.look(&over).await;
    house.look(&over).await;
    assert_eq!(house.ask(&format!("{over}/cancel"), json!({})).await.1["status"], "succeeded");
}

#[tokio::test]
async fn a_file_is_uploaded_and_used_by_its_address() {
    let house = House::open().await;
    let part = Part::bytes(vec![1; 2_000_000]).file_name("image").mime_str("image/png").unwrap();
    let form = Form::new().part("content", part);
    let (status, answer) =
        told(house.post("/replicate/v1/files").multipart(form).send().await.unwrap()).await;
    assert_eq!((status, &answer["size"]), (201, &json!(2_000_000)));
    let input = json!({ "input_image": answer["urls"]["get"], "swap_image": picture(64) });
    assert_eq!(house.ask(BY_VERSION, json!({ "version": FACE_SWAP, "input": input })).await.0, 201);
}

/// A server that keeps what is posted to it, and its address.
pub(super) async fn listen(server: &mut JoinSet<()>) -> (String, mpsc::Receiver<(HeaderMap, String)>) {
    let (heard, hearing) = mpsc::channel(8);
    let hear =
        async |State(heard): State<mpsc::Sender<(HeaderMap, String)>>, headers: HeaderMap, body: String| {
            heard.send((headers, body)).await.unwrap();
        };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/ring?token=1", listener.local_addr().unwrap());
    let router = Router::new().route("/ring", post(hear)).with_state(heard);
    server.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, hearing)
}

#[tokio::test]
async fn a_webhook_rings_once_and_is_signed() {
    let house = House::open_with(None, Pace::AfterSeconds(0.1)).await;
    let mut server = JoinSet::new();
    let (url, mut hearing) = listen(&mut server).await;
    let order =
        json!({ "input": { "prompt": "a fox" }, "webhook": url, "webhook_events_filter": ["completed"] });
    house.ask(FLUX, order).await;
    let (headers, body) = hearing.recv().await.unwrap();
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let signed = format!("{}.{}.{body}", header("webhook-id"), header("webhook-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(WEBHOOK_SECRET).unwrap();
    mac.update(signed.as_bytes());
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(header("webhook-signature"), expected);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["status"], "succeeded");
}
