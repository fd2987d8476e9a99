//! What OpenAI chat completions accept, field by field.
//!
//! Unknown fields are refused, as the vendor does. Sampling and seeds are let through unread: they would change nothing
//! about a simulated answer. A tool is asked for only where the request demands one.

use serde_json::Value;

use crate::fields::{Complaint, Fields};

/// Characters a token stands for, on average.
pub(crate) const CHARS_PER_TOKEN: usize = 4;

/// The request fields that all vendors of this protocol document.
pub(crate) const COMMON: &[&str] = &[
    "model",
    "messages",
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "frequency_penalty",
    "presence_penalty",
    "response_format",
    "tools",
    "tool_choice",
    "logprobs",
    "top_logprobs",
    "stream",
    "stream_options",
];

/// Those that OpenAI has besides.
pub(crate) const OPENAI: &[&str] = &[
    "max_completion_tokens",
    "n",
    "logit_bias",
    "seed",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "reasoning_effort",
    "verbosity",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "user",
    "store",
    "metadata",
    "moderation",
    "modalities",
    "audio",
    "prediction",
    "web_search_options",
];

/// A chat request, understood.
#[derive(Debug)]
pub(crate) struct Chat {
    /// The model asked for.
    pub model: String,
    /// The text of the last user message.
    pub question: String,
    /// What the whole conversation counts as.
    pub prompt_tokens: usize,
    /// How many answers are wanted.
    pub choices: u32,
    /// The longest an answer may be.
    pub tokens_max: Option<u32>,
    /// Whether the answer must be a JSON object.
    pub wants_json: bool,
    /// Whether the answer comes in pieces.
    pub stream: bool,
    /// Whether a stream ends with the token counts.
    pub include_usage: bool,
    /// The function that must be called.
    pub tool: Option<String>,
    /// Whether each token's likelihood is told.
    pub logprobs: bool,
}

impl Chat {
    /// Reads a request that may have fields of these lists.
    pub fn read(body: &Value, known: &[&[&str]]) -> Result<Self, Complaint> {
        let fields = Fields::of(body, "body")?;
        fields.only(&known.concat())?;
        let model = fields.text("model", 256)?.to_owned();
        let messages = fields.list("messages")?;
        let mut question = String::new();
        let mut chars = 0;
        for (index, message) in messages.iter().enumerate() {
            let (role, text) = read_message(message, index)?;
            chars += text.chars().count();
            if role == "user" {
                question = text;
            }
        }
        fields.number("temperature", 0.0..=2.0)?;
        fields.number("top_p", 0.0..=1.0)?;
        fields.number("frequency_penalty", -2.0..=2.0)?;
        fields.number("presence_penalty", -2.0..=2.0)?;
        let newer = fields.integer("max_completion_tokens", 1..=u32::MAX)?;
        let older = fields.integer("max_tokens", 1..=u32::MAX)?;
        if newer.is_some() && older.is_some() {
            let text = "setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported";
            return Err(Complaint::of("max_tokens", text));
        }
        fields.optional_text("safety_identifier", 64)?;
        Ok(Self {
            model,
            question,
            prompt_tokens: tokens(chars) + 4 * messages.len(),
            choices: fields.integer("n", 1..=128)?.unwrap_or(1),
            tokens_max: newer.or(older),
            wants_json: read_format(&fields)?,
            stream: fields.flag("stream")?.unwrap_or(false),
            include_usage: match fields.get("stream_options") {
                Some(options) => {
                    Fields::of(options, "stream_options")?.flag("include_usage")?.unwrap_or(false)
                }
                None => false,
            },
            tool: read_tool(&fields)?,
            logprobs: fields.flag("logprobs")?.unwrap_or(false),
        })
    }
}

/// The function that `tool_choice` demands: one by its name, or the first of all.
fn read_tool(fields: &Fields<'_>) -> Result<Option<String>, Complaint> {
    let Some(choice) = fields.get("tool_choice") else { return Ok(None) };
    let mut names = Vec::new();
    for tool in fields.list("tools")? {
        let function = Fields::of(tool, "tools")?.get("function").unwrap_or(&Value::Null);
        names.push(Fields::of(function, "tools[].function")?.text("name", 64)?.to_owned());
    }
    let wanted = match choice {
        Value::String(word) if word == "required" => names.first(),
        Value::String(word) if word == "none" || word == "auto" => return Ok(None),
        choice => names.iter().find(|name| choice["function"]["name"] == **name),
    };
    let text = "invalid value for 'tool_choice'";
    wanted.cloned().map(Some).ok_or_else(|| Complaint::of("tool_choice", text))
}

/// The role and the text of one message.
fn read_message(message: &Value, index: usize) -> Result<(String, String), Complaint> {
    let name = format!("messages[{index}]");
    let fields = Fields::of(message, &name)?;
    const ROLES: &[&str] = &["system", "developer", "user", "assistant", "tool", "function"];
    let Some(role) = fields.choice("role", ROLES)? else {
        return Err(Complaint::of(&name, format!("missing required parameter: '{name}.role'")));
    };
    let text = match fields.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts: Result<Vec<_>, _> = parts.iter().map(|part| read_part(part, &name)).collect();
            texts?.join(" ")
        }
        None if role == "assistant" => String::new(),
        _ => return Err(Complaint::of(&name, format!("invalid type for '{name}.content'"))),
    };
    Ok((role.to_owned(), text))
}

/// The text of one content part; pictures and files have none.
fn read_part(part: &Value, name: &str) -> Result<String, Complaint> {
    let fields = Fields::of(part, name)?;
    match fields.choice("type", &["text", "image_url", "input_audio", "file", "refusal"])? {
        Some("text") => Ok(fields.text("text", usize::MAX)?.to_owned()),
        Some("image_url") => {
            let image = fields.get("image_url").unwrap_or(&Value::Null);
            Fields::of(image, "image_url")?.text("url", usize::MAX)?;
            Ok(String::new())
        }
        Some(_) => Ok(String::new()),
        None => Err(Complaint::of(name, format!("missing required parameter: '{name}.content[].type'"))),
    }
}

fn read_format(fields: &Fields<'_>) -> Result<bool, Complaint> {
    let Some(format) = fields.get("response_format") else { return Ok(false) };
    let format = Fields::of(format, "response_format")?;
    match format.choice("type", &["text", "json_object", "json_schema"])? {
        Some("json_schema") => {
            let schema = format.get("json_schema").unwrap_or(&Value::Null);
            Fields::of(schema, "response_format.json_schema")?.text("name", 64)?;
            Ok(true)
        }
        Some(kind) => Ok(kind == "json_object"),
        None => Err(Complaint::of("response_format", "missing required parameter: 'response_format.type'")),
    }
}

/// At least one token, however short the text.
pub(crate) fn tokens(chars: usize) -> usize {
    chars.div_ceil(CHARS_PER_TOKEN).max(1)
}
