//! OpenAI's paths other than chats, asked as OpenAI's clients ask: the same fields, forms and headers.
//!
//! The clients themselves are asked in `tests/sdk`; here is what they cannot see, such as money, files and other accounts.

mod sound;
mod video;

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    multipart::{Form, Part},
};
use serde_json::{Value, json};

use crate::support::{Account, Answer, TestApp, read};

/// What a path answers when the work is done.
async fn ask(app: &TestApp, alice: &Account, path: &str, body: Value) -> Answer {
    app.worked(alice.post(path, body)).await
}

/// The same for a form.
async fn send(app: &TestApp, alice: &Account, path: &str, form: Form) -> Answer {
    app.worked(read(request(alice, Method::POST, path).multipart(form))).await
}

fn request(alice: &Account, method: Method, path: &str) -> RequestBuilder {
    alice.http.request(method, format!("{}{path}", alice.base)).bearer_auth(&alice.key)
}

/// A request that is answered with bytes.
async fn fetch(app: &TestApp, request: RequestBuilder) -> Response {
    app.worked(async { request.send().await.expect("the API answers") }).await
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A picture as a part of a form.
fn picture(width: u32, height: u32) -> Part {
    let mut png = std::io::Cursor::new(Vec::new());
    let image = image::RgbaImage::from_pixel(width, height, image::Rgba([200, 30, 30, 0]));
    image.write_to(&mut png, image::ImageFormat::Png).expect("encode");
    Part::bytes(png.into_inner()).file_name("fox.png").mime_str("image/png").expect("a type")
}

/// How many files the account has sent in.
async fn uploads(alice: &Account) -> usize {
    alice.get("/v1/files").await.json["data"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn texts_become_vectors_as_numbers_or_as_bytes_for_one_price() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    let wish = |form: &str| json!({ "model": "text-embedding-3-small", "input": ["a fox", "a hen"], "encoding_format": form, "user": "u1" });
    let packed = ask(&app, &alice, "/v1/embeddings", wish("base64")).await;
    assert_eq!(packed.status, StatusCode::OK, "{}", packed.json);
    assert!(packed.headers["x-kiln-job"].to_str().is_ok_and(|job| job.starts_with("job_")));
    let charged = 1000 - alice.tokens().await.0;
    assert!(charged > 0);
    let plain = ask(&app, &alice, "/v1/embeddings", wish("float")).await;
    assert_eq!(alice.tokens().await, (1000 - charged, 0), "the second is the first one in another form");
    assert_eq!(
        (&plain.json["object"], &plain.json["model"]),
        (&json!("list"), &json!("text-embedding-3-small"))
    );
    assert!(plain.json["usage"]["prompt_tokens"].as_u64().is_some_and(|count| count > 0), "{}", plain.json);
    for n in 0..2 {
        let bytes = packed.json["data"][n]["embedding"].as_str().map(|text| BASE64_STANDARD.decode(text));
        let bytes = bytes.expect("a text").expect("base64");
        let unpacked = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes")));
        let numbers = plain.json["data"][n]["embedding"].as_array().expect("numbers");
        assert_eq!(numbers.len(), 1536);
        for (one, other) in unpacked.zip(numbers) {
            assert!((f64::from(one) - other.as_f64().expect("a number")).abs() < 1e-6);
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn texts_are_judged_one_by_one() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let body = json!({ "input": ["a fox", "[[violence]]"] });
    let answer = ask(&app, &alice, "/v1/moderations", body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    assert!(answer.json["id"].as_str().is_some_and(|id| id.starts_with("modr-")));
    let results = &answer.json["results"];
    assert_eq!((&results[0]["flagged"], &results[1]["flagged"]), (&json!(false), &json!(true)));
    assert_eq!(results[1]["category_applied_input_types"]["violence"], json!(["text", "image"]));
    app.finish().await;
}

#[tokio::test]
async fn pictures_come_inside_the_answer_or_as_addresses() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let body = json!({ "model": "gpt-image-1", "prompt": "a fox", "n": 2, "quality": "low", "size": "1536x1024", "moderation": "low" });
    let inline = ask(&app, &alice, "/v1/images/generations", body).await;
    assert_eq!(inline.status, StatusCode::OK, "{}", inline.json);
    assert_eq!(alice.tokens().await, (100_000 - 2 * 1800, 0));
    assert_eq!((&inline.json["size"], &inline.json["quality"]), (&json!("1536x1024"), &json!("low")));
    assert!(
        inline.json["usage"]["output_tokens"].as_u64().is_some_and(|count| count > 0),
        "{}",
        inline.json["usage"]
    );
    let data = inline.json["data"].as_array().expect("pictures");
    assert_eq!(data.len(), 2);
    for image in data {
        let bytes = BASE64_STANDARD.decode(image["b64_json"].as_str().expect("base64")).expect("base64");
        let picture = image::load_from_memory(&bytes).expect("a picture");
        assert_eq!((picture.width(), picture.height()), (1536, 1024));
    }
    let body = json!({ "model": "dall-e-3", "prompt": "a hen", "style": "vivid" });
    let found = ask(&app, &alice, "/v1/images/generations", body).await;
    let url = found.json["data"][0]["url"].as_str().unwrap_or_else(|| panic!("an address: {}", found.json));
    let bytes = app.http.get(url).send().await.expect("fetch").bytes().await.expect("bytes");
    image::load_from_memory(&bytes).expect("a picture");
    let body = json!({ "model": "nano-banana", "prompt": "a cow", "size": "1792x1024", "response_format": "b64_json" });
    let wide = ask(&app, &alice, "/v1/images/generations", body).await;
    assert_eq!(wide.status, StatusCode::OK, "{}", wide.json["error"]);
    let job = alice.get("/v1/jobs?model=nano-banana").await.json["data"][0].clone();
    assert_eq!(job["input"]["aspect_ratio"], "16:9", "the size in the words of the model");
    app.finish().await;
}

#[tokio::test]
async fn a_picture_is_a_file_of_the_kind_that_was_asked_for_and_may_have_no_background() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let more = json!({ "output_format": "jpeg", "output_compression": 60, "background": "auto" });
    let body = with(json!({ "model": "gpt-image-1", "prompt": "a fox", "quality": "low" }), more);
    let drawn = ask(&app, &alice, "/v1/images/generations", body).await;
    assert_eq!(drawn.status, StatusCode::OK, "{}", drawn.json["error"]);
    assert_eq!(drawn.json["output_format"], "jpeg");
    assert_eq!(image::guess_format(&first_picture(&drawn)).expect("a picture"), image::ImageFormat::Jpeg);
    let job = alice.get("/v1/jobs").await.json["data"][0].clone();
    assert_eq!(job["output"]["files"][0]["mime_type"], "image/jpeg");
    let said = |field: &str| job["input"][field].clone();
    assert_eq!((said("output_compression"), said("background")), (json!(60), Value::Null));

    let form = Form::new()
        .text("model", "gpt-image-1")
        .text("prompt", "without the snow")
        .text("quality", "low")
        .text("output_format", "webp")
        .text("output_compression", "80")
        .text("background", "transparent")
        .part("image", picture(64, 64));
    let edited = send(&app, &alice, "/v1/images/edits", form).await;
    assert_eq!(edited.status, StatusCode::OK, "{}", edited.json["error"]);
    assert_eq!(
        (&edited.json["output_format"], &edited.json["background"]),
        (&json!("webp"), &json!("transparent"))
    );
    let bytes = first_picture(&edited);
    assert_eq!(image::guess_format(&bytes).expect("a picture"), image::ImageFormat::WebP);
    let picture = image::load_from_memory(&bytes).expect("a picture").into_rgba8();
    assert_eq!(picture.get_pixel(0, 0).0[3], 0, "nothing is behind it");
    app.finish().await;
}

/// The first picture inside an answer.
fn first_picture(answer: &Answer) -> Vec<u8> {
    let data = answer.json["data"][0]["b64_json"].as_str().expect("base64");
    BASE64_STANDARD.decode(data).expect("base64")
}

#[tokio::test]
async fn a_picture_is_changed_by_the_model_that_edits() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let form = Form::new()
        .text("model", "gpt-image-1")
        .text("prompt", "redder")
        .text("n", "1")
        .text("quality", "low")
        .text("size", "auto")
        .part("image[]", picture(256, 256))
        .part("mask", picture(256, 256));
    let answer = send(&app, &alice, "/v1/images/edits", form).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    let bytes = BASE64_STANDARD.decode(answer.json["data"][0]["b64_json"].as_str().expect("base64"));
    image::load_from_memory(&bytes.expect("base64")).expect("a picture");
    assert_eq!(alice.tokens().await, (100_000 - 1800, 0));
    let job = alice.get("/v1/jobs").await.json["data"][0].clone();
    assert_eq!(job["model"], "gpt-image-1-edit");
    for field in ["image", "mask"] {
        assert!(
            job["input"][field].as_str().is_some_and(|file| file.starts_with("file_")),
            "{}",
            job["input"]
        );
    }
    assert_eq!(uploads(&alice).await, 2, "what was sent in are uploads like others");
    app.finish().await;
}

#[tokio::test]
async fn files_of_a_request_that_comes_to_nothing_are_thrown_away() {
    let app = TestApp::new().await;
    let alice = app.account(1000).await;
    let form = || Form::new().text("model", "gpt-image-1").text("prompt", "x").text("quality", "low");
    let two = form().part("image[]", picture(8, 8)).part("image[]", picture(8, 8));
    let cases = [
        (two, (400, "unsupported_value", "image")),
        (form().part("image", picture(8, 8)), (402, "insufficient_quota", "none")),
        (form().text("size", "7x7").part("image", picture(8, 8)), (400, "invalid_input", "size")),
        (
            form().part("image", Part::bytes(b"no picture".to_vec()).file_name("fox.png")),
            (400, "invalid_input_file", "image"),
        ),
        (form(), (400, "invalid_input", "image")),
        (
            Form::new().text("model", "dall-e-3").part("image", picture(8, 8)),
            (404, "model_not_found", "model"),
        ),
    ];
    for (form, expected) in cases {
        let answer = send(&app, &alice, "/v1/images/edits", form).await;
        assert_eq!(answer.error(), expected, "{}", answer.json);
        assert_eq!(uploads(&alice).await, 0, "{expected:?}");
    }
    assert_eq!(app.storage.list("uploads/", None).await.expect("list"), Vec::<String>::new());
    assert_eq!(alice.tokens().await, (1000, 0));
    app.finish().await;
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_in_the_words_of_the_request() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let picture = |more: Value| with(json!({ "model": "gpt-image-1", "prompt": "x" }), more);
    let speech = |more: Value| with(json!({ "model": "tts-1", "voice": "alloy", "input": "x" }), more);
    let film = |more: Value| with(json!({ "prompt": "x" }), more);
    let embedding = |more: Value| with(json!({ "model": "text-embedding-3-small" }), more);
    let cases = [
        ("/v1/embeddings", embedding(json!({ "input": [1, 2] })), (400, "unsupported_value", "input")),
        ("/v1/embeddings", embedding(json!({ "input": [[1], [2]] })), (400, "unsupported_value", "input")),
        ("/v1/embeddings", embedding(json!({})), (400, "invalid_input", "input")),
        ("/v1/embeddings", json!({ "input": "x" }), (400, "missing_field", "model")),
        ("/v1/embeddings", json!({ "model": "ada", "input": "x" }), (404, "model_not_found", "model")),
        ("/v1/embeddings", json!({ "model": "gpt-4o", "input": "x" }), (404, "model_not_found", "model")),
        (
            "/v1/embeddings",
            embedding(json!({ "input": "x", "encoding_format": "hex" })),
            (400, "invalid_value", "encoding_format"),
        ),
        (
            "/v1/moderations",
            json!({ "input": [{ "type": "image_url" }] }),
            (400, "unsupported_value", "input"),
        ),
        ("/v1/images/generations", picture(json!({ "size": "7x7" })), (400, "invalid_input", "size")),
        ("/v1/images/generations", picture(json!({ "n": 9 })), (400, "invalid_input", "n")),
        ("/v1/images/generations", picture(json!({ "stream": true })), (400, "unsupported_value", "stream")),
        (
            "/v1/images/generations",
            json!({ "model": "dall-e-3", "prompt": "x", "background": "transparent" }),
            (400, "unsupported_value", "background"),
        ),
        (
            "/v1/images/generations",
            json!({ "model": "nano-banana", "prompt": "x", "output_format": "webp" }),
            (400, "unsupported_value", "output_format"),
        ),
        (
            "/v1/images/generations",
            picture(json!({ "background": "transparent", "output_format": "jpeg" })),
            (400, "invalid_value", "background"),
        ),
        (
            "/v1/images/generations",
            picture(json!({ "output_format": "gif" })),
            (400, "invalid_input", "output_format"),
        ),
        (
            "/v1/images/generations",
            picture(json!({ "output_compression": 101 })),
            (400, "invalid_input", "output_compression"),
        ),
        (
            "/v1/images/generations",
            picture(json!({ "response_format": "svg" })),
            (400, "invalid_value", "response_format"),
        ),
        (
            "/v1/images/generations",
            json!({ "model": "dall-e-3", "prompt": "x", "n": 2 }),
            (400, "unsupported_value", "n"),
        ),
        (
            "/v1/images/generations",
            json!({ "model": "nano-banana", "prompt": "x", "size": "9x900" }),
            (400, "invalid_size", "size"),
        ),
        ("/v1/audio/speech", speech(json!({ "voice": "nobody" })), (400, "invalid_input", "voice")),
        (
            "/v1/audio/speech",
            speech(json!({ "response_format": "m4a" })),
            (400, "invalid_input", "response_format"),
        ),
        (
            "/v1/audio/speech",
            speech(json!({ "instructions": "softly" })),
            (400, "unsupported_parameter", "instructions"),
        ),
        ("/v1/audio/speech", speech(json!({ "voice": { "id": null } })), (400, "invalid_input", "voice")),
        ("/v1/audio/speech", speech(json!({ "input": "" })), (400, "invalid_input", "input")),
        (
            "/v1/audio/speech",
            speech(json!({ "stream_format": "sse" })),
            (400, "unsupported_value", "stream_format"),
        ),
        ("/v1/audio/transcriptions", json!({ "model": "whisper-1" }), (400, "invalid_input", "file")),
        (
            "/v1/audio/transcriptions",
            json!({ "model": "whisper-1", "stream": true }),
            (400, "unsupported_value", "stream"),
        ),
        ("/v1/videos", film(json!({ "seconds": "5" })), (400, "invalid_input", "seconds")),
        ("/v1/videos", film(json!({ "size": "1792x1024" })), (400, "invalid_size", "size")),
        ("/v1/videos", film(json!({ "model": "sora-9" })), (404, "model_not_found", "model")),
        (
            "/v1/videos",
            film(json!({ "model": "midjourney-video", "seconds": "4" })),
            (400, "unsupported_parameter", "seconds"),
        ),
        (
            "/v1/videos",
            film(json!({ "input_reference": { "url": "x" } })),
            (400, "invalid_value", "input_reference"),
        ),
        (
            "/v1/videos",
            film(json!({ "input_reference": { "image_url": null } })),
            (400, "invalid_value", "input_reference"),
        ),
        (
            "/v1/videos",
            film(json!({ "input_reference": "fox.png" })),
            (400, "invalid_input", "input_reference"),
        ),
    ];
    for (path, body, expected) in cases {
        let answer = alice.post(path, body.clone()).await;
        assert_eq!(answer.error(), expected, "{path} {body}: {}", answer.json);
        assert!(
            !answer.json["error"]["message"].as_str().unwrap_or_default().contains("input."),
            "{}",
            answer.json
        );
    }
    assert_eq!(alice.tokens().await, (1_000_000, 0));
    app.finish().await;
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
    body
}

#[tokio::test]
async fn a_job_that_does_not_succeed_is_told_in_openais_words_and_costs_nothing() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let speech = |text: &str| json!({ "model": "tts-1", "voice": "alloy", "input": text });
    let refused = ask(&app, &alice, "/v1/audio/speech", speech("no [[sim:refuse]]")).await;
    assert_eq!(refused.error().0, 400, "{}", refused.json);
    assert_eq!(refused.json["error"]["code"], "content_policy_violation");
    let failed = ask(&app, &alice, "/v1/audio/speech", speech("out [[sim:fail=503]]")).await;
    assert_eq!(failed.error().0, 503, "{}", failed.json);
    assert_eq!(alice.tokens().await, (10_000, 0));
    app.providers_forgive();
    let body = json!({ "model": "gpt-image-1", "prompt": "no [[sim:refuse]]", "quality": "low" });
    let drawn = ask(&app, &alice, "/v1/images/generations", body).await;
    assert_eq!(drawn.error().0, 400, "{}", drawn.json);
    assert_eq!(alice.tokens().await, (10_000, 0));
    app.finish().await;
}

#[tokio::test]
async fn a_repeat_while_the_first_is_made_waits_for_the_same_job() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let body = json!({ "model": "gpt-4o", "messages": [{ "role": "user", "content": "once" }] });
    let send =
        || alice.send(Method::POST, "/v1/chat/completions", &[("Idempotency-Key", "chat-1")], Some(&body));
    let (first, second) = app.worked(async { tokio::join!(send(), send()) }).await;
    assert_eq!((first.status, second.status), (StatusCode::OK, StatusCode::OK), "{}", second.json);
    assert_eq!(first.headers["x-kiln-job"], second.headers["x-kiln-job"]);
    assert_eq!(first.json, second.json);
    let replayed = [&first, &second].map(|answer| answer.headers.contains_key("idempotent-replayed"));
    assert!(replayed[0] != replayed[1], "one of them made it");
    assert_eq!(alice.tokens().await, (9000, 0), "paid once");
    app.finish().await;
}

#[tokio::test]
async fn models_are_listed_in_openais_form() {
    let app = TestApp::new().await;
    let alice = app.account(0).await;
    let listed = alice.get("/v1/models").await.json;
    assert_eq!(listed["object"], "list");
    for model in listed["data"].as_array().expect("models") {
        let is_whole = model["id"].is_string() && model["object"] == "model" && model["owned_by"].is_string();
        assert!(is_whole && model["created"].as_i64().is_some_and(|at| at > 0), "{model}");
    }
    let one = alice.get("/v1/models/gpt-image-1").await.json;
    assert_eq!((&one["id"], &one["object"]), (&json!("gpt-image-1"), &json!("model")));
    assert_eq!(alice.get("/v1/models/gpt-0").await.error(), (404, "model_not_found", "model"));
    for list in ["/v1/models", "/v1/plans"] {
        for query in ["limit", "after", "colour"] {
            let refused = alice.get(&format!("{list}?{query}=1")).await;
            assert_eq!(refused.error(), (400, "unknown_query", query), "{list} comes as a whole");
        }
    }
    app.finish().await;
}
