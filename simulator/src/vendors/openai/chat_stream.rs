//! The chunks of a streamed chat: a word each, tools in fragments, and the counts at the end.

use serde_json::{Value, json};

use super::{
    chat::{Choice, Manner, likely, thought, tool_call},
    chat_request::Chat,
};
use crate::{clock, stream};

/// How much of a tool's arguments comes in one piece.
const FRAGMENT_CHARS: usize = 7;

impl Chat {
    /// Every event of the stream; `usage` where the counts are told.
    pub(super) fn events(
        &self,
        id: &str,
        choices: &[Choice],
        usage: Option<&Value>,
        manner: &Manner,
    ) -> Vec<String> {
        let created = clock::now_secs();
        let chunk = |listed: Value, usage: &Value| {
            let mut chunk = json!({
                "id": id, "object": "chat.completion.chunk", "created": created, "model": self.model,
                "service_tier": "default", "system_fingerprint": "fp_simulated", "choices": listed,
            });
            if self.include_usage {
                chunk["usage"] = usage.clone();
            }
            (manner.adorn)(&mut chunk);
            stream::data(&chunk)
        };
        let mut events: Vec<_> =
            manner.comment.into_iter().map(|comment| format!(": {comment}\n\n")).collect();
        for (index, choice) in choices.iter().enumerate() {
            let said = self.deltas(index, choice, manner).into_iter().map(|(delta, logprobs)| {
                json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": null })
            });
            events.extend(said.map(|choice| chunk(json!([choice]), &Value::Null)));
            let end = json!({
                "index": index, "delta": {}, "logprobs": null, "finish_reason": choice.finish_reason,
            });
            events.push(chunk(json!([end]), &Value::Null));
        }
        if let Some(usage) = usage {
            events.push(chunk(json!([]), usage));
        }
        events.push("data: [DONE]\n\n".to_owned());
        events
    }

    /// The pieces of one answer, each with the likelihood of what is in it.
    fn deltas(&self, index: usize, choice: &Choice, manner: &Manner) -> Vec<(Value, Value)> {
        let mut deltas = vec![(json!({ "role": "assistant", "content": "", "refusal": null }), Value::Null)];
        if let Some(field) = manner.thought {
            let pieces = thought().split_inclusive(' ');
            deltas.extend(pieces.map(|piece| (json!({ "content": null, field: piece }), Value::Null)));
        }
        if let Some((name, arguments)) = &choice.call {
            let mut first = tool_call(index, name, "");
            first["index"] = json!(0);
            deltas[0].0["content"] = Value::Null;
            deltas.push((json!({ "tool_calls": [first] }), Value::Null));
            let letters: Vec<_> = arguments.chars().collect();
            deltas.extend(letters.chunks(FRAGMENT_CHARS).map(|fragment| {
                let fragment: String = fragment.iter().collect();
                let piece = json!({ "index": 0, "function": { "arguments": fragment } });
                (json!({ "tool_calls": [piece] }), Value::Null)
            }));
        }
        deltas.extend(choice.text.split_inclusive(' ').map(|word| {
            let logprobs = if self.logprobs { likely(word) } else { Value::Null };
            (json!({ "content": word }), logprobs)
        }));
        deltas
    }
}
