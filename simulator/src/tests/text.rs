//! Chats, embeddings and moderation as the clients of each text vendor meet them.

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::{House, told};

const OPENAI: &str = "/openai/v1/chat/completions";
const OPENROUTER: &str = "/openrouter/api/v1/chat/completions";
const DEEPSEEK: &str = "/deepseek/chat/completions";
const SONAR: &str = "/perplexity/chat/completions";
const AGENT: &str = "/perplexity/v1/agent";
const CLAUDE: &str = "/anthropic/v1/messages";
const GEMINI: &str = "/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";

/// A streamed chat in the words of the vendor at this path.
fn chat(path: &str, prompt: &str) -> Value {
    let messages = json!([{ "role": "user", "content": prompt }]);
    match path {
        CLAUDE => {
            json!({ "model": "claude-sonnet-5", "max_tokens": 500, "messages": messages, "stream": true })
        }
        GEMINI => json!({ "contents": [{ "role": "user", "parts": [{ "text": prompt }] }] }),
        AGENT => {
            let input = json!([{ "type": "message", "role": "user", "content": prompt }]);
            json!({ "model": "perplexity/sonar", "input": input, "stream": true })
        }
        _ => {
            let options = json!({ "include_usage": true });
            json!({ "model": "m", "messages": messages, "stream": true, "stream_options": options })
        }
    }
}

impl House {
    fn claude(&self) -> RequestBuilder {
        let request = self.client.post(format!("{}{CLAUDE}", self.root));
        request.header("x-api-key", "key").header("anthropic-version", "2023-06-01")
    }

    /// The text of an answer to a chat.
    async fn hear(&self, path: &str, prompt: &str) -> String {
        let request = if path == CLAUDE { self.claude() } else { self.post(path) };
        request.json(&chat(path, prompt)).send().await.unwrap().text().await.unwrap()
    }
}

/// The data of every event.
fn events(stream: &str) -> Vec<Value> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test]
async fn every_vendor_tells_a_text_in_pieces_and_then_the_counts() {
    let house = House::open().await;
    for (path, piece, count) in [
        (OPENAI, "/choices/0/delta/content", "/usage/total_tokens"),
        (OPENROUTER, "/choices/0/delta/content", "/usage/cost"),
        (DEEPSEEK, "/choices/0/delta/content", "/usage/prompt_cache_miss_tokens"),
        (SONAR, "/choices/0/delta/content", "/usage/cost/total_cost"),
        (AGENT, "/delta", "/response/usage/cost/total_cost"),
        (CLAUDE, "/delta/text", "/usage/output_tokens"),
        (GEMINI, "/candidates/0/content/parts/0/text", "/usageMetadata/totalTokenCount"),
    ] {
        let stream = house.hear(path, "why").await;
        let events = events(&stream);
        let text: String = events.iter().filter_map(|event| event.pointer(piece)?.as_str()).collect();
        assert!(text.contains("you wrote \"why\""), "{path}: {stream}");
        assert!(events.iter().rev().take(2).any(|event| event.pointer(count).is_some()), "{path}: {stream}");
        let uncounted = house.hear(path, "why [[sim:stream=no_usage]]").await;
        let told = ["total", "output_tokens"].iter().any(|count| uncounted.contains(count));
        assert!(!told, "{path}: {uncounted}");
    }
    let comments = [(OPENROUTER, ": OPENROUTER PROCESSING"), (DEEPSEEK, ": keep-alive")];
    for (path, comment) in comments {
        assert!(house.hear(path, "why").await.starts_with(comment), "{path}");
    }
    assert!(house.hear(CLAUDE, "why").await.contains("event: ping\n"));
}

#[tokio::test]
async fn a_stream_breaks_in_the_middle_on_demand() {
    let house = House::open().await;
    for (path, last) in [
        (OPENAI, "[DONE]"),
        (OPENROUTER, "[DONE]"),
        (DEEPSEEK, "[DONE]"),
        (SONAR, "[DONE]"),
        (AGENT, "response.completed"),
        (CLAUDE, "message_stop"),
        (GEMINI, "STOP"),
    ] {
        assert!(house.hear(path, "whole").await.contains(last), "{path}");
        for fault in ["stream=end", "stream=error", "stream=failed", "stream=refuse"] {
            let stream = house.hear(path, &format!("half [[sim:{fault}]]")).await;
            assert!(fault == "stream=refuse" || !stream.contains(last), "{path} {fault}: {stream}");
            assert_eq!(stream.contains("error\":{"), fault.contains("error") || fault.contains("failed"));
            assert_eq!(stream.contains("half"), fault != "stream=failed", "{path} {fault}: {stream}");
        }
        let request = if path == CLAUDE { house.claude() } else { house.post(path) };
        let cut = request.json(&chat(path, "[[sim:stream=cut]]")).send().await.unwrap();
        cut.text().await.unwrap_err();
        let split = house.hear(path, "жар-птица [[sim:stream=split]]").await;
        assert!(split.contains("\r\n\r\n") && split.contains("жар-птица"), "{path}: {split}");
    }
    let dripping = std::time::Instant::now();
    house.hear(OPENAI, "[[sim:drip=20]]").await;
    assert!(dripping.elapsed() > std::time::Duration::from_millis(300));
    // There are more than ten pieces.
    let beginning_late = std::time::Instant::now();
    house.hear(OPENAI, "[[sim:drip=400:1]]").await;
    let limits = std::time::Duration::from_millis(400)..std::time::Duration::from_secs(4);
    assert!(limits.contains(&beginning_late.elapsed()));
}

#[tokio::test]
async fn each_vendor_reads_strictly_and_says_no_in_its_own_words() {
    let house = House::open().await;
    for (path, code, status) in [
        (OPENROUTER, "/error/code", json!(402)),
        (DEEPSEEK, "/error/message", json!("Insufficient Balance")),
        (SONAR, "/error/code", json!("insufficient_quota")),
        (CLAUDE, "/error/type", json!("billing_error")),
    ] {
        let answer: Value = serde_json::from_str(&house.hear(path, "[[sim:quota]]").await).unwrap();
        assert_eq!(answer.pointer(code), Some(&status), "{path}: {answer}");
        let mut odd = chat(path, "hi");
        odd["max_token"] = json!(5);
        let request = if path == CLAUDE { house.claude() } else { house.post(path) };
        let (status, answer) = told(request.json(&odd).send().await.unwrap()).await;
        assert!((400..=422).contains(&status) && answer["error"].is_object(), "{path}: {answer}");
    }
    let keyless = house.client.post(format!("{}{CLAUDE}", house.root));
    let (status, answer) = told(keyless.json(&chat(CLAUDE, "hi")).send().await.unwrap()).await;
    assert_eq!((status, &answer["error"]["type"]), (401, &json!("authentication_error")));
    let mut hot = chat(CLAUDE, "hi");
    hot["temperature"] = json!(1.5);
    let (status, _) = told(house.claude().json(&hot).send().await.unwrap()).await;
    assert_eq!(status, 400);
    assert_eq!(house.accepted("hi").await, 0);
}

#[tokio::test]
async fn a_tool_is_called_where_the_request_demands_it() {
    let house = House::open().await;
    let mut order = chat(OPENAI, "look");
    order["tools"] = json!([{ "type": "function", "function": { "name": "find" } }]);
    order["tool_choice"] = json!("required");
    let stream = house.post(OPENAI).json(&order).send().await.unwrap().text().await.unwrap();
    let pieces = events(&stream);
    let pieces = pieces
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str());
    assert_eq!(pieces.collect::<String>(), json!({ "question": "look" }).to_string());
    let mut order = chat(CLAUDE, "look");
    order["tools"] = json!([{ "name": "find", "input_schema": { "type": "object" } }]);
    order["tool_choice"] = json!({ "type": "tool", "name": "find" });
    let stream = house.claude().json(&order).send().await.unwrap().text().await.unwrap();
    let pieces = events(&stream);
    let pieces = pieces.iter().filter_map(|event| event["delta"]["partial_json"].as_str());
    assert_eq!(pieces.collect::<String>(), json!({ "question": "look" }).to_string());
}

#[tokio::test]
async fn texts_are_embedded_and_judged() {
    let house = House::open().await;
    let order = json!({ "model": "text-embedding-3-small", "input": ["a", "b"], "dimensions": 4 });
    let (status, answer) = house.ask("/openai/v1/embeddings", order).await;
    assert_eq!((status, answer["data"].as_array().map(Vec::len)), (200, Some(2)), "{answer}");
    assert_eq!(answer["data"][0]["index"], 1, "the order is told by the index");
    assert_eq!(answer["data"][0]["embedding"].as_array().map(Vec::len), Some(4));
    let too_long = json!({ "model": "text-embedding-3-small", "input": "a", "dimensions": 3072 });
    assert_eq!(house.ask("/openai/v1/embeddings", too_long).await.0, 400);
    assert_eq!(house.ask("/openai/v1/embeddings", json!({ "model": "m", "input": [""] })).await.0, 400);

    let order = json!({ "input": ["kind", "[[hate]]"] });
    let (_, answer) = house.ask("/openai/v1/moderations", order).await;
    assert_eq!(
        (&answer["results"][0]["flagged"], &answer["results"][1]["flagged"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(answer["results"][1]["categories"].as_object().map(serde_json::Map::len), Some(13));
}
