//! What Kling's endpoints accept, field by field.
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
    task::Makes,
};

/// The vendor's limits for a picture: 10 MB, 300 pixels a side, 1:2.5 to 2.5:1.
const PICTURE_BYTES_MAX: usize = 10 * 1024 * 1024;
const PICTURE_SIDE_MIN: u32 = 300;
/// The vendor's limit for a prompt.
const PROMPT_CHARS_MAX: usize = 2500;
/// Lines of a film in the ordinary mode.
const LINES: u32 = 720;
/// Lines of a picture; few, as tests decode them.
const PICTURE_LINES: u32 = 36;

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

/// Models that make pictures.
const PICTURE_MODELS: &[&str] = &["kling-v1", "kling-v1-5", "kling-v2", "kling-v2-1"];
/// Effects with one picture, and those of two people.
const EFFECTS: &[&str] = &["fuzzyfuzzy", "squish", "expansion"];
const PAIR_EFFECTS: &[&str] = &["hug", "kiss", "heart_gesture"];

/// An order, understood.
#[derive(Debug)]
pub(crate) struct Order {
    /// The prompt; may be empty when a picture leads. Of an effect its name.
    pub prompt: String,
    /// The client's own name for the task.
    pub external_task_id: Option<String>,
    /// Width and height of the film or the pictures.
    pub frame: (u16, u16),
    /// Length of the film in seconds, or how many pictures.
    pub quantity: u16,
    /// What is made.
    pub makes: Makes,
    /// Who is told when the task is over.
    pub callback_url: Option<String>,
}

impl Order {
    /// Reads an order of this kind: `text2video`, `image2video`, `effects` or `generations`.
    pub fn read(kind: &str, body: &Value) -> Result<Self, Complaint> {
        let fields = Fields::of(body, "body")?;
        match kind {
            "effects" => Self::read_effect(&fields),
            "generations" => Self::read_picture(&fields),
            _ => Self::read_video(kind, &fields),
        }
    }

    fn read_effect(fields: &Fields<'_>) -> Result<Self, Complaint> {
        fields.only(&["effect_scene", "input", "callback_url", "external_task_id"])?;
        let known = [EFFECTS, PAIR_EFFECTS].concat();
        let Some(effect) = fields.choice("effect_scene", &known)? else {
            return Err(Complaint::of("effect_scene", "effect_scene is required"));
        };
        let Some(input) = fields.get("input") else {
            return Err(Complaint::of("input", "input is required"));
        };
        let input = Fields::of(input, "input")?;
        let (frame, seconds) = if PAIR_EFFECTS.contains(&effect) {
            input.only(&["model_name", "mode", "images", "duration"])?;
            input.choice("model_name", &["kling-v1", "kling-v1-5", "kling-v1-6"])?;
            let lines = read_lines(&input)?;
            let [left, right] = input.list("images")? else {
                return Err(Complaint::of("images", "images must be two"));
            };
            for picture in [left, right] {
                read_picture("images", picture.as_str().unwrap_or_default())?;
            }
            (mp4::frame_of(16, 9, lines), input.choice("duration", &["5", "10"])?)
        } else {
            input.only(&["model_name", "image", "duration"])?;
            input.choice("model_name", &["kling-v1-6"])?;
            let (width, height) = read_picture("image", input.text("image", usize::MAX)?)?;
            (mp4::frame_of(width, height, LINES), input.choice("duration", &["5"])?)
        };
        let Some(seconds) = seconds else { return Err(Complaint::of("duration", "duration is required")) };
        let quantity = if seconds == "10" { 10 } else { 5 };
        let external_task_id = read_name(fields)?;
        let callback_url = read_callback(fields)?;
        Ok(Self {
            prompt: effect.to_owned(),
            external_task_id,
            frame,
            quantity,
            makes: Makes::Mp4,
            callback_url,
        })
    }

    fn read_picture(fields: &Fields<'_>) -> Result<Self, Complaint> {
        fields.only(&[
            "model_name",
            "prompt",
            "negative_prompt",
            "n",
            "aspect_ratio",
            "callback_url",
            "external_task_id",
        ])?;
        fields.choice("model_name", PICTURE_MODELS)?;
        fields.optional_text("negative_prompt", PROMPT_CHARS_MAX)?;
        let ratios = ["16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3", "21:9"];
        let ratio = fields.choice("aspect_ratio", &ratios)?.unwrap_or("16:9").split_once(':');
        let side = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(1);
        let (width, height) = (side(ratio.map(|ratio| ratio.0)), side(ratio.map(|ratio| ratio.1)));
        let frame = mp4::frame_of(width, height, PICTURE_LINES);
        let count = fields.integer("n", 1..=9)?.unwrap_or(1);
        Ok(Self {
            prompt: fields.text("prompt", PROMPT_CHARS_MAX)?.to_owned(),
            external_task_id: read_name(fields)?,
            frame,
            quantity: u16::try_from(count).unwrap_or(1),
            makes: Makes::Png,
            callback_url: read_callback(fields)?,
        })
    }

    fn read_video(kind: &str, fields: &Fields<'_>) -> Result<Self, Complaint> {
        let model = fields.choice("model_name", MODELS)?.unwrap_or("kling-v1");
        let lines = read_lines(fields)?;
        fields.choice("sound", &["on", "off"])?;
        fields.optional_text("negative_prompt", PROMPT_CHARS_MAX)?;
        if fields.number("cfg_scale", 0.0..=1.0)?.is_some() && model.starts_with("kling-v2") {
            return Err(Complaint::of("cfg_scale", format!("cfg_scale is not supported by model {model}")));
        }
        let from_picture = kind == "image2video";
        let prompt = match fields.optional_text("prompt", PROMPT_CHARS_MAX)? {
            None if from_picture => "",
            _ => fields.text("prompt", PROMPT_CHARS_MAX)?,
        };
        Ok(Self {
            prompt: prompt.to_owned(),
            external_task_id: read_name(fields)?,
            frame: if from_picture {
                frame_of_pictures(fields, lines)?
            } else {
                frame_of_ratio(fields, lines)?
            },
            quantity: read_duration(fields, model)?,
            makes: Makes::Mp4,
            callback_url: read_callback(fields)?,
        })
    }
}

/// Who is told when the task is over.
fn read_callback(fields: &Fields<'_>) -> Result<Option<String>, Complaint> {
    Ok(fields.optional_text("callback_url", 2048)?.map(str::to_owned))
}

/// The client's own name for the task.
fn read_name(fields: &Fields<'_>) -> Result<Option<String>, Complaint> {
    let name = fields.optional_text("external_task_id", 256)?;
    Ok(name.filter(|name| !name.is_empty()).map(str::to_owned))
}

fn read_duration(fields: &Fields<'_>, model: &str) -> Result<u16, Complaint> {
    const SHORT_OR_LONG: &[&str] = &["5", "10"];
    const ANY: &[&str] = &["3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"];
    let allowed = if model == "kling-v3" { ANY } else { SHORT_OR_LONG };
    let duration = fields.choice("duration", allowed)?.unwrap_or("5");
    duration.parse().map_err(|_| Complaint::of("duration", "duration is not a number"))
}

/// Lines of a film in the mode that is asked for.
fn read_lines(fields: &Fields<'_>) -> Result<u32, Complaint> {
    let mode = fields.choice("mode", &["std", "pro"])?;
    Ok(if mode == Some("pro") { 1080 } else { LINES })
}

fn frame_of_ratio(fields: &Fields<'_>, lines: u32) -> Result<(u16, u16), Complaint> {
    if fields.get("image").is_some() {
        return Err(Complaint::of("image", "image is not a parameter of text2video"));
    }
    Ok(match fields.choice("aspect_ratio", &["16:9", "9:16", "1:1"])? {
        Some("9:16") => mp4::frame_of(9, 16, lines),
        Some("1:1") => mp4::frame_of(1, 1, lines),
        _ => mp4::frame_of(16, 9, lines),
    })
}

/// The film is shaped like its first picture; a picture by URL counts as wide.
fn frame_of_pictures(fields: &Fields<'_>, lines: u32) -> Result<(u16, u16), Complaint> {
    let mut frame = None;
    for name in ["image", "image_tail"] {
        if let Some(text) = fields.optional_text(name, usize::MAX)? {
            let (width, height) = read_picture(name, text)?;
            frame = frame.or(Some(mp4::frame_of(width, height, lines)));
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
