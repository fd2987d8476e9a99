//! Speech, whose answer is the sound itself, and recordings that are written down.

use reqwest::{
    Method, StatusCode,
    multipart::{Form, Part},
};
use serde_json::{Value, json};

use super::{fetch, header, request, send, uploads};
use crate::support::{Account, Answer, TestApp};

/// Two seconds of silence: 16 kHz, 16 bits, mono.
fn recording() -> Vec<u8> {
    let samples = [0_u8; 64_000];
    let length = u32::try_from(samples.len()).expect("short");
    let mut bytes = [&b"RIFF"[..], &(36 + length).to_le_bytes(), b"WAVEfmt ", &16_u32.to_le_bytes()].concat();
    bytes.extend([1_u16, 1].iter().flat_map(|field| field.to_le_bytes()));
    bytes.extend([16_000_u32, 32_000].iter().flat_map(|field| field.to_le_bytes()));
    bytes.extend([2_u16, 16].iter().flat_map(|field| field.to_le_bytes()));
    [&bytes[..], b"data", &length.to_le_bytes(), &samples].concat()
}

#[tokio::test]
async fn speech_is_the_sound_and_nothing_around_it() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    for (format, kind, start) in [
        (None, "audio/mpeg", &b"ID3"[..]),
        (Some("wav"), "audio/wav", &b"RIFF"[..]),
        (Some("pcm"), "audio/pcm", &b""[..]),
    ] {
        let body = json!({ "model": "tts-1", "voice": { "id": "nova" }, "input": "good morning", "response_format": format, "instructions": "" });
        let asked = request(&alice, Method::POST, "/v1/audio/speech").json(&body);
        let response = fetch(&app, asked.header("accept", "application/octet-stream")).await;
        assert_eq!((response.status(), header(&response, "content-type")), (StatusCode::OK, kind));
        let (length, job) =
            (header(&response, "content-length").to_owned(), header(&response, "x-kiln-job").to_owned());
        let sound = response.bytes().await.expect("the sound");
        assert_eq!(length, sound.len().to_string());
        assert!(sound.starts_with(start) || start == b"ID3" && sound[0] == 0xFF, "{kind}: {:?}", &sound[..8]);
        let job = alice.get(&format!("/v1/jobs/{job}")).await.json;
        assert_eq!((&job["input"]["voice"], &job["input"]["text"]), (&json!("nova"), &json!("good morning")));
    }
    assert_eq!(alice.tokens().await, (10_000 - 3 * 2000, 0));
    app.finish().await;
}

async fn transcribe(app: &TestApp, alice: &Account, more: &[(&'static str, &'static str)]) -> Answer {
    let file = Part::bytes(recording()).file_name("talk.wav");
    let form = Form::new().text("model", "whisper-1").part("file", file);
    let form = more.iter().fold(form, |form, (name, value)| form.text(*name, *value));
    send(app, alice, "/v1/audio/transcriptions", form).await
}

#[tokio::test]
async fn a_recording_is_written_down_in_every_form() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let plain =
        transcribe(&app, &alice, &[("language", "en"), ("prompt", "kilns"), ("temperature", "0.2")]).await;
    assert_eq!(plain.status, StatusCode::OK, "{}", plain.json);
    assert!(plain.json["text"].as_str().is_some_and(|text| text.contains("transcript")), "{}", plain.json);
    assert_eq!(plain.json["usage"], json!({ "type": "duration", "seconds": 2 }));
    assert_eq!(alice.tokens().await, (9000, 0));
    assert_eq!(app.simulator.paid("kilns").await, 1, "the prompt came through");
    let times = [
        ("response_format", "verbose_json"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
    ];
    let verbose = transcribe(&app, &alice, &times).await.json;
    assert_eq!((&verbose["task"], &verbose["duration"]), (&json!("transcribe"), &json!(2)), "{verbose}");
    assert_eq!(
        (&verbose["segments"][0]["end"], &verbose["words"][0]["end"]),
        (&json!(2), &json!(2)),
        "{verbose}"
    );
    assert!(verbose["words"][0]["word"].is_string() && verbose["language"].is_string(), "{verbose}");
    for (format, sign) in [("text", "transcript"), ("srt", "00:00:02,000"), ("vtt", "WEBVTT")] {
        let bare = transcribe(&app, &alice, &[("response_format", format)]).await;
        assert_eq!(bare.headers["content-type"], "text/plain; charset=utf-8", "{format}");
        assert!(bare.json.as_str().is_some_and(|text| text.contains(sign)), "{format}: {}", bare.json);
    }
    let odd = transcribe(&app, &alice, &[("response_format", "diarized_json")]).await;
    assert_eq!(odd.error(), (400, "invalid_input", "response_format"), "{}", odd.json);
    let cut = transcribe(&app, &alice, &[("chunking_strategy[type]", "server_vad")]).await;
    assert_eq!(cut.error(), (400, "unsupported_value", "chunking_strategy"), "{}", cut.json);
    let sure = transcribe(&app, &alice, &[("include[]", "logprobs")]).await;
    assert_eq!(sure.error(), (400, "unsupported_parameter", "include"), "{}", sure.json);
    let untimed = transcribe(&app, &alice, &[("timestamp_granularities[]", "word")]).await;
    assert_eq!(untimed.error(), (400, "invalid_value", "timestamp_granularities"), "{}", untimed.json);
    assert_eq!(uploads(&alice).await, 5, "one for each that was made");
    app.finish().await;
}

#[tokio::test]
async fn a_recording_that_is_too_long_is_refused_before_it_is_kept() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let mut long = recording();
    long.resize(25 * 1024 * 1024 + 1, 0);
    let form = Form::new().text("model", "whisper-1").part("file", Part::bytes(long).file_name("talk.wav"));
    let answer = send(&app, &alice, "/v1/audio/transcriptions", form).await;
    assert_eq!(answer.error(), (413, "file_too_large", "file"), "{}", answer.json);
    assert_eq!(uploads(&alice).await, 0);
    let text = "x".repeat(600 * 1024);
    let form = Form::new().text("model", "whisper-1").text("prompt", text);
    let answer = send(&app, &alice, "/v1/audio/transcriptions", form).await;
    assert_eq!(answer.error(), (400, "invalid_form", "none"), "{}", answer.json);
    app.finish().await;
}

#[tokio::test]
async fn a_repeat_is_answered_from_the_first_job_and_its_file_is_not_kept() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let ask =
        async |prompt: &'static str, (name, value): (&'static str, &'static str)| -> (u16, String, Value) {
            let file = Part::bytes(recording()).file_name("talk.wav");
            let form = Form::new().text("model", "whisper-1").text("prompt", prompt).part("file", file);
            let asked = request(&alice, Method::POST, "/v1/audio/transcriptions").multipart(form);
            let response = fetch(&app, asked.header(name, value)).await;
            let (status, job) = (response.status().as_u16(), header(&response, "x-kiln-job").to_owned());
            (status, job, response.json().await.expect("JSON"))
        };
    let key = ("idempotency-key", "once");
    let first = ask("kilns", key).await;
    let again = ask("kilns", key).await;
    assert_eq!((first.0, &first), (200, &again), "the same key");
    assert_eq!((alice.tokens().await, uploads(&alice).await), ((9000, 0), 1));
    let (status, _, refusal) = ask("ovens", key).await;
    assert_eq!((status, &refusal["error"]["code"]), (422, &json!("idempotency_key_reused")));
    let first = ask("ovens", ("x-stainless-retry-count", "0")).await;
    let again = ask("ovens", ("x-stainless-retry-count", "1")).await;
    assert_eq!(first, again, "a client that repeats by itself");
    assert_eq!((alice.tokens().await, uploads(&alice).await), ((8000, 0), 2));
    app.finish().await;
}
