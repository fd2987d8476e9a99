//! Chat completions, not streamed.
//!
//! The caller's sampling fields pass through untouched, since the model's schema has checked them; only the name of
//! the answer's limit is modernised. A policy refusal can come as a finish reason or as a text of its own.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{OpenAi, fault};
use crate::providers::{
    Artifacts, Call, ErrorClass, ProviderError,
    http::{self, CHAT_TIMEOUT, MAX_CHAT_BYTES, Stake},
};

/// Input fields that OpenAI knows under the same name.
const SAME_NAME: [&str; 15] = [
    "frequency_penalty",
    "logprobs",
    "max_completion_tokens",
    "n",
    "presence_penalty",
    "reasoning_effort",
    "response_format",
    "seed",
    "stop",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "verbosity",
];

#[derive(Debug, Deserialize)]
struct Completion {
    #[serde(default)]
    choices: Vec<Value>,
    #[serde(default)]
    usage: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    logprobs: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Value>,
}

/// Sends the conversation and reads the whole answer.
pub async fn complete(openai: &OpenAi, call: &Call) -> Result<Artifacts, ProviderError> {
    let request = openai.post(call, "/chat/completions").timeout(CHAT_TIMEOUT).json(&request(call)?);
    let answer = http::send(request, Stake::Submit, MAX_CHAT_BYTES).await?;
    if !answer.status.is_success() {
        return Err(fault(&answer));
    }
    read(answer.json()?)
}

fn request(call: &Call) -> Result<Value, ProviderError> {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(call.upstream_model));
    body.insert("messages".to_owned(), Value::Array(messages(call)?));
    // OpenAI's reasoning models refuse the old name, and the others take the new one.
    copy(call, "max_tokens", "max_completion_tokens", &mut body);
    for field in SAME_NAME {
        copy(call, field, field, &mut body);
    }
    Ok(Value::Object(body))
}

fn copy(call: &Call, from: &str, to: &str, body: &mut Map<String, Value>) {
    if let Some(value) = call.input.get(from).filter(|value| !value.is_null()) {
        body.insert(to.to_owned(), value.clone());
    }
}

/// The conversation: `messages` as they are or one from `prompt`, with `system` before either.
fn messages(call: &Call) -> Result<Vec<Value>, ProviderError> {
    let system = call.text("system").map(|text| json!({"role": "system", "content": text}));
    let talk = match (call.input.get("messages").and_then(Value::as_array), call.text("prompt")) {
        (Some(messages), _) => messages.clone(),
        (None, Some(prompt)) => vec![json!({"role": "user", "content": prompt})],
        (None, None) => {
            let why = "a chat needs messages or a prompt";
            return Err(ProviderError::new(ErrorClass::BadInput, why));
        }
    };
    Ok(system.into_iter().chain(talk).collect())
}

/// Turns an answer with status 200 into a result, or into what it says went wrong.
fn read(completion: Completion) -> Result<Artifacts, ProviderError> {
    let broken = |why: &str| ProviderError::new(ErrorClass::Broken, why);
    let first = completion.choices.first().ok_or_else(|| broken("the completion has no choices"))?;
    let choice: Choice = serde_json::from_value(first.clone())
        .map_err(|_| broken("the first choice of the completion is not one"))?;
    let reason = choice.finish_reason.unwrap_or_default();
    if reason == "content_filter" || choice.message.refusal.is_some() {
        return Err(ProviderError::new(ErrorClass::Refused, "the model refused to answer"));
    }

    let tool_calls = choice.message.tool_calls.filter(|calls| !calls.is_null());
    // A reasoning model may spend its whole limit on thinking; that is an empty answer, and it was billed.
    let may_be_silent = tool_calls.is_some() || reason == "length";
    let text = match choice.message.content {
        Some(text) => text,
        None if may_be_silent => String::new(),
        None => return Err(broken("the completion has neither text nor tool calls")),
    };

    let mut extra = Map::from_iter([("finish_reason".to_owned(), json!(reason))]);
    if let Some(calls) = tool_calls {
        extra.insert("tool_calls".to_owned(), calls);
    }
    if let Some(logprobs) = choice.logprobs.filter(|logprobs| !logprobs.is_null()) {
        extra.insert("logprobs".to_owned(), logprobs);
    }
    if completion.choices.len() > 1 {
        extra.insert("choices".to_owned(), Value::Array(completion.choices));
    }
    Ok(Artifacts {
        text: Some(text),
        usage: completion.usage,
        extra: Some(extra.into()),
        ..Artifacts::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(input: Value) -> Call {
        Call::new("text.chat", "gpt-4o-mini", input, "job_1-1")
    }

    fn check_request(input: Value, expected: Value) {
        assert_eq!(request(&call(input)).unwrap(), expected);
    }

    #[test]
    fn inputs_become_openai_requests() {
        check_request(
            json!({"prompt": "hi", "system": "be brief", "max_tokens": 5, "temperature": 0, "seed": null}),
            json!({
                "model": "gpt-4o-mini", "max_completion_tokens": 5, "temperature": 0,
                "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
            }),
        );
        check_request(
            json!({"messages": [{"role": "user", "content": "hi"}], "prompt": "ignored", "unknown": 1}),
            json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}),
        );
        assert_eq!(request(&call(json!({}))).unwrap_err().class, ErrorClass::BadInput);
    }

    fn check_answer(choices: Value, expected: Result<&str, ErrorClass>) {
        let completion = serde_json::from_value(json!({"choices": choices})).unwrap();
        let found = read(completion).map(|made| made.text.unwrap()).map_err(|error| error.class);
        assert_eq!(found, expected.map(str::to_owned), "{choices}");
    }

    #[test]
    fn answers_are_read_by_their_finish_reason() {
        let say = |content: Value, reason: &str| json!([{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": reason}]);
        check_answer(say(json!("hello"), "stop"), Ok("hello"));
        check_answer(say(json!("cut of"), "length"), Ok("cut of"));
        check_answer(say(Value::Null, "length"), Ok(""));
        check_answer(say(Value::Null, "stop"), Err(ErrorClass::Broken));
        check_answer(say(json!(""), "content_filter"), Err(ErrorClass::Refused));
        check_answer(json!([]), Err(ErrorClass::Broken));
        check_answer(json!([{"message": {"content": null, "refusal": "no"}}]), Err(ErrorClass::Refused));
        check_answer(json!([{"message": {"content": null, "tool_calls": [{"id": "a"}]}}]), Ok(""));
    }

    #[test]
    fn what_callers_need_besides_the_text_is_kept() {
        let answer = json!({
            "choices": [{"message": {"content": null, "tool_calls": [{"id": "a"}]}, "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 3},
        });
        let made = read(serde_json::from_value(answer).unwrap()).unwrap();
        assert_eq!(made.extra, Some(json!({"finish_reason": "tool_calls", "tool_calls": [{"id": "a"}]})));
        assert_eq!(made.usage, Some(json!({"prompt_tokens": 3})));
    }
}
