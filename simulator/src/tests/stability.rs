//! Pictures and tools as a Stability client meets them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::multipart::Form;

use super::{House, part, told};

const CORE: &str = "/stability/v2beta/stable-image/generate/core";
const CREATIVE: &str = "/stability/v2beta/stable-image/upscale/creative";
const RELIGHT: &str = "/stability/v2beta/stable-image/edit/replace-background-and-relight";

fn words(prompt: &str) -> Form {
    Form::new().text("prompt", prompt.to_owned())
}

fn size(bytes: &[u8]) -> (u32, u32) {
    let picture = image::load_from_memory(bytes).unwrap();
    (picture.width(), picture.height())
}

#[tokio::test]
async fn a_picture_comes_bare_or_in_json_as_is_asked() {
    let house = House::open().await;
    let answer = house.fill_in(CORE, words("a fox").text("aspect_ratio", "16:9")).await;
    assert_eq!(
        (&answer.headers()["content-type"], &answer.headers()["finish-reason"]),
        (&"image/png".parse().unwrap(), &"SUCCESS".parse().unwrap())
    );
    assert_eq!(size(&answer.bytes().await.unwrap()), (1344, 768));

    let asked = house.post(CORE).header("accept", "application/json").multipart(words("a fox"));
    let (status, answer) = told(asked.send().await.unwrap()).await;
    assert_eq!((status, answer["finish_reason"].as_str()), (200, Some("SUCCESS")));
    assert_eq!(size(&STANDARD.decode(answer["image"].as_str().unwrap()).unwrap()), (1024, 1024));

    let answer = house.fill_in(CORE, words("a fox [[sim:no_result]]")).await;
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["finish-reason"].to_str().unwrap()),
        (200, "CONTENT_FILTERED")
    );
    assert_eq!(house.accepted("fox").await, 3);
}

#[tokio::test]
async fn a_task_goes_its_way_and_ends_in_a_picture() {
    let house = House::open_with(None, crate::Pace::AfterPolls(2)).await;
    let (status, answer) =
        told(house.fill_in(CREATIVE, words("a fox").part("image", part(100, 80))).await).await;
    assert_eq!(status, 200);
    let id = answer["id"].as_str().unwrap();
    assert_eq!(id.len(), 64);
    let poll = format!("/stability/v2beta/results/{id}");
    let (status, answer) = house.look(&poll).await;
    assert_eq!((status, answer["status"].as_str()), (202, Some("in-progress")));
    let answer = house.get(&poll).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(size(&answer.bytes().await.unwrap()), (400, 320));
    assert_eq!(house.look("/stability/v2beta/results/7").await.0, 404);
}

#[tokio::test]
async fn a_form_is_read_strictly() {
    let house = House::open().await;
    let lit = |name: &'static str| Form::new().part("subject_image", part(100, 80)).text(name, "above");
    for (path, form) in [
        (CORE, Form::new()),
        (CORE, words("a fox").text("colour", "red")),
        (CORE, words("a fox").text("aspect_ratio", "4:3")),
        (CORE, words("a fox").text("seed", "4294967295")),
        (CORE, words("a fox").text("output_format", "tiff")),
        (CORE, words("a fox").part("image", part(100, 80))),
        (CREATIVE, words("a fox")),
        (CREATIVE, words("a fox").part("image", part(20, 20))),
        (CREATIVE, words("a fox").part("image", part(400, 100))),
        (CREATIVE, words("a fox").text("creativity", "0.9").part("image", part(100, 80))),
        (RELIGHT, lit("light_source_direction")),
        (RELIGHT, lit("light_source_direction").text("background_prompt", "x").text("prompt", "x")),
    ] {
        let (status, answer) = told(house.fill_in(path, form).await).await;
        assert_eq!((status, answer["name"].as_str()), (400, Some("bad_request")), "{path} {answer}");
    }
    let json = house.post(CORE).json(&serde_json::json!({ "prompt": "a fox" })).send().await.unwrap();
    assert_eq!(json.status(), 400);
    assert_eq!(house.accepted("").await, 0);
}

#[tokio::test]
async fn a_vendor_says_no_in_its_own_words() {
    let house = House::open().await;
    for (fault, status, name) in [
        ("rate_limit", 429, "rate_limit_exceeded"),
        ("quota", 402, "payment_required"),
        ("auth", 401, "unauthorized"),
        ("bad_input", 400, "bad_request"),
        ("refuse", 403, "content_moderation"),
        ("fail=503", 503, "internal_error"),
    ] {
        let (got, answer) = told(house.fill_in(CORE, words(&format!("a fox [[sim:{fault}]]"))).await).await;
        assert_eq!((got, answer["name"].as_str()), (status, Some(name)), "{fault}");
    }
    assert_eq!(house.look("/stability/v1/user/balance").await.1["credits"], 123.4);
    let wrong = house.client.get(format!("{}/stability/v1/user/balance", house.root)).bearer_auth("wrong");
    assert_eq!(wrong.send().await.unwrap().status(), 401);
}
