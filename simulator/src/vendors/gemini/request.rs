//! What Gemini's `generateContent` accepts, field by field.
//!
//! The vendor takes camelCase and snake_case alike and refuses names it does not know, which is how a misspelt
//! field is found out; both habits are kept here.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use crate::{
    content::png,
    fields::{Complaint, Fields},
};

const BODY: &[&str] = &[
    "contents",
    "systemInstruction",
    "generationConfig",
    "safetySettings",
    "tools",
    "toolConfig",
    "cachedContent",
    "model",
    "labels",
    "store",
    "serviceTier",
];
const GENERATION: &[&str] = &[
    "temperature",
    "topP",
    "topK",
    "maxOutputTokens",
    "candidateCount",
    "stopSequences",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "thinkingConfig",
    "responseModalities",
    "imageConfig",
    "seed",
    "presencePenalty",
    "frequencyPenalty",
    "responseLogprobs",
    "logprobs",
    "speechConfig",
    "mediaResolution",
];
const PART: &[&str] = &[
    "text",
    "inlineData",
    "fileData",
    "thought",
    "thoughtSignature",
    "functionCall",
    "functionResponse",
    "videoMetadata",
];

/// A `generateContent` request, understood.
#[derive(Debug)]
pub(crate) struct Generation {
    /// The text of the last user turn.
    pub prompt: String,
    /// How many pictures came along.
    pub pictures: usize,
    /// Whether a picture is wanted.
    pub wants_image: bool,
    /// Whether words are wanted.
    pub wants_text: bool,
    /// Width and height of the picture.
    pub size: (u32, u32),
    /// The longest a text may be.
    pub tokens_max: Option<u32>,
}

impl Generation {
    /// Reads a request for this model.
    pub fn read(model: &str, body: Value) -> Result<Self, Complaint> {
        let body = camel(body);
        let fields = Fields::of(&body, "body")?;
        known(&fields, BODY, "")?;
        let mut prompt = String::new();
        let mut pictures = 0;
        for (index, turn) in fields.list("contents")?.iter().enumerate() {
            let turn = read_turn(turn, index)?;
            pictures += turn.pictures;
            if turn.is_user {
                prompt = turn.text;
            }
        }
        let draws = model.contains("image");
        let mut generation = Self {
            prompt,
            pictures,
            wants_image: draws,
            wants_text: true,
            size: (1024, 1024),
            tokens_max: None,
        };
        if let Some(config) = fields.get("generationConfig") {
            generation.configure(model, config)?;
        }
        Ok(generation)
    }

    fn configure(&mut self, model: &str, config: &Value) -> Result<(), Complaint> {
        let draws = self.wants_image;
        let config = Fields::of(config, "generation_config")?;
        known(&config, GENERATION, " at 'generation_config'")?;
        config.number("temperature", 0.0..=2.0)?;
        config.number("topP", 0.0..=1.0)?;
        self.tokens_max = config.integer("maxOutputTokens", 1..=u32::MAX)?;
        config.integer("candidateCount", 1..=1)?;
        if config.get("responseModalities").is_some() {
            let wanted = config.list("responseModalities")?;
            if let Some(stranger) = wanted.iter().find(|name| *name != "TEXT" && *name != "IMAGE") {
                let text = format!("Invalid value at 'generation_config.response_modalities': {stranger}");
                return Err(Complaint::of("responseModalities", text));
            }
            self.wants_image = wanted.iter().any(|name| name == "IMAGE");
            self.wants_text = wanted.iter().any(|name| name == "TEXT");
        }
        if self.wants_image && !draws {
            let text = "Model does not support the requested response modalities: image,text";
            return Err(Complaint::of("responseModalities", text));
        }
        let Some(image) = config.get("imageConfig") else { return Ok(()) };
        let image = Fields::of(image, "image_config")?;
        known(&image, &["aspectRatio", "imageSize"], " at 'generation_config.image_config'")?;
        let ratios: Vec<_> = png::SIZES.iter().map(|(name, _)| *name).collect();
        let ratio = image.choice("aspectRatio", &ratios)?.unwrap_or("1:1");
        // Only the third generation of image models has sizes.
        if image.get("imageSize").is_some() && model.contains("2.5") {
            return Err(Complaint::of("imageSize", format!("image_size is not supported by {model}")));
        }
        let scale = match image.choice("imageSize", &["1K", "2K", "4K"])? {
            Some("2K") => 2,
            Some("4K") => 4,
            _ => 1,
        };
        let (width, height) = png::size_of(ratio);
        self.size = (width * scale, height * scale);
        Ok(())
    }
}

struct Turn {
    is_user: bool,
    text: String,
    pictures: usize,
}

fn read_turn(turn: &Value, index: usize) -> Result<Turn, Complaint> {
    let place = format!(" at 'contents[{index}]'");
    let turn = Fields::of(turn, "contents")?;
    known(&turn, &["role", "parts"], &place)?;
    let role = turn.choice("role", &["user", "model"])?.unwrap_or("user");
    let mut texts = Vec::new();
    let mut pictures = 0;
    for part in turn.list("parts")? {
        let part = Fields::of(part, "parts")?;
        known(&part, PART, &place)?;
        if let Some(text) = part.optional_text("text", usize::MAX)? {
            texts.push(text);
        }
        if let Some(data) = part.get("inlineData") {
            read_picture(data)?;
            pictures += 1;
        }
    }
    Ok(Turn { is_user: role == "user", text: texts.join(" "), pictures })
}

fn read_picture(data: &Value) -> Result<(), Complaint> {
    let data = Fields::of(data, "inline_data")?;
    known(&data, &["mimeType", "data", "displayName"], " at 'inline_data'")?;
    let media_type = data.text("mimeType", 256)?;
    let Ok(bytes) = STANDARD.decode(data.text("data", usize::MAX)?) else {
        let text =
            "Invalid value at 'contents[0].parts[0].inline_data.data' (TYPE_BYTES), Base64 decoding failed";
        return Err(Complaint::of("data", text));
    };
    if media_type.starts_with("image/") && image::guess_format(&bytes).is_err() {
        return Err(Complaint::of("data", "Unable to process input image. Please retry or report"));
    }
    Ok(())
}

fn known(fields: &Fields<'_>, names: &[&str], place: &str) -> Result<(), Complaint> {
    fields.only(names).map_err(|complaint| {
        let name = complaint.field.unwrap_or_default();
        let text =
            format!("Invalid JSON payload received. Unknown name \"{name}\"{place}: Cannot find field.");
        Complaint::of(&name, text)
    })
}

/// The same value with every key in camelCase, except inside schemas and tools, whose keys are the client's own.
fn camel(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let renamed = map.into_iter().map(|(key, value)| {
                let key = camel_key(&key);
                let own = ["responseSchema", "responseJsonSchema", "tools", "labels"].contains(&key.as_str());
                let value = if own { value } else { camel(value) };
                (key, value)
            });
            Value::Object(renamed.collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(camel).collect()),
        other => other,
    }
}

fn camel_key(key: &str) -> String {
    let mut renamed = String::with_capacity(key.len());
    let mut raise = false;
    for letter in key.chars() {
        match letter {
            '_' => raise = true,
            _ if raise => {
                renamed.extend(letter.to_uppercase());
                raise = false;
            }
            _ => renamed.push(letter),
        }
    }
    renamed
}
