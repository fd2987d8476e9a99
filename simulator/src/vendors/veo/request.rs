//! What Veo accepts, field by field: one instance, its pictures as base64, and the length as a *number*.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    content::mp4,
    fields::{Complaint, Fields},
};

/// The models there are.
pub(super) const MODELS: &[&str] =
    &["veo-3.1-generate-001", "veo-3.1-fast-generate-001", "veo-3.1-lite-generate-001"];

/// About 1024 tokens, with room.
const PROMPT_CHARS_MAX: usize = 8000;

/// A film to be made, understood.
#[derive(Debug)]
pub(super) struct Order {
    /// The prompt.
    pub prompt: String,
    /// Width and height of the film.
    pub frame: (u16, u16),
    /// Length of the film.
    pub seconds: u16,
    /// Who is told when the operation is over.
    pub webhooks: Vec<String>,
}

impl Order {
    /// Reads the body of a request to this model.
    pub fn read(model: &str, body: &Value) -> Result<Self, Complaint> {
        let fields = Fields::of(body, "body")?;
        fields.only(&["instances", "parameters", "webhookConfig"])?;
        let [instance] = fields.list("instances")? else {
            return Err(Complaint::of("instances", "there must be one instance"));
        };
        let instance = Fields::of(instance, "instances")?;
        instance.only(&["prompt", "image", "lastFrame"])?;
        let prompt = instance.text("prompt", PROMPT_CHARS_MAX)?.to_owned();
        for name in ["image", "lastFrame"] {
            if let Some(picture) = instance.get(name) {
                read_picture(name, picture)?;
            }
        }
        let mut webhooks = Vec::new();
        if let Some(config) = fields.get("webhookConfig") {
            let uris = Fields::of(config, "webhookConfig")?.list("uris")?;
            webhooks.extend(uris.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        let nothing = Value::Object(serde_json::Map::new());
        let parameters = Fields::of(fields.get("parameters").unwrap_or(&nothing), "parameters")?;
        let (frame, seconds) = read_parameters(model, &parameters)?;
        Ok(Self { prompt, frame, seconds, webhooks })
    }
}

fn read_parameters(model: &str, parameters: &Fields<'_>) -> Result<((u16, u16), u16), Complaint> {
    parameters.only(&[
        "aspectRatio",
        "durationSeconds",
        "resolution",
        "negativePrompt",
        "personGeneration",
        "sampleCount",
    ])?;
    parameters.optional_text("negativePrompt", PROMPT_CHARS_MAX)?;
    parameters.choice("personGeneration", &["allow_all", "allow_adult", "dont_allow"])?;
    parameters.integer("sampleCount", 1..=1)?;
    let (width, height) = match parameters.choice("aspectRatio", &["16:9", "9:16"])? {
        Some("9:16") => (9, 16),
        _ => (16, 9),
    };
    let seconds = match parameters.integer("durationSeconds", 4..=8)?.unwrap_or(8) {
        4 => 4,
        6 => 6,
        8 => 8,
        other => {
            let text = format!("durationSeconds must be 4, 6 or 8, got {other}");
            return Err(Complaint::of("durationSeconds", text));
        }
    };
    let sizes: &[&str] = if model.contains("lite") { &["720p", "1080p"] } else { &["720p", "1080p", "4k"] };
    let resolution = parameters.choice("resolution", sizes)?.unwrap_or("720p");
    if resolution != "720p" && seconds != 8 {
        return Err(Complaint::of("resolution", format!("{resolution} needs a duration of 8 seconds")));
    }
    let lines = match resolution {
        "4k" => 2160,
        "1080p" => 1080,
        _ => 720,
    };
    Ok((mp4::frame_of(width, height, lines), seconds))
}

fn read_picture(name: &str, picture: &Value) -> Result<(), Complaint> {
    let fields = Fields::of(picture, name)?;
    fields.only(&["bytesBase64Encoded", "mimeType"])?;
    fields.choice("mimeType", &["image/png", "image/jpeg", "image/webp"])?;
    let bytes = STANDARD.decode(fields.text("bytesBase64Encoded", usize::MAX)?);
    let bytes = bytes.map_err(|_| Complaint::of(name, format!("{name} is not base64")))?;
    let is_picture = image::guess_format(&bytes).is_ok();
    if is_picture { Ok(()) } else { Err(Complaint::of(name, format!("{name} is not an image"))) }
}
