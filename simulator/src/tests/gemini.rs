//! Pictures as a Gemini client meets them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::House;

const PICTURE: &str = "/gemini/v1beta/models/gemini-2.5-flash-image:generateContent";
const TEXT: &str = "/gemini/v1beta/models/gemini-2.5-flash:generateContent";

fn draw(prompt: &str) -> Value {
    json!({
        "contents": [{ "parts": [{ "text": prompt }] }],
        "generationConfig": {
            "responseModalities": ["TEXT", "IMAGE"], "imageConfig": { "aspectRatio": "16:9" },
        },
    })
}

fn picture(answer: &Value) -> Vec<u8> {
    let parts = answer["candidates"][0]["content"]["parts"].as_array().unwrap();
    let data = parts.iter().find_map(|part| part["inlineData"]["data"].as_str()).unwrap();
    STANDARD.decode(data).unwrap()
}

#[tokio::test]
async fn a_picture_comes_inline_and_can_be_sent_back_to_be_edited() {
    let house = House::open().await;
    let (status, answer) = house.ask(PICTURE, draw("a fox")).await;
    assert_eq!(status, 200);
    let first = picture(&answer);
    let drawn = image::load_from_memory(&first).unwrap();
    assert_eq!((drawn.width(), drawn.height()), (1344, 768));

    let data = STANDARD.encode(&first);
    let mut edit = draw("make it red");
    let inline = json!({ "inline_data": { "mime_type": "image/png", "data": data } });
    edit["contents"][0]["parts"].as_array_mut().unwrap().push(inline);
    let (status, answer) = house.ask(PICTURE, edit).await;
    assert_eq!(status, 200);
    assert_ne!(picture(&answer), first);

    let (_, answer) = house.ask(TEXT, json!({ "contents": [{ "parts": [{ "text": "hello" }] }] })).await;
    assert!(answer["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap().contains("hello"));
}

#[tokio::test]
async fn a_request_is_read_strictly() {
    let house = House::open().await;
    let mut misspelt = draw("a fox");
    misspelt["generationConfig"]["imageConfig"] = json!({ "aspect": "1:1" });
    let mut odd_ratio = draw("a fox");
    odd_ratio["generationConfig"]["imageConfig"]["aspectRatio"] = json!("7:3");
    let mut prefixed = draw("a fox");
    prefixed["contents"][0]["parts"][0] =
        json!({ "inlineData": { "mimeType": "image/png", "data": "data:image/png;base64,AAAA" } });
    for body in [misspelt, odd_ratio, prefixed, json!({ "contents": [] }), json!({ "prompt": "a fox" })] {
        let (status, answer) = house.ask(PICTURE, body).await;
        assert_eq!((status, &answer["error"]["status"]), (400, &json!("INVALID_ARGUMENT")), "{answer}");
    }
    let (status, _) = house.ask(TEXT, draw("a fox")).await;
    assert_eq!(status, 400, "a text model cannot draw");
    let request = house.client.post(format!("{}{PICTURE}", house.root)).json(&draw("a fox"));
    assert_eq!(request.try_clone().unwrap().send().await.unwrap().status(), 403);
    assert_eq!(request.header("x-goog-api-key", "wrong").send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_vendor_says_no_in_its_own_words() {
    let house = House::open().await;
    let ask = async |fault: &str| house.ask(PICTURE, draw(&format!("a fox [[sim:{fault}]]"))).await;
    let (status, answer) = ask("refuse").await;
    assert_eq!((status, &answer["promptFeedback"]["blockReason"]), (200, &json!("PROHIBITED_CONTENT")));
    assert!(answer.get("candidates").is_none());
    let (status, answer) = ask("rate_limit=5").await;
    assert_eq!((status, &answer["error"]["details"][1]["retryDelay"]), (429, &json!("5s")));
    assert_eq!(ask("quota").await.1["error"]["status"], "RESOURCE_EXHAUSTED");
    assert_eq!(ask("auth").await.1["error"]["details"][0]["reason"], "API_KEY_INVALID");
    assert_eq!(ask("fail=503").await.1["error"]["status"], "UNAVAILABLE");
    assert_eq!(ask("no_result").await.1["candidates"][0]["finishReason"], "NO_IMAGE");
    assert_eq!(ask("no_result=IMAGE_SAFETY").await.1["candidates"][0]["finishReason"], "IMAGE_SAFETY");
}

#[tokio::test]
async fn a_picture_can_be_spoiled() {
    let house = House::open().await;
    let ask =
        async |fault: &str| picture(&house.ask(PICTURE, draw(&format!("a fox [[sim:{fault}]]"))).await.1);
    assert!(ask("empty").await.is_empty());
    assert!(ask("wrong_type").await.starts_with(b"<!DOCTYPE"));
    assert!(image::guess_format(&ask("corrupt").await).is_err());
    let half = ask("truncated").await;
    assert!(image::guess_format(&half).is_ok() && image::load_from_memory(&half).is_err());
}
