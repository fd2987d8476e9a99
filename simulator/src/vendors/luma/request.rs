//! What Luma accepts, field by field, by either interface: lengths as `5s`, pictures by their address.

use serde_json::Value;

use crate::{
    content::mp4,
    fields::{Complaint, Fields},
};

/// The limit for a prompt.
const PROMPT_CHARS_MAX: usize = 6000;

/// A film to be made, understood.
#[derive(Debug)]
pub(super) struct Order {
    /// The prompt.
    pub prompt: String,
    /// Width and height of the film.
    pub frame: (u16, u16),
    /// Length of the film.
    pub seconds: u16,
    /// Who is told when it is over.
    pub callback_url: Option<String>,
}

impl Order {
    /// Reads a request to Dream Machine.
    pub fn read_dream(body: &Value) -> Result<Self, Complaint> {
        let fields = Fields::of(body, "body")?;
        fields.only(&[
            "generation_type",
            "model",
            "prompt",
            "aspect_ratio",
            "duration",
            "resolution",
            "loop",
            "keyframes",
            "concepts",
            "callback_url",
        ])?;
        needed(&fields, "model", &["ray-2", "ray-flash-2", "ray-1-6"])?;
        fields.flag("loop")?;
        let resolution = fields.choice("resolution", &["540p", "720p", "1080p", "4k"])?;
        if let Some(keyframes) = fields.get("keyframes") {
            let keyframes = Fields::of(keyframes, "keyframes")?;
            keyframes.only(&["frame0", "frame1"])?;
            for name in ["frame0", "frame1"] {
                let Some(frame) = keyframes.get(name) else { continue };
                let frame = Fields::of(frame, name)?;
                frame.only(&["type", "url"])?;
                needed(&frame, "type", &["image"])?;
                address(&frame)?;
            }
        }
        let ratios = ["1:1", "16:9", "9:16", "4:3", "3:4", "21:9", "9:21"];
        Ok(Self {
            prompt: fields.text("prompt", PROMPT_CHARS_MAX)?.to_owned(),
            frame: frame_of(fields.choice("aspect_ratio", &ratios)?, resolution),
            seconds: seconds(&fields, &["5s", "9s"])?,
            callback_url: fields.optional_text("callback_url", 2048)?.map(str::to_owned),
        })
    }

    /// Reads a request of an agent.
    pub fn read_work(body: &Value) -> Result<Self, Complaint> {
        let fields = Fields::of(body, "body")?;
        fields.only(&["type", "model", "prompt", "aspect_ratio", "video"])?;
        needed(&fields, "type", &["video"])?;
        needed(&fields, "model", &["ray-3.2"])?;
        let nothing = Value::Object(serde_json::Map::new());
        let video = Fields::of(fields.get("video").unwrap_or(&nothing), "video")?;
        video.only(&["resolution", "duration", "start_frame", "end_frame", "loop"])?;
        video.flag("loop")?;
        let resolution = video.choice("resolution", &["360p", "540p", "720p", "1080p"])?;
        let seconds = seconds(&video, &["5s", "10s"])?;
        for name in ["start_frame", "end_frame"] {
            let Some(frame) = video.get(name) else { continue };
            let frame = Fields::of(frame, name)?;
            frame.only(&["url"])?;
            address(&frame)?;
            if seconds != 5 {
                return Err(Complaint::of("duration", format!("a film with {name} takes five seconds")));
            }
        }
        let ratios = ["1:1", "16:9", "9:16", "4:3", "3:4", "21:9"];
        Ok(Self {
            prompt: fields.text("prompt", PROMPT_CHARS_MAX)?.to_owned(),
            frame: frame_of(fields.choice("aspect_ratio", &ratios)?, resolution),
            seconds,
            callback_url: None,
        })
    }
}

fn needed(fields: &Fields<'_>, name: &str, allowed: &[&str]) -> Result<(), Complaint> {
    match fields.choice(name, allowed)? {
        Some(_) => Ok(()),
        None => Err(Complaint::of(name, format!("{name} is required"))),
    }
}

fn seconds(fields: &Fields<'_>, allowed: &[&str]) -> Result<u16, Complaint> {
    let word = fields.choice("duration", allowed)?.unwrap_or("5s");
    let number = word.strip_suffix('s').and_then(|number| number.parse().ok());
    number.ok_or_else(|| Complaint::of("duration", "duration must be a number of seconds such as 5s"))
}

fn frame_of(ratio: Option<&str>, resolution: Option<&str>) -> (u16, u16) {
    let (width, height) = ratio.and_then(|ratio| ratio.split_once(':')).unwrap_or(("16", "9"));
    let lines = match resolution {
        Some("4k") => 2160,
        named => named.and_then(|named| named.trim_end_matches('p').parse().ok()).unwrap_or(720),
    };
    mp4::frame_of(width.parse().unwrap_or(16), height.parse().unwrap_or(9), lines)
}

fn address(frame: &Fields<'_>) -> Result<(), Complaint> {
    let url = frame.text("url", 4096)?;
    let is_address = ["https://", "http://"].iter().any(|scheme| url.starts_with(scheme));
    if is_address { Ok(()) } else { Err(Complaint::of("url", "a picture must be given by its URL")) }
}
