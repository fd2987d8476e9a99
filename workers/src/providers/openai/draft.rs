//! Answers put together from the pieces of a stream, in the form that OpenAI gives a whole answer in.
//!
//! Other vendors' pieces are put into OpenAI's first, so that there is one form for callers and one reader of it. What is
//! done when a stream ends too soon is the adapter's to say; a draft only knows whether its answers came to an end.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Several answers, as far as they have come.
#[derive(Debug, Default)]
pub struct Draft(BTreeMap<u64, Answer>);

/// A piece of one answer.
#[derive(Debug, Deserialize)]
struct Piece {
    #[serde(default)]
    index: u64,
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    logprobs: Option<Map<String, Value>>,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
    /// What a reasoning model thinks, in OpenRouter's word and in DeepSeek's.
    reasoning: Option<String>,
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<ToolPiece>>,
    annotations: Option<Vec<Value>>,
}

/// A piece of one call of a tool: the first has its id and name, all have some of its arguments.
#[derive(Debug, Deserialize)]
struct ToolPiece {
    index: Option<u64>,
    id: Option<String>,
    function: Option<FunctionPiece>,
}

#[derive(Debug, Deserialize)]
struct FunctionPiece {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Debug, Default)]
struct Answer {
    content: Option<String>,
    refusal: Option<String>,
    reasoning: Option<String>,
    tools: BTreeMap<u64, Tool>,
    annotations: Vec<Value>,
    logprobs: Map<String, Value>,
    finish_reason: Option<String>,
}

#[derive(Debug, Default)]
struct Tool {
    id: String,
    name: String,
    arguments: String,
}

impl Draft {
    /// Adds the `choices` of a chunk. `None`: they are no such thing.
    pub fn add(&mut self, choices: &[Value]) -> Option<()> {
        for choice in choices {
            let piece = Piece::deserialize(choice).ok()?;
            self.0.entry(piece.index).or_default().add(piece);
        }
        Some(())
    }

    /// Whether anything was heard.
    pub fn has_begun(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether `wanted` answers came to their end, and none is half way.
    pub fn is_finished(&self, wanted: u64) -> bool {
        let finished = self.0.values().filter(|answer| answer.finish_reason.is_some()).count();
        finished == self.0.len() && u64::try_from(finished).is_ok_and(|finished| finished >= wanted)
    }

    /// The answers, as the `choices` of a whole one.
    pub fn into_choices(self) -> Vec<Value> {
        self.0.into_iter().map(|(index, answer)| answer.into_choice(index)).collect()
    }
}

impl Answer {
    fn add(&mut self, piece: Piece) {
        let delta = piece.delta.unwrap_or_default();
        append(&mut self.content, delta.content);
        append(&mut self.refusal, delta.refusal);
        append(&mut self.reasoning, delta.reasoning.or(delta.reasoning_content));
        for (place, tool) in (0..).zip(delta.tool_calls.into_iter().flatten()) {
            self.tools.entry(tool.index.unwrap_or(place)).or_default().add(tool);
        }
        self.annotations.extend(delta.annotations.into_iter().flatten());
        for (name, listed) in piece.logprobs.into_iter().flatten() {
            let known = self.logprobs.entry(name).or_insert(Value::Null);
            match (known, listed) {
                (_, Value::Null) => {}
                (Value::Array(known), Value::Array(listed)) => known.extend(listed),
                (known, listed) => *known = listed,
            }
        }
        self.finish_reason = piece.finish_reason.or(self.finish_reason.take());
    }

    fn into_choice(self, index: u64) -> Value {
        let mut message = json!({
            "role": "assistant", "content": self.content, "refusal": self.refusal, "annotations": self.annotations,
        });
        if let Some(reasoning) = self.reasoning {
            message["reasoning"] = reasoning.into();
        }
        if !self.tools.is_empty() {
            message["tool_calls"] = self.tools.into_values().map(Tool::into_call).collect();
        }
        let logprobs = (!self.logprobs.is_empty()).then_some(self.logprobs);
        json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": self.finish_reason})
    }
}

impl Tool {
    fn add(&mut self, piece: ToolPiece) {
        let function = piece.function.unwrap_or(FunctionPiece { name: None, arguments: None });
        // Told once, though some vendors repeat it with every piece.
        for (known, told) in [(&mut self.id, piece.id), (&mut self.name, function.name)] {
            if let Some(told) = told.filter(|told| known.is_empty() && !told.is_empty()) {
                *known = told;
            }
        }
        self.arguments.push_str(function.arguments.as_deref().unwrap_or_default());
    }

    fn into_call(self) -> Value {
        // Callers parse it, so a call without arguments has an empty object of them.
        let arguments = if self.arguments.is_empty() { "{}" } else { &self.arguments };
        json!({"id": self.id, "type": "function", "function": {"name": self.name, "arguments": arguments}})
    }
}

fn append(known: &mut Option<String>, piece: Option<String>) {
    if let Some(piece) = piece {
        known.get_or_insert_default().push_str(&piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_together(chunks: &[Value]) -> Vec<Value> {
        let mut draft = Draft::default();
        for choices in chunks {
            draft.add(choices.as_array().unwrap()).unwrap();
        }
        draft.into_choices()
    }

    #[test]
    fn pieces_make_the_answer_that_would_have_come_whole() {
        let made = put_together(&[
            json!([{"index": 0, "delta": {"role": "assistant", "content": "", "refusal": null}, "finish_reason": null}]),
            json!([{"index": 1, "delta": {"content": "two"}, "logprobs": {"content": [{"token": "two"}], "refusal": null}}]),
            json!([{"index": 0, "delta": {"content": "жар"}}, {"index": 1, "delta": {"content": " pieces"}, "logprobs": {"content": [{"token": " pieces"}]}}]),
            json!([{"index": 0, "delta": {"content": "-птица", "reasoning_content": "hm"}}]),
            json!([{"index": 0, "delta": {}, "finish_reason": "stop"}, {"index": 1, "finish_reason": "length"}]),
            json!([]),
        ]);
        let expected = json!([
            {"index": 0, "finish_reason": "stop", "logprobs": null, "message":
                {"role": "assistant", "content": "жар-птица", "refusal": null, "annotations": [], "reasoning": "hm"}},
            {"index": 1, "finish_reason": "length", "logprobs": {"content": [{"token": "two"}, {"token": " pieces"}], "refusal": null},
                "message": {"role": "assistant", "content": "two pieces", "refusal": null, "annotations": []}},
        ]);
        assert_eq!(Value::from(made), expected);
    }

    #[test]
    fn tool_calls_are_put_together_by_their_index() {
        let piece = |tools: Value| json!([{"index": 0, "delta": {"tool_calls": tools}}]);
        let made = put_together(&[
            piece(
                json!([{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]),
            ),
            piece(json!([{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{"}}])),
            piece(json!([{"index": 0, "function": {"arguments": "{\"x\""}}])),
            piece(
                json!([{"index": 0, "id": "a", "function": {"name": "f", "arguments": ":1}"}}, {"index": 1, "function": {"arguments": "}"}}]),
            ),
        ]);
        let expected = json!([
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ]);
        assert_eq!(made[0]["message"]["tool_calls"], expected);
        assert_eq!(made[0]["message"]["content"], Value::Null);
    }

    #[test]
    fn a_draft_knows_whether_it_is_finished() {
        let mut draft = Draft::default();
        assert!(!draft.has_begun() && !draft.is_finished(1));
        draft.add(&[json!({"index": 0, "delta": {"content": "a"}})]).unwrap();
        assert!(draft.has_begun() && !draft.is_finished(1));
        draft.add(&[json!({"index": 0, "finish_reason": "stop"})]).unwrap();
        assert!(draft.is_finished(1) && !draft.is_finished(2));
        draft.add(&[json!({"index": 1, "delta": {"content": "b"}})]).unwrap();
        assert!(!draft.is_finished(1));
        assert_eq!(draft.add(&[json!({"index": "x"})]), None);
        assert_eq!(draft.add(&[json!("x")]), None);
    }
}
