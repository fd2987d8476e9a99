//! Chat, speech and transcription as an OpenAI client meets them.

use std::time::{Duration, Instant};

use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::{House, told};
use crate::{content::audio, seed::Seed};

const CHAT: &str = "/openai/v1/chat/completions";
const SPEECH: &str = "/openai/v1/audio/speech";
const TRANSCRIPTION: &str = "/openai/v1/audio/transcriptions";

fn chat(prompt: &str) -> Value {
    json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": prompt }] })
}

#[tokio::test]
async fn a_chat_answers_the_last_user_message() {
    let house = House::open().await;
    let mut body = chat("why is the sky blue");
    body["n"] = json!(2);
    let (status, answer) = house.ask(CHAT, body).await;
    assert_eq!(status, 200);
    assert_eq!(answer["choices"].as_array().unwrap().len(), 2);
    assert!(answer["choices"][0]["message"]["content"].as_str().unwrap().contains("why is the sky blue"));
    assert_ne!(answer["choices"][0]["message"], answer["choices"][1]["message"]);
    let usage = &answer["usage"];
    assert_eq!(
        usage["total_tokens"].as_u64().unwrap(),
        usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap()
    );
    let mut short = chat("why is the sky blue");
    short["max_completion_tokens"] = json!(5);
    let (_, answer) = house.ask(CHAT, short).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 5);
}

#[tokio::test]
async fn a_streamed_chat_is_the_same_text_in_pieces() {
    let house = House::open().await;
    let mut body = chat("tell me");
    body["stream"] = json!(true);
    body["stream_options"] = json!({ "include_usage": true });
    let text = house.post(CHAT).json(&body).send().await.unwrap().text().await.unwrap();
    let mut events: Vec<_> = text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    assert_eq!(events.pop(), Some("[DONE]"));
    let events: Vec<Value> = events.into_iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let pieces = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    assert!(pieces.collect::<String>().contains("you wrote \"tell me\""));
    assert!(events.last().unwrap()["usage"]["total_tokens"].as_u64().unwrap() > 0);
    assert_eq!(events[events.len() - 2]["choices"][0]["finish_reason"], "stop");

    body["messages"][0]["content"] = json!("tell me [[sim:stream=error]]");
    let text = house.post(CHAT).json(&body).send().await.unwrap().text().await.unwrap();
    assert!(text.contains("\"error\"") && !text.contains("[DONE]"));
}

#[tokio::test]
async fn a_chat_request_is_read_strictly() {
    let house = House::open().await;
    let faulty = [
        json!({ "messages": [{ "role": "user", "content": "hi" }] }),
        json!({ "model": "gpt-4o-mini" }),
        json!({ "model": "gpt-4o-mini", "messages": [] }),
        json!({ "model": "gpt-4o-mini", "messages": [{ "role": "robot", "content": "hi" }] }),
        json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": 5 }] }),
        json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": "hi" }], "temperature": "hot" }),
        json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": "hi" }], "max_token": 5 }),
    ];
    for body in faulty {
        let (status, answer) = house.ask(CHAT, body).await;
        assert_eq!((status, &answer["error"]["type"]), (400, &json!("invalid_request_error")));
    }
    let plain = house.post(CHAT).header("content-type", "text/plain").body(chat("hi").to_string());
    assert_eq!(plain.send().await.unwrap().status(), 400);
    let wrong = house.client.post(format!("{}{CHAT}", house.root)).bearer_auth("wrong").json(&chat("hi"));
    let (status, answer) = told(wrong.send().await.unwrap()).await;
    assert_eq!((status, &answer["error"]["code"]), (401, &json!("invalid_api_key")));
    assert_eq!(house.accepted("hi").await, 0);
}

#[tokio::test]
async fn a_vendor_says_no_in_its_own_words() {
    let house = House::open().await;
    for (fault, status, code) in [
        ("refuse", 400, "content_policy_violation"),
        ("rate_limit", 429, "rate_limit_exceeded"),
        ("quota", 429, "insufficient_quota"),
        ("auth", 401, "invalid_api_key"),
        ("bad_input", 400, "invalid_value"),
        ("bad_input=model", 404, "model_not_found"),
    ] {
        let (got, answer) = house.ask(CHAT, chat(&format!("hi [[sim:{fault}]]"))).await;
        assert_eq!((got, &answer["error"]["code"]), (status, &json!(code)), "{fault}");
    }
    assert_eq!(house.ask(CHAT, chat("[[sim:fail=503]]")).await.0, 503);
    assert_eq!(house.ask(CHAT, chat("[[sim:fail]]")).await.1["error"]["type"], "server_error");
    assert_eq!(house.accepted("sim").await, 0);
}

#[tokio::test]
async fn a_rate_limit_hints_in_each_form() {
    let house = House::open().await;
    let header = async |value: &str, name: &str| {
        let body = chat(&format!("[[sim:rate_limit={value}]]"));
        let response = house.post(CHAT).json(&body).send().await.unwrap();
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(header("5", "retry-after").await.as_deref(), Some("5"));
    assert_eq!(header("50ms", "retry-after-ms").await.as_deref(), Some("50"));
    assert!(header("date:5", "retry-after").await.unwrap().ends_with(" GMT"));
    assert_eq!(header("none", "retry-after").await, None);
}

#[tokio::test]
async fn a_dropped_answer_is_a_cut_connection_and_a_billed_submit() {
    let house = House::open().await;
    let error = house.post(CHAT).json(&chat("one [[sim:drop]]")).send().await.unwrap_err();
    assert!(error.is_request() && !error.is_timeout(), "{error:?}");
    assert_eq!(house.accepted("one").await, 1);
    house.post(CHAT).json(&chat("two [[sim:drop_before]]")).send().await.unwrap_err();
    assert_eq!(house.accepted("two").await, 0);
    let (_, requests) = house.look("/control/requests?provider=openai").await;
    assert_eq!(requests["submit"], 2);
}

#[tokio::test]
async fn an_answer_can_be_spoiled_on_its_way() {
    let house = House::open().await;
    let (status, body) = house.ask(CHAT, chat("[[sim:malformed]]")).await;
    assert!(status == 200 && body.as_str().is_some_and(|text| text.starts_with('{')), "{body}");
    let (status, body) = house.ask(CHAT, chat("[[sim:html]]")).await;
    assert!(status == 502 && body.as_str().is_some_and(|text| text.contains("<html>")));
    let response = house.post(CHAT).json(&chat("[[sim:truncated]]")).send().await.unwrap();
    assert!(response.content_length().is_some());
    response.bytes().await.unwrap_err();
    assert_eq!(house.ask(CHAT, chat("[[sim:empty]]")).await.1["choices"][0]["message"]["content"], "");
    assert_eq!(house.ask(CHAT, chat("[[sim:no_result]]")).await.1["choices"], json!([]));
    let start = Instant::now();
    house.ask(CHAT, chat("[[sim:slow=0.3]]")).await;
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_slow_answer_is_billed_even_if_nobody_waits_for_it() {
    let house = House::open().await;
    let request = house.post(CHAT).json(&chat("lazy [[sim:slow=5]]")).timeout(Duration::from_millis(200));
    assert!(request.send().await.unwrap_err().is_timeout());
    assert_eq!(house.accepted("lazy").await, 1);
    house.close().await;
}

#[tokio::test]
async fn speech_comes_in_three_formats_and_as_long_as_the_text() {
    let house = House::open().await;
    let speak = async |format: &str, input: &str| {
        let body = json!({ "model": "tts-1", "voice": "alloy", "input": input, "response_format": format });
        let response = house.post(SPEECH).json(&body).send().await.unwrap();
        let media_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        (response.status().as_u16(), media_type, response.bytes().await.unwrap())
    };
    let (status, media_type, short) = speak("mp3", "a short text").await;
    assert_eq!((status, media_type.as_str()), (200, "audio/mpeg"));
    let (.., long) = speak("mp3", &"a long text ".repeat(20)).await;
    assert!(long.len() > 10 * short.len());
    let (_, media_type, wav) = speak("wav", "a fox").await;
    assert_eq!(media_type, "audio/wav");
    assert_eq!(hound::WavReader::new(&wav[..]).unwrap().spec().sample_rate, 24_000);
    assert_eq!(speak("pcm", "a fox").await.1, "audio/pcm");
    assert_eq!(speak("flac", "a fox").await.0, 400);
    assert!(speak("mp3", "[[sim:empty]]").await.2.is_empty());
    assert!(speak("mp3", "[[sim:wrong_type]]").await.2.starts_with(b"<!DOCTYPE"));
    let (_, media_type, noise) = speak("mp3", "[[sim:corrupt]]").await;
    assert!(media_type == "audio/mpeg" && !noise.starts_with(b"ID3"));
    let voiceless = json!({ "model": "tts-1", "input": "a fox" });
    assert_eq!(house.ask(SPEECH, voiceless).await.1["error"]["param"], "voice");
}

#[tokio::test]
async fn a_recording_is_written_down_in_each_format() {
    let house = House::open().await;
    let wav = audio::wav(&Seed::of("a fox", "1"), 2500).unwrap();
    let transcribe = async |format: &str, file: Vec<u8>| {
        let form = Form::new()
            .text("model", "whisper-1")
            .text("response_format", format.to_owned())
            .part("file", Part::bytes(file).file_name("fox.wav"));
        told(house.post(TRANSCRIPTION).multipart(form).send().await.unwrap()).await
    };
    let (status, answer) = transcribe("json", wav.clone()).await;
    assert_eq!((status, &answer["usage"]), (200, &json!({ "type": "duration", "seconds": 3 })));
    assert!(answer["text"].as_str().unwrap().contains("fox.wav"));
    assert_eq!(transcribe("verbose_json", wav.clone()).await.1["segments"][0]["end"], 3);
    for (format, sign) in [("text", "fox.wav"), ("srt", "00:00:03,000"), ("vtt", "WEBVTT")] {
        let (_, answer) = transcribe(format, wav.clone()).await;
        assert!(answer.as_str().unwrap().contains(sign), "{answer}");
    }
    let timed = |format: &'static str| {
        Form::new()
            .text("model", "whisper-1")
            .text("response_format", format)
            .text("timestamp_granularities[]", "word")
            .part("file", Part::bytes(wav.clone()).file_name("fox.wav"))
    };
    let (_, answer) =
        told(house.post(TRANSCRIPTION).multipart(timed("verbose_json")).send().await.unwrap()).await;
    assert_eq!((&answer["words"][0]["word"], &answer["words"][0]["end"]), (&json!("This"), &json!(3)));
    let (status, _) = told(house.post(TRANSCRIPTION).multipart(timed("json")).send().await.unwrap()).await;
    assert_eq!(status, 400);
    assert_eq!(transcribe("json", Vec::new()).await.0, 400);
    assert_eq!(transcribe("json", b"no sound at all".to_vec()).await.0, 400);
    assert_eq!(transcribe("mp5", wav).await.0, 400);
    assert_eq!(house.ask(TRANSCRIPTION, json!({ "model": "whisper-1" })).await.0, 400);
}
