//! Pictures and tools as a Recraft client meets them.

use reqwest::multipart::Form;
use serde_json::{Value, json};

use super::{House, part, told};

const WORDS: &str = "/recraft/v1/images/generations";

fn tool(name: &str) -> String {
    format!("/recraft/v1/images/{name}")
}

async fn fetch(house: &House, image: &Value) -> Vec<u8> {
    house.client.get(image["url"].as_str().unwrap()).send().await.unwrap().bytes().await.unwrap().into()
}

#[tokio::test]
async fn pictures_come_by_address_or_inline_and_say_what_they_cost() {
    let house = House::open().await;
    let (status, answer) = house
        .ask(WORDS, json!({ "prompt": "a fox", "model": "recraftv3", "n": 2, "size": "1365x1024" }))
        .await;
    assert_eq!((status, &answer["credits"]), (200, &json!(80)));
    let files = [fetch(&house, &answer["data"][0]).await, fetch(&house, &answer["data"][1]).await];
    assert_eq!(image::load_from_memory(&files[0]).unwrap().height(), 1024);
    assert_ne!(files[0], files[1]);
    let (_, answer) = house.ask(WORDS, json!({ "prompt": "a fox", "response_format": "b64_json" })).await;
    assert!(answer["data"][0]["b64_json"].is_string() && answer["data"][0].get("url").is_none());
}

#[tokio::test]
async fn each_tool_makes_something_of_a_picture() {
    let house = House::open().await;
    for (name, credits, width) in
        [("removeBackground", 10, 100), ("crispUpscale", 4, 200), ("creativeUpscale", 250, 200)]
    {
        // The part may bear its old name.
        for field in ["image", "file"] {
            let form = Form::new().part(field, part(100, 80));
            let (status, answer) = told(house.fill_in(&tool(name), form).await).await;
            assert_eq!((status, &answer["credits"]), (200, &json!(credits)), "{name}");
            let picture = image::load_from_memory(&fetch(&house, &answer["image"]).await).unwrap();
            assert_eq!(picture.width(), width, "{name}");
        }
    }
    let (_, answer) =
        told(house.fill_in(&tool("vectorize"), Form::new().part("image", part(100, 80))).await).await;
    assert!(fetch(&house, &answer["image"]).await.starts_with(b"<?xml"));
    let form = Form::new().part("image", part(100, 80)).text("prompt", "a beach");
    let (_, answer) = told(house.fill_in(&tool("replaceBackground"), form).await).await;
    assert_eq!(answer["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_request_is_read_strictly() {
    let house = House::open().await;
    for body in [
        json!({}),
        json!({ "prompt": "a fox", "colour": "red" }),
        json!({ "prompt": "a fox", "n": 7 }),
        json!({ "prompt": "a fox", "size": "1000x1000" }),
        json!({ "prompt": "a fox", "model": "recraftv9" }),
        json!({ "prompt": "a fox", "style": "vector_illustration" }),
        json!({ "prompt": "x".repeat(1001), "model": "recraftv3" }),
    ] {
        assert_eq!(house.ask(WORDS, body.clone()).await.0, 400, "{body}");
    }
    for (name, form) in [
        ("vectorize", Form::new()),
        ("vectorize", Form::new().part("image", part(100, 80)).text("prompt", "x")),
        ("replaceBackground", Form::new().part("image", part(100, 80))),
    ] {
        assert_eq!(house.fill_in(&tool(name), form).await.status(), 400, "{name}");
    }
    assert_eq!(house.fill_in(&tool("sharpen"), Form::new()).await.status(), 404);
    assert_eq!(house.look("/recraft/v1/users/me").await.1["credits"], 4200);
    assert_eq!(house.accepted("").await, 0);
}

#[tokio::test]
async fn an_address_can_die_and_a_file_be_spoiled() {
    let house = House::open().await;
    for (fault, status) in [("expired", 403), ("corrupt", 200)] {
        let (_, answer) = house.ask(WORDS, json!({ "prompt": format!("a fox [[sim:{fault}]]") })).await;
        let file = house.client.get(answer["data"][0]["url"].as_str().unwrap()).send().await.unwrap();
        assert_eq!(file.status(), status, "{fault}");
        assert!(image::load_from_memory(&file.bytes().await.unwrap()).is_err(), "{fault}");
    }
}
