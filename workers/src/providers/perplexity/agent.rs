//! Perplexity's Agent API: OpenAI's Responses protocol, put into the form of a chat completion.
//!
//! A 200 may carry `status: failed` with an error; the same comes as an event in a stream. What counts is the last event, which
//! repeats the whole response: the pieces before it are only told on. Text alone is sent; pictures and tools are refused.

use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::providers::{
    Artifacts, Call, ErrorClass, ProviderError,
    http::Stake,
    openai::{
        chat::{self, Completion},
        fault::{self, Fault},
    },
    sse::{self, Events, Opened},
};

/// One event of a stream.
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(default, rename = "type")]
    kind: String,
    /// A piece of the text.
    #[serde(default)]
    delta: Option<String>,
    /// The response as it is by now.
    #[serde(default)]
    response: Option<Response>,
    #[serde(default)]
    error: Option<Fault>,
}

#[derive(Debug, Deserialize)]
struct Response {
    #[serde(default)]
    status: String,
    #[serde(default)]
    output: Vec<Item>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    error: Option<Fault>,
    #[serde(default)]
    incomplete_details: Value,
}

/// A message, or what was found for it.
#[derive(Debug, Deserialize)]
struct Item {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    content: Vec<Part>,
    #[serde(default)]
    results: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    annotations: Vec<Annotation>,
}

#[derive(Debug, Deserialize)]
struct Annotation {
    #[serde(default)]
    url: Option<String>,
}

/// Asks by `request`, which has all but its body, and listens to the answer.
pub async fn complete(request: RequestBuilder, call: &Call) -> Result<Artifacts, ProviderError> {
    let request = request.json(&body(call)?);
    let response = match sse::open(request, Stake::Submit).await? {
        Opened::Events(events) => listen(events, call).await?,
        Opened::Answer(answer) if answer.status.is_success() => answer.json()?,
        Opened::Answer(answer) => return Err(fault::in_answer(&answer, fault::judge)),
    };
    read(response)
}

fn body(call: &Call) -> Result<Value, ProviderError> {
    let mut instructions = Vec::new();
    let mut input = Vec::new();
    for message in chat::messages(call)? {
        let text = text_of(&message["content"])?;
        match message["role"].as_str().unwrap_or_default() {
            "system" | "developer" => instructions.push(text),
            role @ ("user" | "assistant") => {
                input.push(json!({"type": "message", "role": role, "content": text}));
            }
            _ => return Err(bad("this model takes messages of system, user and assistant")),
        }
    }
    let mut body = json!({"model": call.upstream_model, "input": input, "stream": true});
    if !instructions.is_empty() {
        body["instructions"] = instructions.join("\n\n").into();
    }
    for (ours, theirs) in
        [("max_tokens", "max_output_tokens"), ("temperature", "temperature"), ("top_p", "top_p")]
    {
        if let Some(value) = call.input.get(ours).filter(|value| !value.is_null()) {
            body[theirs] = value.clone();
        }
    }
    Ok(body)
}

/// The text of a message's content, whether in one piece or in parts.
fn text_of(content: &Value) -> Result<String, ProviderError> {
    let part = |part: &Value| {
        let text = part["text"].as_str().filter(|_| part["type"] == "text");
        text.map(str::to_owned).ok_or_else(|| bad("this model takes text alone"))
    };
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => Ok(parts.iter().map(part).collect::<Result<Vec<_>, _>>()?.join("\n")),
        _ => Err(bad("a message has no text")),
    }
}

fn bad(why: &str) -> ProviderError {
    ProviderError::new(ErrorClass::BadInput, why)
}

/// Hears a stream to its last event, which has the whole response.
async fn listen(mut events: Events, call: &Call) -> Result<Response, ProviderError> {
    let mut has_begun = false;
    while let Some(heard) = events.next().await? {
        if heard.data == "[DONE]" {
            break;
        }
        let event: Event =
            serde_json::from_str(&heard.data).map_err(|_| events.nonsense("an event cannot be read"))?;
        let flat = || serde_json::from_str(&heard.data).ok().filter(|_| event.kind == "error");
        if let Some(fault) = event.error.or_else(flat) {
            return Err(fault.under_success(fault::judge, has_begun));
        }
        match (event.kind.as_str(), event.delta, event.response) {
            ("response.output_text.delta", Some(text), _) => {
                has_begun = true;
                call.deltas.tell(json!([{"index": 0, "delta": {"content": text}}]));
            }
            ("response.completed" | "response.incomplete", _, Some(response)) => return Ok(response),
            // Whatever the response says of itself.
            ("response.failed", _, Some(response)) => {
                return Ok(Response { status: "failed".to_owned(), ..response });
            }
            _ => {}
        }
    }
    Err(events.nonsense("the stream ended before the response did"))
}

/// Puts a response into the form of a completion, which is then read as any other.
fn read(response: Response) -> Result<Artifacts, ProviderError> {
    match (response.status.as_str(), response.error) {
        ("completed" | "incomplete", None) => {}
        (_, Some(fault)) => return Err(fault.under_success(fault::judge, true)),
        _ => return Err(ProviderError::new(ErrorClass::Ambiguous, "the response did not come to its end")),
    }
    let reason = match response.incomplete_details["reason"].as_str() {
        Some("content_filter") => "content_filter",
        Some(_) => "length",
        None => "stop",
    };
    let (mut text, mut citations, mut found) = (None::<String>, Vec::new(), Vec::new());
    for item in response.output {
        if let (Some(Value::Array(results)), "search_results") = (item.results, item.kind.as_str()) {
            found.extend(results);
        }
        for part in item.content.into_iter().filter(|part| part.kind == "output_text") {
            text.get_or_insert_default().push_str(&part.text);
            citations.extend(part.annotations.into_iter().filter_map(|annotation| annotation.url));
        }
    }
    let mut beside = Map::new();
    for (name, values) in
        [("citations", citations.into_iter().map(Value::from).collect()), ("search_results", found)]
    {
        if !values.is_empty() {
            beside.insert(name.to_owned(), Value::Array(values));
        }
    }
    let cost = response.usage.as_ref().and_then(|usage| usage.pointer("/cost/total_cost"));
    chat::read(Completion {
        choices: vec![json!({"index": 0, "message": {"content": text}, "finish_reason": reason})],
        cost_usd: cost.and_then(chat::amount),
        usage: response.usage.map(usage),
        beside,
    })
}

/// Its counts under the names of a chat completion's.
fn usage(mut usage: Value) -> Value {
    for (theirs, ours) in [("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens")] {
        if let Some(count) = usage.as_object_mut().and_then(|usage| usage.remove(theirs)) {
            usage[ours] = count;
        }
    }
    usage
}

#[cfg(test)]
mod tests {
    use rust_decimal::Decimal;

    use super::*;

    fn call(input: Value) -> Call {
        Call::new("text.chat", "perplexity/sonar", input, "job_1-1")
    }

    #[test]
    fn a_conversation_becomes_instructions_and_messages() {
        let input = json!({"max_tokens": 50, "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "who"}, {"type": "text", "text": "won?"}]},
        ]});
        let expected = json!({
            "model": "perplexity/sonar", "stream": true, "instructions": "be brief", "max_output_tokens": 50,
            "input": [{"type": "message", "role": "user", "content": "who\nwon?"}],
        });
        assert_eq!(body(&call(input)).unwrap(), expected);
        let check = |input: Value| assert_eq!(body(&call(input)).unwrap_err().class, ErrorClass::BadInput);
        check(json!({}));
        check(json!({"messages": [{"role": "tool", "content": "x"}]}));
        check(
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
        );
        check(json!({"messages": [{"role": "assistant", "content": null}]}));
    }

    fn check(response: Value, expected: Result<&str, ErrorClass>) {
        let found = read(serde_json::from_value(response.clone()).unwrap());
        let found = found.map(|made| made.text.unwrap()).map_err(|error| error.class);
        assert_eq!(found, expected.map(str::to_owned), "{response}");
    }

    #[test]
    fn a_200_is_judged_by_its_status() {
        let message = json!([{"type": "message", "content": [{"type": "output_text", "text": "yes"}]}]);
        check(json!({"status": "completed", "output": message}), Ok("yes"));
        let cut = json!({"reason": "max_output_tokens"});
        check(json!({"status": "incomplete", "output": message, "incomplete_details": cut}), Ok("yes"));
        let filtered = json!({"reason": "content_filter"});
        check(
            json!({"status": "incomplete", "output": [], "incomplete_details": filtered}),
            Err(ErrorClass::Refused),
        );
        check(json!({"status": "completed", "output": []}), Err(ErrorClass::Broken));
        check(json!({"status": "failed", "error": {"code": "server_error"}}), Err(ErrorClass::Ambiguous));
        check(
            json!({"status": "failed", "error": {"code": "rate_limit_exceeded"}}),
            Err(ErrorClass::RateLimited),
        );
        check(json!({"status": "reticulating", "output": message}), Err(ErrorClass::Ambiguous));
    }

    #[test]
    fn sources_counts_and_cost_are_kept() {
        let response = json!({
            "status": "completed",
            "output": [
                {"type": "search_results", "results": [{"title": "A", "url": "https://a.example"}]},
                {"type": "message", "content": [{"type": "output_text", "text": "yes", "annotations": [{"url": "https://a.example"}, {}]}]},
            ],
            "usage": {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7, "cost": {"total_cost": 0.0051}},
        });
        let made = read(serde_json::from_value(response).unwrap()).unwrap();
        let expected = json!({
            "finish_reason": "stop", "citations": ["https://a.example"],
            "search_results": [{"title": "A", "url": "https://a.example"}],
        });
        assert_eq!(made.extra, Some(expected));
        assert_eq!(made.cost_usd, Some(Decimal::new(51, 4)));
        let usage = made.usage.unwrap();
        assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(5), &json!(2)));
    }
}
