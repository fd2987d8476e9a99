//! What the Messages API accepts, field by field.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    fields::{Complaint, Fields},
    vendors::openai::chat_request::tokens,
};

const KNOWN: &[&str] = &[
    "model",
    "max_tokens",
    "system",
    "messages",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "stream",
    "metadata",
    "tools",
    "tool_choice",
    "thinking",
    "service_tier",
];

/// A request, understood.
pub(super) struct Order {
    /// The model asked for.
    pub model: String,
    /// The text of the last message of the user's.
    pub question: String,
    /// What the whole conversation counts as.
    pub read: usize,
    /// The longest the answer may be.
    pub tokens_max: u32,
    /// The tool that must be used.
    pub tool: Option<String>,
    /// Whether the answer comes in pieces.
    pub stream: bool,
}

impl Order {
    /// Reads a request.
    pub fn read(body: &Value) -> Result<Self, Complaint> {
        let fields = Fields::of(body, "body")?;
        fields.only(KNOWN)?;
        let tokens_max = fields
            .integer("max_tokens", 1..=u32::MAX)?
            .ok_or_else(|| Complaint::of("max_tokens", "max_tokens: Field required"))?;
        fields.number("temperature", 0.0..=1.0)?;
        fields.number("top_p", 0.0..=1.0)?;
        let mut chars = match fields.get("system") {
            Some(system) => read_content(system)?.chars().count(),
            None => 0,
        };
        let (mut question, mut last) = (String::new(), None);
        for message in fields.list("messages")? {
            let message = Fields::of(message, "messages")?;
            message.only(&["role", "content"])?;
            let role = message
                .choice("role", &["user", "assistant"])?
                .ok_or_else(|| Complaint::of("messages", "messages.role: Field required"))?;
            let said = read_content(message.get("content").unwrap_or(&Value::Null))?;
            chars += said.chars().count();
            if role == "user" {
                question = said;
            } else if last.is_none() {
                return Err(Complaint::of("messages", "messages: first message must use the \"user\" role"));
            }
            last = Some(role);
        }
        Ok(Self {
            model: fields.text("model", 256)?.to_owned(),
            question,
            read: tokens(chars),
            tokens_max,
            tool: read_tool(&fields)?,
            stream: fields.flag("stream")?.unwrap_or(false),
        })
    }
}

/// The text of some content.
fn read_content(content: &Value) -> Result<String, Complaint> {
    match content {
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        Value::Array(blocks) if !blocks.is_empty() => {
            let texts: Result<Vec<_>, _> = blocks.iter().map(read_block).collect();
            Ok(texts?.join(" ").trim().to_owned())
        }
        _ => Err(Complaint::of("content", "messages: content must not be empty")),
    }
}

fn read_block(block: &Value) -> Result<String, Complaint> {
    let block = Fields::of(block, "content")?;
    match block.choice("type", &["text", "image", "tool_use", "tool_result"])? {
        Some("text") => {
            block.only(&["type", "text", "cache_control"])?;
            Ok(block.text("text", usize::MAX)?.to_owned())
        }
        Some("image") => {
            block.only(&["type", "source"])?;
            read_source(block.get("source").unwrap_or(&Value::Null))?;
            Ok(String::new())
        }
        Some("tool_use") => {
            block.only(&["type", "id", "name", "input"])?;
            block.text("id", 256)?;
            block.text("name", 128)?;
            Fields::of(block.get("input").unwrap_or(&Value::Null), "input")?;
            Ok(String::new())
        }
        Some(_) => {
            block.only(&["type", "tool_use_id", "content", "is_error"])?;
            block.text("tool_use_id", 256)?;
            read_content(block.get("content").unwrap_or(&Value::Null))
        }
        None => Err(Complaint::of("content", "content.type: Field required")),
    }
}

fn read_source(source: &Value) -> Result<(), Complaint> {
    let source = Fields::of(source, "source")?;
    match source.choice("type", &["base64", "url"])? {
        Some("base64") => {
            const KINDS: &[&str] = &["image/jpeg", "image/png", "image/gif", "image/webp"];
            source.choice("media_type", KINDS)?;
            let bytes = STANDARD.decode(source.text("data", usize::MAX)?);
            let is_picture = bytes.is_ok_and(|bytes| image::guess_format(&bytes).is_ok());
            is_picture.then_some(()).ok_or_else(|| Complaint::of("data", "Could not process image"))
        }
        Some(_) => source.text("url", usize::MAX).map(drop),
        None => Err(Complaint::of("source", "source.type: Field required")),
    }
}

/// The tool that `tool_choice` demands: one by its name, or the first of all.
fn read_tool(fields: &Fields<'_>) -> Result<Option<String>, Complaint> {
    let mut names = Vec::new();
    if fields.get("tools").is_some() {
        for tool in fields.list("tools")? {
            let tool = Fields::of(tool, "tools")?;
            tool.only(&["name", "description", "input_schema"])?;
            Fields::of(tool.get("input_schema").unwrap_or(&Value::Null), "input_schema")?;
            names.push(tool.text("name", 128)?.to_owned());
        }
    }
    let Some(choice) = fields.get("tool_choice") else { return Ok(None) };
    let choice = Fields::of(choice, "tool_choice")?;
    let wanted = match choice.choice("type", &["auto", "none", "any", "tool"])? {
        Some("any") => names.first(),
        Some("tool") => {
            let name = choice.text("name", 128)?;
            names.iter().find(|known| *known == name)
        }
        _ => return Ok(None),
    };
    let missing = || Complaint::of("tool_choice", "tool_choice: tool not found in tools");
    wanted.cloned().map(Some).ok_or_else(missing)
}
