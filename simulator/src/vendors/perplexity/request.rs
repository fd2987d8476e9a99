//! What Perplexity's Agent API accepts, field by field.

use serde_json::Value;

use crate::fields::{Complaint, Fields};

const KNOWN: &[&str] =
    &["model", "preset", "input", "instructions", "max_output_tokens", "temperature", "top_p", "stream"];

/// A question, understood.
pub(super) struct Question {
    /// The model asked for.
    pub model: String,
    /// The text of the last user message.
    pub text: String,
    /// The longest the answer may be.
    pub tokens_max: Option<u32>,
    /// Whether the answer comes in pieces.
    pub stream: bool,
}

impl Question {
    /// Reads a request.
    pub fn read(body: &Value) -> Result<Self, Complaint> {
        let fields = Fields::of(body, "body")?;
        fields.only(KNOWN)?;
        let model = match fields.optional_text("model", 256)? {
            Some(model) => model,
            None => fields.text("preset", 256)?,
        };
        fields.optional_text("instructions", usize::MAX)?;
        fields.number("temperature", 0.0..=2.0)?;
        fields.number("top_p", 0.0..=1.0)?;
        let mut text = String::new();
        for item in fields.list("input")? {
            let item = Fields::of(item, "input")?;
            item.only(&["type", "role", "content"])?;
            item.choice("type", &["message"])?;
            let said = item.text("content", usize::MAX)?;
            if item.choice("role", &["user", "assistant"])? == Some("user") {
                said.clone_into(&mut text);
            }
        }
        Ok(Self {
            model: model.to_owned(),
            text,
            tokens_max: fields.integer("max_output_tokens", 1..=u32::MAX)?,
            stream: fields.flag("stream")?.unwrap_or(false),
        })
    }
}
