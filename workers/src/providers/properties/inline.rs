//! Adapters whose vendors put the result into their answer: Gemini and OpenAI.

use base64::{Engine, prelude::BASE64_STANDARD};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::{
    Station, Verb, call, config, gemini, is_nothing_begun,
    mutation::{changes, mutate},
    openai, recording,
    responder::{Responder, http, json as wire},
};
use crate::providers::{Artifact, ErrorClass, Step};

/// Words of finish reasons, errors and media types.
const WORDS: [&str; 14] = [
    "STOP",
    "stop",
    "SAFETY",
    "IMAGE_SAFETY",
    "content_filter",
    "length",
    "NO_IMAGE",
    "tool_calls",
    "image/jpeg",
    "text/plain",
    "insufficient_quota",
    "RESOURCE_EXHAUSTED",
    "rate_limit_exceeded",
    "sk-proj-0123456789",
];

/// What OpenAI's and Google's errors would quote.
const KEY: &str = "sk-proj-0123456789abcdef";

/// Gemini's answer with a picture.
pub(super) fn picture() -> Value {
    json!({
        "candidates": [{
            "content": {"role": "model", "parts": [
                {"text": "here"}, {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
            ]},
            "finishReason": "STOP", "index": 0,
        }],
        "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 1290, "totalTokenCount": 1294},
        "modelVersion": "gemini-2.5-flash-image", "responseId": "r1",
    })
}

/// OpenAI's answer to a chat.
pub(super) fn completion() -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "gpt-4o-mini",
        "choices": [{
            "index": 0, "finish_reason": "stop", "logprobs": null,
            "message": {"role": "assistant", "content": "hello", "refusal": null},
        }],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
    })
}

/// OpenAI's answer to a recording.
pub(super) fn transcript() -> Value {
    json!({"text": "hello", "language": "english", "duration": 1.5, "usage": {"type": "duration", "seconds": 2}})
}

#[test]
fn a_picture_of_gemini_is_what_its_answer_holds() {
    let responder = Responder::new();
    let call = call("image.generate", json!({"prompt": "a fox"}));
    let station = Station::new(&responder, &gemini::VENDOR, Verb::Submit, call, picture());
    proptest!(config(600), |(changes in changes(&WORDS))| {
        let text = mutate(&station.good, &changes);
        let said: Value = serde_json::from_str(&text).unwrap_or_default();
        match station.ask(&responder, &[wire(&text)]) {
            Ok(Step::Done(made)) => {
                for file in &made.files {
                    let Artifact::Inline(bytes) = file else { panic!("pictures come in the answer") };
                    prop_assert!(text.contains(&BASE64_STANDARD.encode(bytes)), "{text}");
                }
                prop_assert!(!made.files.is_empty(), "{text}");
            }
            Ok(Step::Pending(_)) => prop_assert!(false, "{text}"),
            Err(error) => prop_assert!(!is_nothing_begun(error.class), "{said}: {error}"),
        }
    });
}

#[test]
fn a_text_of_openai_is_what_its_answer_holds() {
    let responder = Responder::new();
    let chat = call("text.chat", json!({"prompt": "hi"}));
    let heard = call("audio.transcribe", json!({"audio": "file_1"})).with_files(vec![recording()]);
    let stations = [
        Station::new(&responder, &openai::VENDOR, Verb::Submit, chat, completion()),
        Station::new(&responder, &openai::VENDOR, Verb::Submit, heard, transcript()),
    ];
    proptest!(config(600), |(nth in 0..2_usize, changes in changes(&WORDS))| {
        let text = mutate(&stations[nth].good, &changes);
        let said: Value = serde_json::from_str(&text).unwrap_or_default();
        let told = [&said["choices"][0]["message"]["content"], &said["text"]][nth];
        match stations[nth].ask(&responder, &[wire(&text)]) {
            Ok(Step::Done(made)) => prop_assert_eq!(made.text.as_deref(), Some(told.as_str().unwrap_or_default()), "{}", text),
            Ok(Step::Pending(_)) => prop_assert!(false, "{text}"),
            Err(error) => prop_assert!(!is_nothing_begun(error.class), "{text}: {error}"),
        }
    });
}

#[test]
fn bare_bytes_are_sound_unless_they_say_otherwise() {
    let responder = Responder::new();
    let speech = call("audio.speech", json!({"text": "hi"}));
    let station = Station::new(&responder, &openai::VENDOR, Verb::Submit, speech, json!({}));
    let said = [
        "audio/mpeg",
        "application/octet-stream",
        "",
        "text/html; charset=utf-8",
        "Application/JSON",
        "TEXT/plain",
    ];
    proptest!(config(200), |(nth in 0..said.len(), bytes in vec(any::<u8>(), 0..100))| {
        let made = station.ask(&responder, &[http(200, said[nth], &bytes)]);
        match made {
            Ok(Step::Done(made)) => {
                let [Artifact::Inline(found)] = &made.files[..] else { panic!("one file, in the answer") };
                prop_assert!(nth < 3 && *found == bytes && !bytes.is_empty());
            }
            Ok(Step::Pending(_)) => prop_assert!(false),
            Err(error) if nth < 3 => prop_assert!(error.class == ErrorClass::Broken && bytes.is_empty(), "{error}"),
            Err(error) => prop_assert_eq!(error.class, ErrorClass::Ambiguous),
        }
    });
}

#[test]
fn subtitles_are_text_and_no_page() {
    let responder = Responder::new();
    let heard =
        call("audio.transcribe", json!({"audio": "file_1", "format": "srt"})).with_files(vec![recording()]);
    let station = Station::new(&responder, &openai::VENDOR, Verb::Submit, heard, json!({}));
    let page = proptest::sample::select(
        &["<!DOCTYPE html>", "<HTML>", "\u{feff}\n <html lang=en>", "<!-- x -->"][..],
    );
    let body = prop_oneof![
        vec(any::<u8>(), 0..100),
        any::<String>().prop_map(String::into_bytes),
        page.prop_map(|page| page.as_bytes().to_vec())
    ];
    proptest!(config(300), |(said in proptest::sample::select(&["text/plain; charset=utf-8", "text/html", "application/json"][..]), body in body)| {
        let text = String::from_utf8(body.clone()).ok();
        match station.ask(&responder, &[http(200, said, &body)]) {
            Ok(Step::Done(made)) => {
                prop_assert!(said.starts_with("text/plain") && made.text == text);
                let start = text.unwrap_or_default().trim_start_matches('\u{feff}').trim().to_lowercase();
                prop_assert!(!start.starts_with("<html") && !start.starts_with("<!"), "{start}");
            }
            Ok(Step::Pending(_)) => prop_assert!(false),
            Err(error) => prop_assert_eq!(error.class, ErrorClass::Ambiguous),
        }
    });
}

#[test]
fn what_is_said_of_a_mangled_answer_is_short_and_tells_no_key() {
    let responder = Responder::new();
    let stations = super::stations(&responder);
    proptest!(config(800), |(nth in any::<proptest::sample::Index>(), changes in changes(&WORDS))| {
        let station = nth.get(&stations);
        let answers = [station.mangled(&changes), wire(&station.next.to_string())];
        if let Err(error) = station.ask(&responder, &answers) {
            prop_assert!(!error.message.contains("sk-proj") && error.message.chars().count() < 400, "{station:?}: {error}");
        }
    });
}

#[test]
fn an_error_is_never_a_result_and_never_tells_a_key() {
    let responder = Responder::new();
    let stations = super::stations(&responder);
    let google = json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": format!("the key={KEY} is bad"), "details": [
        {"violations": [{"quotaId": "PerDay"}]}, {"retryDelay": "23s"}, {"reason": "API_KEY_INVALID"},
    ]}});
    let openai = json!({"error": {"message": format!("Incorrect API key: {KEY}."), "type": KEY, "param": null, "code": "invalid_api_key"}});
    let kling =
        json!({"code": 1000, "message": format!("{{\"key\":\"{KEY}\"}}"), "request_id": "r", "data": null});
    let minimax =
        json!({"task_id": "", "base_resp": {"status_code": 2049, "status_msg": format!("key:{KEY}")}});
    let errors = [google, openai, kling, minimax];
    proptest!(config(600), |(
        nth in any::<proptest::sample::Index>(),
        which in 0..4_usize,
        status in 400..600_u16,
        changes in changes(&WORDS),
    )| {
        let text = mutate(&errors[which], &changes);
        let error = nth.get(&stations).ask(&responder, &[http(status, "application/json", text.as_bytes())]);
        let error = error.unwrap_err();
        prop_assert!(!error.message.contains("sk-proj") && error.message.chars().count() < 400, "{text}: {error}");
    });
}
