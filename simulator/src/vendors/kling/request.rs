//! What Kling's video endpoints accept, field by field.
//!
//! The vendor wants the duration as a *string* and pictures as bare base64 without a `data:` prefix; both are easy
//! to get wrong and so are checked to the letter. A picture given by URL is taken on trust, nothing is fetched.

use std::io::Cursor;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use image::{ImageFormat, ImageReader};
use serde_json::Value;

use crate::{
    content::mp4,
    fields::{Complaint, Fields},
};

/// The vendor's limits for a picture: 10 MB, 300 pixels a side, 1:2.5 to 2.5:1.
const PICTURE_BYTES_MAX: usize = 10 * 1024 * 1024;
const PICTURE_SIDE_MIN: u32 = 300;
/// The vendor's limit for a prompt.
const PROMPT_CHARS_MAX: usize = 2500;

const MODELS: &[&str] = &[
    "kling-v1",
    "kling-v1-5",
    "kling-v1-6",
    "kling-v2-master",
    "kling-v2-1",
    "kling-v2-1-master",
    "kling-v2-5-turbo",
    "kling-v2-6",
    "kling-v3",
];

/// A video order, understood.
#[derive(Debug)]
pub(crate) struct Order {
    /// The prompt; may be empty when a picture leads.
    pub prompt: String,
    /// The client's own name for the task.
    pub external_task_id: Option<String>,
    /// Width and height of the film.
    pub frame: (u16, u16),
    /// Length of the film.
    pub seconds: u16,
}

impl Order {
    /// Reads an order of this kind, `text2video` or `image2video`.
    pub fn read(kind: &str, body: &Value) -> Result<Self, Complaint> {
        let fields = Fields::of(body, "body")?;
        let model = fields.choice("model_name", MODELS)?.unwrap_or("kling-v1");
        fields.choice("mode", &["std", "pro"])?;
        fields.choice("sound", &["on", "off"])?;
        fields.optional_text("negative_prompt", PROMPT_CHARS_MAX)?;
        fields.optional_text("callback_url", 2048)?;
        if fields.number("cfg_scale", 0.0..=1.0)?.is_some() && model.starts_with("kling-v2") {
            return Err(Complaint::of("cfg_scale", format!("cfg_scale is not supported by model {model}")));
        }
        let from_picture = kind == "image2video";
        let prompt = match fields.optional_text("prompt", PROMPT_CHARS_MAX)? {
            None if from_picture => "",
            _ => fields.text("prompt", PROMPT_CHARS_MAX)?,
        };
        let external_task_id = fields.optional_text("external_task_id", 256)?;
        Ok(Self {
            prompt: prompt.to_owned(),
            external_task_id: external_task_id.filter(|id| !id.is_empty()).map(str::to_owned),
            frame: if from_picture { frame_of_pictures(&fields)? } else { frame_of_ratio(&fields)? },
            seconds: read_duration(&fields, model)?,
        })
    }
}

fn read_duration(fields: &Fields<'_>, model: &str) -> Result<u16, Complaint> {
    const SHORT_OR_LONG: &[&str] = &["5", "10"];
    const ANY: &[&str] = &["3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"];
    let allowed = if model == "kling-v3" { ANY } else { SHORT_OR_LONG };
    let duration = fields.choice("duration", allowed)?.unwrap_or("5");
    duration.parse().map_err(|_| Complaint::of("duration", "duration is not a number"))
}

fn frame_of_ratio(fields: &Fields<'_>) -> Result<(u16, u16), Complaint> {
    if fields.get("image").is_some() {
        return Err(Complaint::of("image", "image is not a parameter of text2video"));
    }
    Ok(match fields.choice("aspect_ratio", &["16:9", "9:16", "1:1"])? {
        Some("9:16") => mp4::frame_of(9, 16),
        Some("1:1") => mp4::frame_of(1, 1),
        _ => mp4::frame_of(16, 9),
    })
}

/// The film is shaped like its first picture; a picture by URL counts as wide.
fn frame_of_pictures(fields: &Fields<'_>) -> Result<(u16, u16), Complaint> {
    let mut frame = None;
    for name in ["image", "image_tail"] {
        if let Some(text) = fields.optional_text(name, usize::MAX)? {
            let (width, height) = read_picture(name, text)?;
            frame = frame.or(Some(mp4::frame_of(width, height)));
        }
    }
    frame.ok_or_else(|| Complaint::of("image", "image and image_tail cannot both be empty"))
}

fn read_picture(name: &str, text: &str) -> Result<(u32, u32), Complaint> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok((16, 9));
    }
    if text.starts_with("data:") {
        return Err(Complaint::of(name, format!("{name}: base64 must not have a data: prefix")));
    }
    let bytes = STANDARD.decode(text).map_err(|_| Complaint::of(name, format!("{name}: invalid base64")))?;
    if bytes.len() > PICTURE_BYTES_MAX {
        return Err(Complaint::of(name, format!("{name}: file size {} exceeds 10MB", bytes.len())));
    }
    let format = image::guess_format(&bytes).ok();
    let Some(format) = format.filter(|format| matches!(format, ImageFormat::Jpeg | ImageFormat::Png)) else {
        return Err(Complaint::of(
            name,
            format!("{name}: image format is not supported, only jpg and png are"),
        ));
    };
    let (width, height) = ImageReader::with_format(Cursor::new(&bytes), format)
        .into_dimensions()
        .map_err(|_| Complaint::of(name, format!("{name}: image cannot be read")))?;
    if width.min(height) < PICTURE_SIDE_MIN {
        return Err(Complaint::of(name, format!("{name}: image of {width}x{height} is smaller than 300px")));
    }
    if width * 2 > height * 5 || height * 2 > width * 5 {
        return Err(Complaint::of(
            name,
            format!("{name}: aspect ratio of {width}x{height} is not in 1:2.5 ~ 2.5:1"),
        ));
    }
    Ok((width, height))
}
