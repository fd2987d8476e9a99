//! A conversation in OpenAI's form as a request of the Messages API.
//!
//! Instructions stand apart there, what a tool returned is said by the user, and neighbours of one role are one message.

use serde_json::{Value, json};

use crate::providers::{Call, ErrorClass, ProviderError, openai::chat};

/// The longest an answer may be where the caller says nothing; the vendor demands a limit.
const DEFAULT_MAX_TOKENS: u64 = 4096;

/// The whole request.
pub fn body(call: &Call) -> Result<Value, ProviderError> {
    let mut system = Vec::new();
    let mut messages: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in chat::messages(call)? {
        let (role, blocks) = match message["role"].as_str().unwrap_or_default() {
            "system" | "developer" => {
                system.extend(text_blocks(&message["content"])?);
                continue;
            }
            "user" => ("user", blocks(&message["content"])?),
            "assistant" => ("assistant", answer_blocks(&message)?),
            "tool" => ("user", vec![tool_result(&message)?]),
            other => return Err(bad(&format!("a message has the unknown role {other:?}"))),
        };
        match messages.last_mut() {
            Some((last, said)) if *last == role => said.extend(blocks),
            _ => messages.push((role, blocks)),
        }
    }
    let messages: Vec<_> =
        messages.into_iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
    let limit = call.input.get("max_tokens").and_then(Value::as_u64).unwrap_or(DEFAULT_MAX_TOKENS);
    let mut body =
        json!({"model": call.upstream_model, "max_tokens": limit, "messages": messages, "stream": true});
    if !system.is_empty() {
        body["system"] = system.into();
    }
    for field in ["temperature", "top_p"] {
        if let Some(value) = call.input.get(field).filter(|value| !value.is_null()) {
            body[field] = value.clone();
        }
    }
    match call.input.get("stop") {
        Some(Value::String(stop)) => body["stop_sequences"] = json!([stop]),
        Some(Value::Array(stops)) => body["stop_sequences"] = json!(stops),
        _ => {}
    }
    add_tools(&call.input, &mut body)?;
    Ok(body)
}

/// Content of a user's message: a text, or parts with texts and pictures.
fn blocks(content: &Value) -> Result<Vec<Value>, ProviderError> {
    match content {
        Value::String(text) => Ok(vec![json!({"type": "text", "text": text})]),
        Value::Array(parts) => parts.iter().map(block).collect(),
        _ => Err(bad("a message has no content")),
    }
}

fn text_blocks(content: &Value) -> Result<Vec<Value>, ProviderError> {
    let blocks = blocks(content)?;
    if blocks.iter().any(|block| block["type"] != "text") {
        return Err(bad("instructions are text alone"));
    }
    Ok(blocks)
}

fn block(part: &Value) -> Result<Value, ProviderError> {
    match part["type"].as_str() {
        Some("text") => Ok(json!({"type": "text", "text": part["text"]})),
        Some("image_url") => {
            let url = part["image_url"]["url"].as_str().ok_or_else(|| bad("a picture has no URL"))?;
            Ok(json!({"type": "image", "source": source(url)?}))
        }
        _ => Err(bad("this model takes texts and pictures")),
    }
}

fn source(url: &str) -> Result<Value, ProviderError> {
    let Some(data) = url.strip_prefix("data:") else {
        return Ok(json!({"type": "url", "url": url}));
    };
    let (kind, data) = data.split_once(";base64,").ok_or_else(|| bad("a data URL is not in base64"))?;
    Ok(json!({"type": "base64", "media_type": kind, "data": data}))
}

/// What the model said before, and which tools it asked for.
fn answer_blocks(message: &Value) -> Result<Vec<Value>, ProviderError> {
    let mut said = match &message["content"] {
        // The vendor refuses empty texts.
        Value::Null => Vec::new(),
        Value::String(text) if text.is_empty() => Vec::new(),
        content => text_blocks(content)?,
    };
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let arguments =
            call["function"]["arguments"].as_str().filter(|text| !text.is_empty()).unwrap_or("{}");
        let input: Value =
            serde_json::from_str(arguments).map_err(|_| bad("the arguments of a tool call are no JSON"))?;
        said.push(json!({
            "type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": input,
        }));
    }
    Ok(said)
}

fn tool_result(message: &Value) -> Result<Value, ProviderError> {
    let id = message["tool_call_id"].as_str().ok_or_else(|| bad("a tool's message names no call"))?;
    Ok(json!({"type": "tool_result", "tool_use_id": id, "content": blocks(&message["content"])?}))
}

fn add_tools(input: &Value, body: &mut Value) -> Result<(), ProviderError> {
    let Some(tools) = input.get("tools").and_then(Value::as_array).filter(|tools| !tools.is_empty()) else {
        return Ok(());
    };
    body["tools"] = tools.iter().map(tool).collect::<Result<Vec<_>, _>>()?.into();
    let choice = &input["tool_choice"];
    let is_alone = input["parallel_tool_calls"] == false;
    let mut choice = match choice.as_str() {
        Some(word @ ("auto" | "none")) => json!({"type": word}),
        Some("required") => json!({"type": "any"}),
        Some(_) => return Err(bad("tool_choice is none, auto, required or one function")),
        None => match choice["function"]["name"].as_str() {
            Some(name) => json!({"type": "tool", "name": name}),
            None if is_alone => json!({"type": "auto"}),
            None => return Ok(()),
        },
    };
    if is_alone && choice["type"] != "none" {
        choice["disable_parallel_tool_use"] = json!(true);
    }
    body["tool_choice"] = choice;
    Ok(())
}

fn tool(tool: &Value) -> Result<Value, ProviderError> {
    let function = &tool["function"];
    let name = function["name"].as_str().ok_or_else(|| bad("a tool is no function with a name"))?;
    let mut told = json!({"name": name, "input_schema": {"type": "object"}});
    if function["parameters"].is_object() {
        told["input_schema"] = function["parameters"].clone();
    }
    if let Some(description) = function["description"].as_str() {
        told["description"] = description.into();
    }
    Ok(told)
}

fn bad(why: &str) -> ProviderError {
    ProviderError::new(ErrorClass::BadInput, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(input: Value) -> Result<Value, ProviderError> {
        body(&Call::new("text.chat", "claude-sonnet-5", input, "job_1-1"))
    }

    #[test]
    fn a_prompt_becomes_a_message() {
        let input =
            json!({"prompt": "hi", "system": "be brief", "temperature": 0.5, "stop": "END", "max_tokens": 9});
        let expected = json!({
            "model": "claude-sonnet-5", "max_tokens": 9, "stream": true, "temperature": 0.5, "stop_sequences": ["END"],
            "system": [{"type": "text", "text": "be brief"}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        });
        assert_eq!(body_of(input).unwrap(), expected);
        assert_eq!(body_of(json!({"prompt": "hi"})).unwrap()["max_tokens"], DEFAULT_MAX_TOKENS);
    }

    #[test]
    fn tools_and_what_they_returned_find_their_places() {
        let input = json!({
            "tools": [{"type": "function", "function": {"name": "now", "description": "the time", "parameters": {"type": "object", "properties": {}}}}, {"type": "function", "function": {"name": "here"}}],
            "tool_choice": {"type": "function", "function": {"name": "now"}},
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "time?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
                {"role": "assistant", "content": null, "tool_calls": [{"id": "a", "type": "function", "function": {"name": "now", "arguments": "{\"x\":1}"}}, {"id": "b", "type": "function", "function": {"name": "here", "arguments": ""}}]},
                {"role": "tool", "tool_call_id": "a", "content": "noon"},
                {"role": "tool", "tool_call_id": "b", "content": "Oslo"},
                {"role": "user", "content": "so?"},
            ],
        });
        let made = body_of(input).unwrap();
        let text = |text: &str| json!({"type": "text", "text": text});
        let expected = json!([
            {"role": "user", "content": [text("time?"), {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "a", "name": "now", "input": {"x": 1}}, {"type": "tool_use", "id": "b", "name": "here", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": [text("noon")]},
                {"type": "tool_result", "tool_use_id": "b", "content": [text("Oslo")]},
                text("so?"),
            ]},
        ]);
        assert_eq!(made["messages"], expected);
        assert_eq!(made["tool_choice"], json!({"type": "tool", "name": "now"}));
        let expected = json!([
            {"name": "now", "description": "the time", "input_schema": {"type": "object", "properties": {}}},
            {"name": "here", "input_schema": {"type": "object"}},
        ]);
        assert_eq!(made["tools"], expected);
    }

    #[test]
    fn a_choice_of_tools_is_put_into_the_vendors_words() {
        let choose = |choice: Value| {
            let tools = json!([{"type": "function", "function": {"name": "now"}}]);
            let input = json!({"prompt": "x", "tools": tools, "tool_choice": choice});
            body_of(input).map(|body| body["tool_choice"].clone()).map_err(|error| error.class)
        };
        assert_eq!(choose(json!("auto")), Ok(json!({"type": "auto"})));
        assert_eq!(choose(json!("none")), Ok(json!({"type": "none"})));
        assert_eq!(choose(json!("required")), Ok(json!({"type": "any"})));
        assert_eq!(choose(Value::Null), Ok(Value::Null));
        assert_eq!(choose(json!("perhaps")), Err(ErrorClass::BadInput));
    }

    #[test]
    fn one_tool_at_a_time_is_a_word_of_the_choice() {
        let choose = |choice: Value, several: bool| {
            let tools = json!([{"type": "function", "function": {"name": "now"}}]);
            let input =
                json!({"prompt": "x", "tools": tools, "tool_choice": choice, "parallel_tool_calls": several});
            body_of(input).unwrap()["tool_choice"].clone()
        };
        let alone = |kind: &str| json!({"type": kind, "disable_parallel_tool_use": true});
        assert_eq!(choose(Value::Null, false), alone("auto"));
        assert_eq!(choose(json!("required"), false), alone("any"));
        assert_eq!(choose(json!("none"), false), json!({"type": "none"}));
        assert_eq!(choose(json!("required"), true), json!({"type": "any"}));
        assert_eq!(choose(Value::Null, true), Value::Null);
    }

    #[test]
    fn what_the_vendor_has_no_place_for_is_refused() {
        let check = |messages: Value| {
            let found = body_of(json!({"messages": messages}));
            assert_eq!(found.unwrap_err().class, ErrorClass::BadInput, "{messages}");
        };
        check(json!([{"role": "user", "content": null}]));
        check(json!([{"role": "user", "content": [{"type": "input_audio"}]}]));
        check(
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png,x"}}]}]),
        );
        check(json!([{"role": "tool", "content": "noon"}]));
        check(
            json!([{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{"}}]}]),
        );
    }
}
