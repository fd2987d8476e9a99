//! What a chat request asks for, as an input of a model.
//!
//! OpenAI's body is flat and large; a model here knows some of it. A field that the model knows goes into its input, under the
//! same name. One that it does not know is dropped where the answer is as good without it, and refused where it would be another
//! one. What nobody knows is ignored, as OpenAI's clients expect.

use std::{collections::BTreeMap, ops::RangeInclusive};

use serde_json::{Map, Value};

use super::error::OpenAiError;
use shared::{catalog::Model, id::DialogId};

/// Fields that an input of a chat may have under the same name.
const SAME: [&str; 15] = [
    "messages",
    "temperature",
    "top_p",
    "n",
    "stop",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "response_format",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "logprobs",
    "top_logprobs",
    "reasoning_effort",
];

/// Fields that ask for another answer, and that no model here knows.
const UNKNOWN: [&str; 6] =
    ["audio", "function_call", "functions", "logit_bias", "modalities", "web_search_options"];

/// The most that an answer may have, in OpenAI's older word, which is ours, and in its newer one.
const OLD_LIMIT: &str = "max_tokens";
const NEW_LIMIT: &str = "max_completion_tokens";

/// A chat as it was asked for.
#[derive(Debug)]
pub struct Asked {
    /// The model's input.
    pub input: Value,
    /// The caller's own pairs.
    pub metadata: BTreeMap<String, String>,
    /// The dialog that it goes on in: a field of ours, `dialog`, which OpenAI's clients send as `extra_body`.
    pub dialog: Option<DialogId>,
    /// Whether the answer is told while it is written.
    pub is_streamed: bool,
    /// Whether a streamed answer ends with what was counted.
    pub tells_usage: bool,
}

/// A body, as far as it says anything: what is null is not said.
#[derive(Debug)]
pub struct Sent(Map<String, Value>);

impl Sent {
    /// The body as it came.
    pub fn new(fields: Map<String, Value>) -> Self {
        Self(fields.into_iter().filter(|(_, value)| !value.is_null()).collect())
    }

    /// Which model is asked.
    ///
    /// # Errors
    /// 400 when none is.
    pub fn model(&self) -> Result<&str, OpenAiError> {
        let missing = || {
            OpenAiError::bad_request("missing_field", "model", "say which model: GET /v1/models lists them")
        };
        self.0.get("model").and_then(Value::as_str).ok_or_else(missing)
    }

    /// Reads the rest, for this model.
    ///
    /// # Errors
    /// 400, naming the field.
    pub fn read(mut self, model: &Model) -> Result<Asked, OpenAiError> {
        if !self.0.contains_key("messages") {
            let message = "the field \"messages\" is missing";
            return Err(OpenAiError::bad_request("missing_field", "messages", message));
        }
        let (is_streamed, tells_usage) = (self.flag("stream")?, self.tells_usage()?);
        let (metadata, dialog) = (self.metadata()?, self.dialog()?);
        if let Some(field) = UNKNOWN.into_iter().find(|field| self.wants(field)) {
            return Err(OpenAiError::unsupported(field, &model.id));
        }
        let older = self.0.get(OLD_LIMIT).filter(|_| self.0.contains_key(NEW_LIMIT));
        if older.is_some_and(|most| !is_whole(most, 1.0..=f64::MAX)) {
            let message = format!("{OLD_LIMIT} is a whole number, 1 or more");
            return Err(OpenAiError::bad_request("invalid_type", OLD_LIMIT, message));
        }
        let mut input = Map::new();
        // The newer name, should both be there.
        for name in [OLD_LIMIT, NEW_LIMIT] {
            if let Some(most) = self.0.remove(name) {
                input.insert(OLD_LIMIT.into(), most);
            }
        }
        let knows = |field: &str| model.schema["properties"].get(field).is_some();
        for field in SAME {
            let Some(value) = self.0.get(field) else { continue };
            match (self.wants(field), knows(field)) {
                (true, true) => drop(input.insert(field.to_owned(), value.clone())),
                (true, false) if !is_hint(field) => return Err(OpenAiError::unsupported(field, &model.id)),
                // It is passed over, which is no reason for it to be anything at all.
                _ => check_kind(field, value)?,
            }
        }
        Ok(Asked { input: input.into(), metadata, dialog, is_streamed, tells_usage })
    }

    /// Whether a field is there and says something else than what is meant without it.
    fn wants(&self, field: &str) -> bool {
        let Some(value) = self.0.get(field) else { return false };
        match field {
            "frequency_penalty" | "presence_penalty" => value.as_f64() != Some(0.0),
            "n" => value.as_f64() != Some(1.0),
            "logprobs" => *value != false,
            // It says nothing by itself.
            "top_logprobs" => self.0.get("logprobs").is_some_and(|logprobs| *logprobs == true),
            "response_format" => value["type"] != "text",
            // Without tools there is nothing to choose.
            "tool_choice" => self.wants("tools"),
            "parallel_tool_calls" => *value != true && self.wants("tools"),
            "function_call" => self.wants("functions"),
            "modalities" => !value.as_array().is_some_and(|kinds| kinds.iter().all(|kind| kind == "text")),
            "stop" | "tools" | "functions" => !value.as_array().is_some_and(Vec::is_empty),
            "logit_bias" => !value.as_object().is_some_and(Map::is_empty),
            _ => true,
        }
    }

    /// Whether a stream is to end with what was counted.
    fn tells_usage(&mut self) -> Result<bool, OpenAiError> {
        let Some(options) = self.0.remove("stream_options") else { return Ok(false) };
        match options.as_object().map(|options| options.get("include_usage")) {
            Some(None | Some(Value::Null)) => Ok(false),
            Some(Some(Value::Bool(said))) => Ok(*said),
            _ => {
                let message = "stream_options is an object, and include_usage in it true or false";
                Err(OpenAiError::bad_request("invalid_type", "stream_options", message))
            }
        }
    }

    fn flag(&mut self, field: &'static str) -> Result<bool, OpenAiError> {
        match self.0.remove(field) {
            None => Ok(false),
            Some(Value::Bool(said)) => Ok(said),
            Some(_) => {
                Err(OpenAiError::bad_request("invalid_type", field, format!("{field} is true or false")))
            }
        }
    }

    fn metadata(&mut self) -> Result<BTreeMap<String, String>, OpenAiError> {
        let Some(metadata) = self.0.remove("metadata") else { return Ok(BTreeMap::new()) };
        serde_json::from_value(metadata).map_err(|_| {
            OpenAiError::bad_request("invalid_metadata", "metadata", "metadata is pairs of strings")
        })
    }

    fn dialog(&mut self) -> Result<Option<DialogId>, OpenAiError> {
        let Some(dialog) = self.0.remove("dialog") else { return Ok(None) };
        serde_json::from_value(dialog).map(Some).map_err(|_| {
            OpenAiError::bad_request(
                "invalid_type",
                "dialog",
                "dialog is the id of one, such as dlg_ and 32 digits",
            )
        })
    }

    /// Under which name the most that an answer may have was said.
    pub fn limit_name(&self) -> &'static str {
        if self.0.contains_key(NEW_LIMIT) { NEW_LIMIT } else { OLD_LIMIT }
    }
}

/// Whether a number is a whole one of these.
fn is_whole(value: &Value, range: RangeInclusive<f64>) -> bool {
    value.as_f64().is_some_and(|number| number.fract() == 0.0 && range.contains(&number))
}

/// Refuses what is not of its kind, in a field that the model's schema does not get to see.
fn check_kind(field: &str, value: &Value) -> Result<(), OpenAiError> {
    let (is_good, kind) = match field {
        "seed" => (is_whole(value, f64::MIN..=f64::MAX), "a whole number"),
        "reasoning_effort" => (value.is_string(), "a word"),
        "top_logprobs" => (is_whole(value, 0.0..=20.0), "a whole number from 0 to 20"),
        "tool_choice" => (value.is_string() || value.is_object(), "a word or an object"),
        "parallel_tool_calls" => (value.is_boolean(), "true or false"),
        _ => (true, ""),
    };
    if is_good {
        return Ok(());
    }
    Err(OpenAiError::bad_request("invalid_type", field, format!("{field} is {kind}")))
}

/// What a vendor follows as far as it can: an answer without it is as good.
fn is_hint(field: &str) -> bool {
    matches!(field, "seed" | "reasoning_effort")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::catalog::Catalog;

    use super::*;

    fn read(model: &str, fields: Value) -> Result<Asked, OpenAiError> {
        let catalog = Catalog::load().unwrap();
        let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }] });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Sent::new(body.as_object().unwrap().clone()).read(catalog.get(model).unwrap())
    }

    /// What goes into the input beside the messages.
    fn check(model: &str, fields: Value, expected: Value) {
        let mut input = read(model, fields.clone()).unwrap().input;
        assert!(input["messages"].is_array());
        input.as_object_mut().unwrap().remove("messages");
        assert_eq!(input, expected, "{model} {fields}");
    }

    #[test]
    fn fields_that_a_model_knows_are_in_its_input() {
        let tools = json!([{ "type": "function", "function": { "name": "f" } }]);
        let all = json!({ "temperature": 0.5, "top_p": 1, "stop": ["x"], "seed": 7, "tools": tools, "tool_choice": "auto", "logprobs": true, "top_logprobs": 2 });
        check("gpt-4o", all.clone(), all);
        check("gpt-4o", json!({ "max_tokens": 5 }), json!({ "max_tokens": 5 }));
        check("gpt-4o", json!({ "max_tokens": 5, "max_completion_tokens": 6 }), json!({ "max_tokens": 6 }));
        check("gpt-4o-tokens", json!({ "n": 2 }), json!({ "n": 2 }));
        let choice = json!({ "tools": tools, "parallel_tool_calls": false });
        check("claude-sonnet", choice.clone(), choice);
    }

    #[test]
    fn what_says_nothing_and_what_nobody_knows_is_dropped() {
        let ignored = json!({ "user": "u", "store": true, "service_tier": "auto", "safety_identifier": "s", "prompt_cache_key": "k", "verbosity": "low", "frobnicate": [1] });
        let neutral = json!({ "n": 1, "frequency_penalty": 0, "presence_penalty": 0.0, "logprobs": false, "top_logprobs": 3, "response_format": { "type": "text" }, "tools": [], "tool_choice": "auto", "stop": [], "logit_bias": {}, "functions": [], "function_call": "auto", "modalities": ["text"], "temperature": null, "seed": 7, "reasoning_effort": "low" });
        for model in ["claude-sonnet", "perplexity-sonar"] {
            check(model, ignored.clone(), json!({}));
            check(model, neutral.clone(), json!({}));
        }
    }

    #[test]
    fn what_would_be_another_answer_is_refused() {
        let tools = json!([{ "type": "function", "function": { "name": "f" } }]);
        for (model, fields, param) in [
            ("gpt-4o", json!({ "n": 2 }), "n"),
            ("gemini-pro", json!({ "tools": tools }), "tools"),
            ("deepseek", json!({ "tools": tools, "parallel_tool_calls": false }), "parallel_tool_calls"),
            ("claude-sonnet", json!({ "response_format": { "type": "json_object" } }), "response_format"),
            ("claude-sonnet", json!({ "logprobs": true }), "logprobs"),
            ("claude-sonnet", json!({ "presence_penalty": 1 }), "presence_penalty"),
            ("perplexity-sonar", json!({ "stop": "x" }), "stop"),
            ("gpt-4o", json!({ "logit_bias": { "50256": -100 } }), "logit_bias"),
            ("gpt-4o", json!({ "functions": [{ "name": "f" }] }), "functions"),
            ("gpt-4o", json!({ "modalities": ["text", "audio"] }), "modalities"),
            ("gpt-4o", json!({ "stream": "yes" }), "stream"),
            ("gpt-4o", json!({ "metadata": { "a": 1 } }), "metadata"),
            ("gpt-4o", json!({ "dialog": "dlg_1" }), "dialog"),
            ("gpt-4o", json!({ "web_search_options": {} }), "web_search_options"),
            ("gpt-4o", json!({ "stream_options": true }), "stream_options"),
            ("gpt-4o", json!({ "stream_options": { "include_usage": 1 } }), "stream_options"),
            ("gpt-4o", json!({ "max_tokens": "5", "max_completion_tokens": 5 }), "max_tokens"),
            ("gpt-4o", json!({ "top_logprobs": 21 }), "top_logprobs"),
            ("gpt-4o", json!({ "tool_choice": 1 }), "tool_choice"),
            ("gpt-4o", json!({ "parallel_tool_calls": "no" }), "parallel_tool_calls"),
            ("claude-sonnet", json!({ "seed": "seven" }), "seed"),
            ("claude-sonnet", json!({ "reasoning_effort": 3 }), "reasoning_effort"),
        ] {
            let error = read(model, fields.clone()).expect_err(param).body();
            assert_eq!(error["error"]["param"], param, "{model} {fields}: {error}");
        }
    }

    #[test]
    fn a_stream_and_its_counts_are_asked_for_apart() {
        let check = |fields: Value, expected: (bool, bool)| {
            let asked = read("gpt-4o", fields).unwrap();
            assert_eq!((asked.is_streamed, asked.tells_usage), expected);
        };
        check(json!({}), (false, false));
        check(json!({ "stream": false, "stream_options": null }), (false, false));
        check(json!({ "stream": true }), (true, false));
        check(json!({ "stream": true, "stream_options": { "include_usage": null } }), (true, false));
        check(json!({ "stream": true, "stream_options": { "include_usage": true } }), (true, true));
    }
}
