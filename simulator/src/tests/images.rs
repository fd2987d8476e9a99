//! Pictures as a client of OpenAI meets them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::multipart::Form;
use serde_json::{Value, json};

use super::{House, part, told};

const WORDS: &str = "/openai/v1/images/generations";
const EDITS: &str = "/openai/v1/images/edits";

fn size(image: &Value) -> (u32, u32) {
    let bytes = STANDARD.decode(image["b64_json"].as_str().unwrap()).unwrap();
    let picture = image::load_from_memory(&bytes).unwrap();
    (picture.width(), picture.height())
}

#[tokio::test]
async fn each_family_answers_in_its_own_way() {
    let house = House::open().await;
    let order =
        json!({ "model": "gpt-image-2", "prompt": "a fox", "n": 2, "size": "1792x1024", "quality": "low" });
    let (status, answer) = house.ask(WORDS, order).await;
    assert_eq!((status, size(&answer["data"][1])), (200, (1792, 1024)));
    assert_eq!(answer["usage"]["output_tokens"], 544);

    let (_, answer) = house.ask(WORDS, json!({ "model": "dall-e-3", "prompt": "a hen" })).await;
    assert!(answer.get("usage").is_none() && answer["data"][0]["revised_prompt"].is_string());
    let file = house.client.get(answer["data"][0]["url"].as_str().unwrap()).send().await.unwrap();
    assert!(image::load_from_memory(&file.bytes().await.unwrap()).is_ok());
    let order = json!({ "model": "dall-e-3", "prompt": "a hen", "response_format": "b64_json" });
    assert_eq!(size(&house.ask(WORDS, order).await.1["data"][0]), (1024, 1024));
    assert_eq!((house.accepted("fox").await, house.accepted("hen").await), (1, 2));
}

#[tokio::test]
async fn a_picture_is_a_file_of_the_kind_that_was_ordered_and_may_have_no_background() {
    let house = House::open().await;
    for (format, background, expected) in [
        ("png", "transparent", image::ImageFormat::Png),
        ("webp", "transparent", image::ImageFormat::WebP),
        ("webp", "opaque", image::ImageFormat::WebP),
        ("jpeg", "auto", image::ImageFormat::Jpeg),
    ] {
        let order = json!({
            "model": "gpt-image-2", "prompt": "a fox", "size": "256x128", "output_format": format,
            "output_compression": 50, "background": background,
        });
        let (status, answer) = house.ask(WORDS, order).await;
        assert_eq!((status, &answer["output_format"]), (200, &json!(format)), "{answer}");
        let bytes = STANDARD.decode(answer["data"][0]["b64_json"].as_str().unwrap()).unwrap();
        assert_eq!(image::guess_format(&bytes).unwrap(), expected);
        let picture = image::load_from_memory(&bytes).unwrap().into_rgba8();
        let is_clear = picture.get_pixel(0, 0).0[3] == 0;
        assert_eq!((is_clear, picture.get_pixel(128, 64).0[3]), (background == "transparent", 255));
    }
}

#[tokio::test]
async fn an_odd_picture_is_a_good_one_that_nobody_ordered() {
    let house = House::open().await;
    let order = json!({ "model": "gpt-image-2", "prompt": "a fox [[sim:odd]]", "size": "1024x1024" });
    assert_eq!(size(&house.ask(WORDS, order).await.1["data"][0]), (256, 64));
    // By an address it is odd where it is served.
    let order = json!({ "model": "dall-e-3", "prompt": "a hen [[sim:odd]]" });
    let (_, answer) = house.ask(WORDS, order).await;
    let file = house.client.get(answer["data"][0]["url"].as_str().unwrap()).send().await.unwrap();
    let picture = image::load_from_memory(&file.bytes().await.unwrap()).unwrap();
    assert_eq!((picture.width(), picture.height()), (256, 64));
}

#[tokio::test]
async fn a_picture_is_changed_within_its_mask() {
    let house = House::open().await;
    let form =
        || Form::new().text("model", "gpt-image-1").text("prompt", "redder").part("image", part(100, 80));
    let (status, answer) = told(house.fill_in(EDITS, form().part("mask", part(100, 80))).await).await;
    assert_eq!((status, size(&answer["data"][0])), (200, (1024, 1024)));
    for bad in
        [form().part("mask", part(80, 80)), form().text("style", "vivid"), form().text("size", "1792x1024")]
    {
        assert_eq!(house.fill_in(EDITS, bad).await.status(), 400);
    }
}

#[tokio::test]
async fn a_request_is_read_strictly() {
    let house = House::open().await;
    for (order, status) in [
        (json!({ "prompt": "a fox" }), 404),
        (json!({ "model": "dall-e-2", "prompt": "a fox" }), 404),
        (json!({ "model": "gpt-image-1" }), 400),
        (json!({ "model": "gpt-image-1", "prompt": "a fox", "response_format": "b64_json" }), 400),
        (json!({ "model": "gpt-image-1", "prompt": "a fox", "size": "1792x1024" }), 400),
        (json!({ "model": "gpt-image-2", "prompt": "a fox", "size": "1000x1000" }), 400),
        (json!({ "model": "gpt-image-1", "prompt": "a fox", "quality": "hd" }), 400),
        (json!({ "model": "dall-e-3", "prompt": "a fox", "n": 2 }), 400),
        (json!({ "model": "dall-e-3", "prompt": "a fox", "background": "opaque" }), 400),
        (json!({ "model": "gpt-image-2", "prompt": "a fox", "output_format": "gif" }), 400),
        (json!({ "model": "gpt-image-2", "prompt": "a fox", "output_compression": 101 }), 400),
        (
            json!({ "model": "gpt-image-2", "prompt": "a fox", "output_format": "jpeg", "background": "transparent" }),
            400,
        ),
    ] {
        assert_eq!(house.ask(WORDS, order.clone()).await.0, status, "{order}");
    }
    let refused = json!({ "model": "gpt-image-1", "prompt": "a fox [[sim:refuse]]" });
    assert_eq!(house.ask(WORDS, refused).await.1["error"]["code"], "moderation_blocked");
    let refused = json!({ "model": "dall-e-3", "prompt": "a fox [[sim:refuse]]" });
    assert_eq!(house.ask(WORDS, refused).await.1["error"]["code"], "content_policy_violation");
    assert_eq!(house.accepted("").await, 0);
}
