//! The events of a message while it is written, told on and put together in OpenAI's form.
//!
//! A message has blocks: texts, which are joined, and uses of tools, which are counted apart as OpenAI does. It is whole when
//! it has a stop reason; without, it was cut off and may have been billed.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Fault, class_of};
use crate::providers::{
    Artifacts, Call, ErrorClass, ProviderError, http,
    openai::{
        chat::{self, Completion},
        draft::Draft,
    },
    sse::Events,
};

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    MessageStart {
        message: Start,
    },
    ContentBlockStart {
        index: u64,
        content_block: Block,
    },
    ContentBlockDelta {
        index: u64,
        delta: Piece,
    },
    MessageDelta {
        delta: End,
        #[serde(default)]
        usage: Usage,
    },
    MessageStop,
    Error {
        error: Fault,
    },
    /// Pings, ends of blocks, and what the vendor may add.
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
struct Start {
    #[serde(default)]
    usage: Usage,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Text {
        #[serde(default)]
        text: String,
    },
    ToolUse {
        id: String,
        name: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Piece {
    TextDelta {
        text: String,
    },
    InputJsonDelta {
        partial_json: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
struct End {
    #[serde(default)]
    stop_reason: Option<String>,
}

/// Counts; those of the answer are told anew with every message delta, as a sum.
#[derive(Debug, Default, Deserialize)]
struct Usage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
}

/// What is known so far.
#[derive(Debug, Default)]
struct Message {
    draft: Draft,
    usage: Usage,
    /// Blocks that are uses of tools, in their order.
    tools: Vec<u64>,
    is_whole: bool,
}

/// Hears a message to its end.
pub async fn listen(mut events: Events, call: &Call) -> Result<Artifacts, ProviderError> {
    let mut message = Message::default();
    loop {
        let event = match events.next().await {
            Ok(Some(event)) => event,
            Ok(None) | Err(_) if message.is_whole => break,
            Ok(None) => return Err(events.nonsense("the stream ended before the message did")),
            Err(error) => return Err(error),
        };
        let event =
            serde_json::from_str(&event.data).map_err(|_| events.nonsense("an event cannot be read"))?;
        if matches!(event, Event::MessageStop) && message.is_whole {
            break;
        }
        if let Some(choice) = message.hear(event)? {
            call.deltas.tell(json!([choice]));
        }
    }
    message.finish()
}

impl Message {
    /// Takes an event in, and gives what it adds in OpenAI's form.
    fn hear(&mut self, event: Event) -> Result<Option<Value>, ProviderError> {
        let choice = match event {
            Event::MessageStart { message } => {
                self.usage = message.usage;
                json!({"index": 0, "delta": {"role": "assistant"}})
            }
            Event::ContentBlockStart { content_block: Block::Text { text }, .. } => content(&text),
            Event::ContentBlockStart { index, content_block: Block::ToolUse { id, name } } => {
                self.tools.push(index);
                self.tool(
                    index,
                    json!({"id": id, "type": "function", "function": {"name": name, "arguments": ""}}),
                )
            }
            Event::ContentBlockDelta { delta: Piece::TextDelta { text }, .. } => content(&text),
            Event::ContentBlockDelta { index, delta: Piece::InputJsonDelta { partial_json } } => {
                self.tool(index, json!({"function": {"arguments": partial_json}}))
            }
            Event::MessageDelta { delta, usage } => {
                self.usage.update(usage);
                // An empty one says nothing.
                let Some(reason) = delta.stop_reason.filter(|reason| !reason.is_empty()) else {
                    return Ok(None);
                };
                self.is_whole = true;
                json!({"index": 0, "delta": {}, "finish_reason": finish_reason(&reason)})
            }
            Event::Error { error } => return Err(self.broken_off(&error)),
            Event::ContentBlockStart { .. }
            | Event::ContentBlockDelta { .. }
            | Event::MessageStop
            | Event::Other => {
                return Ok(None);
            }
        };
        // What is made here can be read there.
        self.draft.add(std::slice::from_ref(&choice));
        Ok(Some(choice))
    }

    /// A piece of the tool that has this block.
    fn tool(&self, block: u64, mut piece: Value) -> Value {
        piece["index"] = self.tools.iter().position(|known| *known == block).into();
        json!({"index": 0, "delta": {"tool_calls": [piece]}})
    }

    /// An error in the middle: what was written by then may be billed.
    fn broken_off(&self, fault: &Fault) -> ProviderError {
        let class = match class_of(&fault.kind) {
            Some(ErrorClass::Unavailable) | None => ErrorClass::Ambiguous,
            Some(class) => class,
        };
        ProviderError::new(class, http::quote(&format!("{} {}", fault.kind, fault.message)))
    }

    fn finish(self) -> Result<Artifacts, ProviderError> {
        let usage = self.usage.to_openai();
        chat::read(Completion {
            choices: self.draft.into_choices(),
            usage: Some(usage),
            ..Completion::default()
        })
    }
}

fn content(text: &str) -> Value {
    json!({"index": 0, "delta": {"content": text}})
}

/// OpenAI's word for a stop reason. Those that are new to us end an answer like any other.
fn finish_reason(stop_reason: &str) -> &'static str {
    match stop_reason {
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        _ => "stop",
    }
}

impl Usage {
    fn update(&mut self, newer: Self) {
        let Self { input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens } =
            newer;
        self.input_tokens = input_tokens.or(self.input_tokens);
        self.output_tokens = output_tokens.or(self.output_tokens);
        self.cache_creation_input_tokens = cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.cache_read_input_tokens = cache_read_input_tokens.or(self.cache_read_input_tokens);
    }

    /// The counts in OpenAI's words, whose prompt includes what was cached.
    fn to_openai(&self) -> Value {
        let cached = self.cache_read_input_tokens.unwrap_or(0);
        let read = self.input_tokens.map(|fresh| {
            fresh.saturating_add(cached).saturating_add(self.cache_creation_input_tokens.unwrap_or(0))
        });
        let total = read.zip(self.output_tokens).map(|(read, written)| read.saturating_add(written));
        json!({
            "prompt_tokens": read, "completion_tokens": self.output_tokens, "total_tokens": total,
            "prompt_tokens_details": {"cached_tokens": cached},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of these events.
    fn hear(events: &[Value]) -> Result<Artifacts, ProviderError> {
        let mut message = Message::default();
        for event in events {
            message.hear(serde_json::from_value(event.clone()).unwrap())?;
        }
        assert!(message.is_whole, "{events:?}");
        message.finish()
    }

    fn start() -> Value {
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 7, "cache_read_input_tokens": 3, "output_tokens": 1}}})
    }

    fn end(reason: &str) -> Value {
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 9}})
    }

    fn text(text: &str) -> Value {
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})
    }

    #[test]
    fn texts_are_joined_and_counts_are_openais() {
        let block =
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
        let thought = json!({"type": "content_block_delta", "index": 1, "delta": {"type": "thinking_delta", "thinking": "hm"}});
        let made = hear(&[
            start(),
            json!({"type": "ping"}),
            block,
            text("жар-"),
            thought,
            text("птица"),
            end("end_turn"),
            json!({"type": "message_stop"}),
        ])
        .unwrap();
        assert_eq!(made.text.as_deref(), Some("жар-птица"));
        assert_eq!(made.extra, Some(json!({"finish_reason": "stop"})));
        let usage = made.usage.unwrap();
        assert_eq!(
            (&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]),
            (&json!(10), &json!(9), &json!(19))
        );
    }

    #[test]
    fn uses_of_tools_become_tool_calls() {
        let tool = |index: u64, id: &str| json!({"type": "content_block_start", "index": index, "content_block": {"type": "tool_use", "id": id, "name": "now", "input": {}}});
        let piece = |index: u64, json: &str| json!({"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": json}});
        let made = hear(&[
            start(),
            text("let me look"),
            tool(1, "a"),
            piece(1, "{\"x\""),
            piece(1, ":1}"),
            tool(2, "b"),
            piece(2, ""),
            end("tool_use"),
        ])
        .unwrap();
        let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "now", "arguments": arguments}});
        let expected =
            json!({"finish_reason": "tool_calls", "tool_calls": [call("a", "{\"x\":1}"), call("b", "{}")]});
        assert_eq!((made.text.as_deref(), made.extra), (Some("let me look"), Some(expected)));
    }

    #[test]
    fn a_message_is_judged_by_its_stop_reason() {
        let check = |reason: &str, expected: Result<&str, ErrorClass>| {
            let found = hear(&[start(), text("half"), end(reason)]);
            let found = found.map(|made| made.extra.unwrap()["finish_reason"].as_str().unwrap().to_owned());
            assert_eq!(found.map_err(|error| error.class), expected.map(str::to_owned), "{reason}");
        };
        check("max_tokens", Ok("length"));
        check("model_context_window_exceeded", Ok("length"));
        check("stop_sequence", Ok("stop"));
        check("reticulated", Ok("stop"));
        check("refusal", Err(ErrorClass::Refused));
        assert_eq!(hear(&[start(), end("end_turn")]).unwrap_err().class, ErrorClass::Broken);
    }

    #[test]
    fn an_error_in_the_middle_is_judged_by_its_type() {
        let check = |kind: &str, expected: ErrorClass| {
            let error = json!({"type": "error", "error": {"type": kind, "message": "no"}});
            assert_eq!(hear(&[start(), text("half"), error]).unwrap_err().class, expected, "{kind}");
        };
        check("overloaded_error", ErrorClass::RateLimited);
        check("api_error", ErrorClass::Ambiguous);
        check("something_new", ErrorClass::Ambiguous);
        check("billing_error", ErrorClass::Quota);
    }
}
