//! Chats as OpenAI's clients ask for them, whole and as a stream, and what they are told when something is wrong.

mod listeners;
mod patience;

use futures::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{Account, Answer, Events, Heard, TestApp, scalar};

const PATH: &str = "/v1/chat/completions";

/// One model of each vendor, and its price in tokens.
const EACH: [(&str, i64); 6] = [
    ("gpt-4o", 1000),
    ("llama-70b", 100),
    ("deepseek", 800),
    ("claude-sonnet", 1200),
    ("gemini-pro", 900),
    ("perplexity-sonar", 1000),
];

fn chat(model: &str, question: &str, more: Value) -> Value {
    let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": question }] });
    body.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
    body
}

fn request(alice: &Account, body: &Value) -> RequestBuilder {
    alice.http.post(format!("{}{PATH}", alice.base)).bearer_auth(&alice.key).json(body)
}

async fn ask(app: &TestApp, alice: &Account, body: Value) -> Answer {
    app.worked(alice.post(PATH, body)).await
}

/// All events of a streamed chat.
async fn stream(app: &TestApp, alice: &Account, mut body: Value) -> Vec<Heard> {
    body["stream"] = json!(true);
    app.worked(async { Events::of(request(alice, &body)).await.rest().await }).await
}

/// The chunks of a stream that came to its end.
fn chunks(heard: &[Heard]) -> Vec<Value> {
    let (last, chunks) = heard.split_last().expect("events");
    assert_eq!(last.data, "[DONE]", "{heard:?}");
    chunks.iter().map(Heard::json).collect()
}

/// The words of one answer.
fn words(chunks: &[Value], index: u64) -> String {
    let choices = chunks.iter().flat_map(|chunk| chunk["choices"].as_array().expect("choices"));
    let ours = choices.filter(|choice| choice["index"] == index);
    ours.filter_map(|choice| choice["delta"]["content"].as_str()).collect()
}

/// The job that a stream was about, as the API shows it.
async fn job_of(alice: &Account, chunks: &[Value]) -> Value {
    let id = chunks[0]["id"].as_str().expect("an id").replace("chatcmpl-", "job_");
    alice.get(&format!("/v1/jobs/{id}")).await.json
}

fn tools() -> Value {
    json!([{ "type": "function", "function": { "name": "look", "parameters": { "type": "object", "properties": {} } } }])
}
#[tokio::test]
async fn every_vendor_answers_openais_request_in_openais_form() {
    let app = TestApp::new().await;
    for (model, price) in EACH {
        let alice = app.account(10_000).await;
        let question = format!("почему {model}?");
        let ignored = json!({ "user": "u", "store": false, "n": 1, "seed": 7, "frobnicate": [1] });
        let answer = ask(&app, &alice, chat(model, &question, ignored)).await;
        assert_eq!(answer.status, 200, "{model}: {}", answer.json);
        let made = &answer.json;
        let id = made["id"].as_str().and_then(|id| id.strip_prefix("chatcmpl-")).expect("an id");
        assert_eq!(answer.headers["x-kiln-job"], format!("job_{id}"));
        assert!(answer.headers.contains_key("x-request-id"));
        assert_eq!((&made["object"], &made["model"]), (&json!("chat.completion"), &json!(model)));
        assert!(made["created"].is_i64() && made["system_fingerprint"].is_null(), "{made}");
        let choice = &made["choices"][0];
        assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(0), &json!("stop")), "{made}");
        assert_eq!(choice["message"]["role"], "assistant");
        let job = alice.get(&format!("/v1/jobs/job_{id}")).await.json;
        assert_eq!(choice["message"]["content"], job["output"]["text"], "{made}");
        assert!(job["output"]["text"].as_str().is_some_and(|text| text.contains(&question)), "{job}");
        for count in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert!(made["usage"][count].as_i64().is_some_and(|count| count > 0), "{made}");
        }
        assert!(made["usage"].get("cost").is_none(), "what we pay is nobody's business: {made}");
        assert_eq!((job["status"].as_str(), job["task"].as_str()), (Some("succeeded"), Some("text.chat")));
        assert_eq!(alice.tokens().await, (10_000 - price, 0), "{model}");
    }
    app.finish().await;
}

#[tokio::test]
async fn every_vendors_words_are_streamed_in_openais_form() {
    let app = TestApp::new().await;
    for (model, price) in EACH {
        let alice = app.account(10_000).await;
        let question = format!("почему {model}?");
        let chunks = chunks(&stream(&app, &alice, chat(model, &question, json!({}))).await);
        let first = &chunks[0]["choices"][0]["delta"];
        assert_eq!(first["role"], "assistant", "{model}: {first}");
        for chunk in &chunks {
            assert_eq!((&chunk["object"], &chunk["id"]), (&json!("chat.completion.chunk"), &chunks[0]["id"]));
            assert_eq!(chunk["choices"].as_array().map(Vec::len), Some(1), "{model}: {chunk}");
            assert!(chunk.get("usage").is_none(), "{model}: {chunk}");
        }
        let (last, before) = chunks.split_last().expect("chunks");
        assert_eq!(last["choices"][0]["finish_reason"], "stop", "{model}: {last}");
        assert!(before.iter().all(|chunk| chunk["choices"][0]["finish_reason"].is_null()), "{model}");
        let job = job_of(&alice, &chunks).await;
        assert_eq!(json!(words(&chunks, 0)), job["output"]["text"], "{model}");
        assert_eq!(alice.tokens().await, (10_000 - price, 0), "{model}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_stream_ends_with_what_was_counted_where_that_is_asked_for() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    for (model, _) in EACH {
        let counted = json!({ "stream_options": { "include_usage": true } });
        let chunks = chunks(&stream(&app, &alice, chat(model, "how many", counted)).await);
        let (last, before) = chunks.split_last().expect("chunks");
        assert_eq!(last["choices"], json!([]), "{model}: {last}");
        assert!(last["usage"]["total_tokens"].as_i64().is_some_and(|count| count > 0), "{model}: {last}");
        assert!(before.iter().all(|chunk| chunk.get("usage") == Some(&Value::Null)), "{model}");
    }
    app.finish().await;
}

#[tokio::test]
async fn calls_of_tools_are_the_same_streamed_and_whole() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    for model in ["gpt-4o", "llama-70b", "deepseek", "claude-sonnet"] {
        let more = json!({ "tools": tools(), "tool_choice": "required" });
        let whole = ask(&app, &alice, chat(model, "look it up", more.clone())).await.json;
        let choice = &whole["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls", "{model}: {whole}");
        assert_eq!(choice["message"]["content"], Value::Null, "{model}: {whole}");
        let call = &choice["message"]["tool_calls"][0];
        assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("look")));

        let chunks = chunks(&stream(&app, &alice, chat(model, "look it up", more)).await);
        let pieces = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"].get("tool_calls"));
        // As OpenAI's clients put them together: texts that come again are joined.
        let (mut id, mut name, mut arguments) = (String::new(), String::new(), String::new());
        for piece in pieces.map(|calls| &calls[0]) {
            assert_eq!(piece["index"], 0, "{model}: {piece}");
            id += piece["id"].as_str().unwrap_or_default();
            name += piece["function"]["name"].as_str().unwrap_or_default();
            arguments += piece["function"]["arguments"].as_str().unwrap_or_default();
        }
        assert_eq!(json!([name, arguments]), json!(["look", call["function"]["arguments"]]), "{model}");
        let streamed = job_of(&alice, &chunks).await;
        assert_eq!(streamed["output"]["tool_calls"][0]["id"], id, "{model}");
        assert_eq!(chunks.last().expect("the end")["choices"][0]["finish_reason"], "tool_calls", "{model}");
    }
    app.finish().await;
}

#[tokio::test]
async fn several_answers_with_their_likelihoods_are_the_same_streamed_and_whole() {
    let app = TestApp::new().await;
    let alice = app.account(1_000_000).await;
    let more = json!({ "n": 2, "logprobs": true, "max_completion_tokens": 500 });
    let whole = ask(&app, &alice, chat("gpt-4o-tokens", "two ways", more.clone())).await.json;
    let chunks = chunks(&stream(&app, &alice, chat("gpt-4o-tokens", "two ways", more)).await);
    assert_ne!(words(&chunks, 0), words(&chunks, 1));
    for index in [0_usize, 1] {
        let choice = &whole["choices"][index];
        assert_eq!(choice["index"], index, "{whole}");
        assert_eq!(choice["message"]["content"], words(&chunks, index.try_into().expect("small")));
        let told = chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|choice| choice["index"] == index);
        let told = told.filter_map(|choice| choice["logprobs"]["content"].as_array()).flatten();
        let told: Vec<_> = told.cloned().collect();
        assert_eq!(choice["logprobs"]["content"], json!(told));
    }
    let ends = chunks.iter().filter(|chunk| chunk["choices"][0]["finish_reason"] == "stop").count();
    assert_eq!(ends, 2, "each answer ends once");
    app.finish().await;
}

#[tokio::test]
async fn a_chat_that_fails_before_its_first_word_is_answered_with_a_status() {
    let app = TestApp::new().await;
    for (fault, status, code) in [
        (json!({ "fault": "refuse" }), 400, "content_policy_violation"),
        (json!({ "fault": "bad_input" }), 400, "provider_rejected_input"),
        (json!({ "fault": "quota" }), 503, "provider_unavailable"),
        (json!({ "fault": "no_result" }), 502, "provider_result_unusable"),
    ] {
        for streamed in [false, true] {
            app.providers_forgive();
            let alice = app.account(10_000).await;
            let question = format!("{code} {streamed}");
            let mut order = fault.clone();
            order["contains"] = json!(question);
            app.simulator.order(order).await;
            let answer = ask(&app, &alice, chat("gpt-4o", &question, json!({ "stream": streamed }))).await;
            assert_eq!(answer.error(), (status, code, "none"), "{question}: {}", answer.json);
            assert_eq!(
                answer.json["error"].as_object().map(serde_json::Map::len),
                Some(4),
                "{}",
                answer.json
            );
            assert_eq!(alice.tokens().await, (10_000, 0), "{question}");
        }
    }
    app.finish().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_chat_is_said_in_openais_words_and_holds_nothing() {
    let app = TestApp::new().await;
    let alice = app.account(100_000).await;
    let hi = json!([{ "role": "user", "content": "hi" }]);
    let cases = [
        (json!({ "messages": hi }), (400, "missing_field", "model")),
        (json!({ "model": "gpt-9", "messages": hi }), (404, "model_not_found", "model")),
        (json!({ "model": "kling", "messages": hi }), (404, "model_not_found", "model")),
        (json!({ "model": "gpt-4o" }), (400, "missing_field", "messages")),
        (json!({ "model": "gpt-4o", "messages": [] }), (400, "invalid_input", "messages")),
        (json!({ "model": "gpt-4o", "messages": "hi" }), (400, "invalid_input", "messages")),
        (chat("gpt-4o", "hi", json!({ "temperature": 3 })), (400, "invalid_input", "temperature")),
        (chat("gpt-4o", "hi", json!({ "max_tokens": 0 })), (400, "invalid_input", "max_tokens")),
        (
            chat("gpt-4o", "hi", json!({ "max_completion_tokens": 0 })),
            (400, "invalid_input", "max_completion_tokens"),
        ),
        (chat("gpt-4o", "hi", json!({ "n": 2 })), (400, "unsupported_parameter", "n")),
        (chat("gemini-pro", "hi", json!({ "tools": tools() })), (400, "unsupported_parameter", "tools")),
        (chat("gpt-4o", "hi", json!({ "stream": 1 })), (400, "invalid_type", "stream")),
        (chat("gpt-4o", "hi", json!({ "metadata": { "a": 1 } })), (400, "invalid_metadata", "metadata")),
        (json!([]), (400, "invalid_type", "body")),
    ];
    for (body, expected) in cases {
        let answer = alice.post(PATH, body.clone()).await;
        assert_eq!(answer.error(), expected, "{body} → {}", answer.json);
        assert_eq!(answer.json["error"]["type"], "invalid_request_error");
    }
    assert_eq!(alice.tokens().await, (100_000, 0));

    let poor = app.account(10).await;
    let answer = poor.post(PATH, chat("gpt-4o", "hi", json!({}))).await;
    assert_eq!(answer.error(), (402, "insufficient_quota", "none"), "a status that clients do not repeat");
    let free = app.account_of_tier("free", 100_000).await;
    for n in 0..5 {
        free.submit("gpt-4o", json!({ "prompt": format!("{n}") })).await;
    }
    let answer = free.post(PATH, chat("gpt-4o", "hi", json!({}))).await;
    assert_eq!(answer.error(), (429, "rate_limit_exceeded", "none"));
    assert!(answer.headers.contains_key("retry-after"));
    let stranger = Account { key: "sk-another".into(), ..alice.clone() };
    assert_eq!(stranger.post(PATH, json!({})).await.error(), (401, "invalid_api_key", "none"));
    app.drain().await;
    app.finish().await;
}

#[tokio::test]
async fn a_client_that_repeats_a_request_by_itself_gets_the_same_job() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let send = async |body: &Value, number: &str| {
        let headers = [("x-stainless-retry-count", number)];
        app.worked(alice.send(Method::POST, PATH, &headers, Some(body))).await
    };
    let body = chat("gpt-4o", "once", json!({}));
    let first = send(&body, "0").await;
    let again = send(&body, "1").await;
    assert_eq!((&again.json["id"], again.status.as_u16()), (&first.json["id"], 200), "{}", again.json);
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(alice.tokens().await, (9000, 0), "and pays once");
    let on_purpose = send(&body, "0").await;
    assert_ne!(on_purpose.json["id"], first.json["id"], "who asks twice gets two answers");
    assert_eq!(send(&body, "2").await.json["id"], on_purpose.json["id"], "the latest is meant");
    let other = send(&chat("gpt-4o", "another", json!({})), "1").await;
    assert_eq!(other.status, 200, "a first try that never arrived is made");
    assert_eq!(alice.tokens().await, (7000, 0));
    let bob = app.key(alice.id, shared::account::KeyRole::Member).await;
    let headers = [("x-stainless-retry-count", "1")];
    let theirs = app.worked(bob.send(Method::POST, PATH, &headers, Some(&body))).await;
    assert_ne!(theirs.json["id"], on_purpose.json["id"], "another key's request is another");
    app.finish().await;
}

#[tokio::test]
async fn a_repeat_of_what_was_given_up_is_made_and_of_what_was_refused_is_refused() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let send = async |body: &Value, number: &str| {
        let headers = [("x-stainless-retry-count", number)];
        app.worked(alice.send(Method::POST, PATH, &headers, Some(body))).await
    };
    let given_up = chat("deepseek", "given up", json!({}));
    let cancel = async {
        loop {
            let open = alice.get("/v1/jobs?status=queued").await.json;
            if let Some(job) = open["data"][0]["id"].as_str() {
                return alice.cancel(job.parse().expect("a job")).await.status.as_u16();
            }
        }
    };
    let (answer, canceled) = tokio::join!(alice.post(PATH, given_up.clone()), cancel);
    assert_eq!((answer.error(), canceled), ((400, "job_canceled", "none"), 200));
    assert_eq!(send(&given_up, "1").await.status, 200);

    let refused = chat("deepseek", "[[sim:refuse]] no", json!({}));
    for number in ["0", "1"] {
        assert_eq!(send(&refused, number).await.error(), (400, "content_policy_violation", "none"));
    }
    let jobs: i64 = scalar(&app.db, "select count(*) from jobs where error_code = 'content_refused'").await;
    assert_eq!(jobs, 1, "nobody was asked again");
    app.finish().await;
}

#[tokio::test]
async fn a_chat_with_an_idempotency_key_is_answered_from_its_first_job() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let body = chat("gpt-4o", "keyed", json!({ "metadata": { "a": "b" } }));
    let headers = [("Idempotency-Key", "k-1")];
    let sent = join_all((0..3).map(|_| alice.send(Method::POST, PATH, &headers, Some(&body))));
    let answers = app.worked(sent).await;
    let ids: Vec<_> = answers.iter().map(|answer| &answer.json["id"]).collect();
    assert!(ids[0].is_string() && ids.iter().all(|id| *id == ids[0]), "{answers:?}");
    assert_eq!(alice.tokens().await, (9000, 0));
    let listed = alice.get("/v1/jobs?metadata[a]=b").await.json;
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1), "it is a job like any other");
    let other = alice.send(Method::POST, PATH, &headers, Some(&chat("gpt-4o", "other", json!({})))).await;
    assert_eq!(other.error(), (422, "idempotency_key_reused", "Idempotency-Key"));
    app.finish().await;
}

#[tokio::test]
async fn a_chat_that_repeats_itself_is_streamed_from_the_cache_for_free() {
    let app = TestApp::new().await;
    let alice = app.account(10_000).await;
    let cold = chat("gpt-4o", "cold", json!({ "temperature": 0 }));
    let first = ask(&app, &alice, cold.clone()).await;
    let chunks = chunks(&stream(&app, &alice, cold).await);
    assert_eq!(first.json["choices"][0]["message"]["content"], words(&chunks, 0));
    assert_eq!(alice.tokens().await, (9000, 0));
    app.finish().await;
}
