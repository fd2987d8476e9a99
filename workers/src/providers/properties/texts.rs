//! Adapters whose vendors put a text into their answer, or judge one: those who speak OpenAI's protocol, Perplexity's agents, Gemini,
//! and OpenAI's embeddings and moderation.

use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::{
    Call, Station, Verb, call, config, inline, is_nothing_begun,
    mutation::{changes, mutate},
    read,
    responder::{Responder, json as wire},
};
use crate::providers::{Step, deepseek, gemini, openai, openrouter, perplexity};

/// Words of finish reasons, states and kinds of what is in an answer.
const WORDS: [&str; 15] = [
    "stop",
    "STOP",
    "MAX_TOKENS",
    "length",
    "error",
    "SAFETY",
    "content_filter",
    "insufficient_system_resource",
    "tool_calls",
    "completed",
    "incomplete",
    "failed",
    "in_progress",
    "output_text",
    "message",
];

/// A vendor that answers with a text as a whole.
pub(super) struct Told {
    pub(super) station: Station,
    /// Which text an answer holds.
    text: fn(&Value) -> String,
    /// Whether it says that this is all of it.
    is_whole: fn(&Value) -> bool,
}

/// A chat with a model of this name.
pub(super) fn chat(upstream_model: &str) -> Call {
    Call { upstream_model: upstream_model.to_owned(), ..call("text.chat", json!({"prompt": "hi"})) }
}

/// The response of Perplexity's agents.
pub(super) fn response() -> Value {
    json!({
        "id": "resp_1", "object": "response", "status": "completed", "model": "perplexity/sonar", "error": null,
        "output": [
            {"type": "search_results", "results": [{"title": "A", "url": "https://a.example"}]},
            {"type": "message", "role": "assistant", "content": [
                {"type": "output_text", "text": "hello", "annotations": [{"type": "url_citation", "url": "https://a.example"}]},
            ]},
        ],
        "usage": {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11, "cost": {"currency": "USD", "total_cost": 0.0051}},
    })
}

/// Gemini's answer with a text.
pub(super) fn content() -> Value {
    json!({
        "candidates": [{
            "content": {"role": "model", "parts": [{"text": "hel"}, {"text": "lo"}]}, "finishReason": "STOP", "index": 0,
        }],
        "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 2, "totalTokenCount": 6},
    })
}

fn completion() -> Value {
    let mut good = inline::completion();
    good["usage"]["cost"] = json!({"total_cost": 0.0051});
    good["citations"] = json!(["https://a.example"]);
    good
}

/// OpenAI's answer to two texts that become vectors.
fn vectors() -> Value {
    json!({
        "object": "list", "model": "text-embedding-3-small", "usage": {"prompt_tokens": 4, "total_tokens": 4},
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.25, -0.5]},
            {"object": "embedding", "index": 1, "embedding": [0.125, 0.75]},
        ],
    })
}

/// OpenAI's answer to two texts that are judged.
fn judgements() -> Value {
    let judgement = |flagged: bool| json!({"flagged": flagged, "categories": {"hate": flagged}, "category_scores": {"hate": 0.5}});
    json!({"id": "modr-1", "model": "omni-moderation-latest", "results": [judgement(false), judgement(true)]})
}

/// Every vendor of texts, asked for one.
pub(super) fn told(responder: &Responder) -> Vec<Told> {
    let new = |vendor, call, good| Station::new(responder, vendor, Verb::Submit, call, good);
    let chats = [
        new(&openrouter::VENDOR, chat("a/b"), completion()),
        new(&deepseek::VENDOR, chat("deepseek-chat"), completion()),
        new(&perplexity::VENDOR, chat("sonar"), completion()),
    ];
    let mut told: Vec<_> = chats
        .into_iter()
        .map(|station| Told {
            station,
            text: |said| text_of(&said["choices"][0]["message"]["content"]),
            is_whole: |said| !text_of(&said["choices"][0]["finish_reason"]).is_empty(),
        })
        .collect();
    told.push(Told {
        station: new(&perplexity::VENDOR, chat("perplexity/sonar"), response()),
        text: |said| {
            let parts = items(&said["output"]).flat_map(|item| items(&item["content"]));
            parts.filter(|part| part["type"] == "output_text").map(|part| text_of(&part["text"])).collect()
        },
        is_whole: |said| said["status"] == "completed" || said["status"] == "incomplete",
    });
    told.push(Told {
        station: new(&gemini::VENDOR, chat("gemini-2.5-flash"), content()),
        text: |said| {
            items(&said["candidates"][0]["content"]["parts"]).map(|part| text_of(&part["text"])).collect()
        },
        is_whole: |said| {
            let reason = &said["candidates"][0]["finishReason"];
            reason == "STOP" || reason == "MAX_TOKENS"
        },
    });
    told
}

/// OpenAI, asked for vectors and for judgements.
pub(super) fn judged(responder: &Responder) -> [Station; 2] {
    let both = |task| call(task, json!({"input": ["a", "b"]}));
    [("text.embed", vectors()), ("text.moderate", judgements())]
        .map(|(task, good)| Station::new(responder, &openai::VENDOR, Verb::Submit, both(task), good))
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[test]
fn a_text_is_what_its_answer_holds_and_calls_whole() {
    let responder = Responder::new();
    let told = told(&responder);
    proptest!(config(1000), |(nth in 0..told.len(), changes in changes(&WORDS))| {
        let Told { station, text: text_of, is_whole } = &told[nth];
        let text = mutate(&station.good, &changes);
        let said = read(&text);
        match station.ask(&responder, &[wire(&text)]) {
            Ok(Step::Done(made)) => {
                prop_assert!(is_whole(&said), "{text}: {made:?}");
                prop_assert_eq!(made.text, Some(text_of(&said)), "{}", text);
                prop_assert!(made.cost_usd.is_none_or(|cost| cost >= Decimal::ZERO), "{text}");
            }
            Ok(Step::Pending(_)) => prop_assert!(false, "{text}"),
            Err(error) => prop_assert!(!is_nothing_begun(error.class), "{text}: {error}"),
        }
    });
}

#[test]
fn each_text_has_the_vector_and_the_judgement_that_the_answer_gives_it() {
    let responder = Responder::new();
    let stations = judged(&responder);
    proptest!(config(600), |(nth in 0..2_usize, changes in changes(&WORDS))| {
        let text = mutate(&stations[nth].good, &changes);
        let said = read(&text);
        let made = match stations[nth].ask(&responder, &[wire(&text)]) {
            Ok(Step::Done(made)) => made.extra.unwrap_or_default(),
            Ok(Step::Pending(_)) => return Err(TestCaseError::fail(text)),
            Err(error) => {
                prop_assert!(!is_nothing_begun(error.class), "{text}: {error}");
                return Ok(());
            }
        };
        if nth == 0 {
            let numbers = |vector: &Value| items(vector).map(Value::as_f64).collect::<Vec<_>>();
            for place in 0..2_usize {
                let its: Vec<_> = items(&said["data"]).filter(|each| each["index"] == place).collect();
                prop_assert_eq!(its.len(), 1, "{}", text);
                prop_assert_eq!(numbers(&made["embeddings"][place]), numbers(&its[0]["embedding"]), "{}", text);
            }
            prop_assert_eq!(made["embeddings"].as_array().map(Vec::len), Some(2), "{}", text);
        } else {
            let flags = |of: &Value| items(&of["results"]).map(|each| each["flagged"].clone()).collect::<Vec<_>>();
            prop_assert_eq!(flags(&made), flags(&said), "{}", text);
            prop_assert_eq!(flags(&made).len(), 2, "{}", text);
            prop_assert_eq!(&made["flagged"], flags(&said).contains(&json!(true)), "{}", text);
        }
    });
}
