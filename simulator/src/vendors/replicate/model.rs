//! The models on this account at Replicate, and what each is given, field by field.

use serde_json::Value;

use crate::{
    content::png,
    fields::{Complaint, Fields},
    picture,
};

/// The largest picture in a data URL, as the vendor advises.
const DATA_URL_BYTES_MAX: usize = 1_000_000;
/// The longest prompt that is read.
const PROMPT_CHARS_MAX: usize = 50_000;

/// A model, and how it is called.
#[derive(Debug)]
pub(super) struct Model {
    /// `owner/name`.
    pub name: &'static str,
    /// The version it is called by; none for official models, which are called by name.
    version: Option<&'static str>,
    /// Whether it answers with a list of addresses rather than with one.
    pub lists: bool,
    read: fn(&Fields<'_>) -> Result<Work, Complaint>,
}

/// What a model was asked for.
struct Work {
    prompt: Option<String>,
    frame: (u16, u16),
    count: u16,
}

/// A prediction's order, understood.
#[derive(Debug)]
pub(super) struct Order {
    /// The prompt; the model's name where it takes none.
    pub prompt: String,
    /// Width and height of each picture.
    pub frame: (u16, u16),
    /// How many pictures.
    pub count: u16,
    /// Where to ring.
    pub webhook: Option<String>,
}

const MODELS: &[Model] = &[
    Model { name: "black-forest-labs/flux-dev", version: None, lists: true, read: flux },
    Model {
        name: "codeplugtech/face-swap",
        version: Some("278a81e7ebb22db98bcba54de985d22cc1abeead2754eb1f2af717247be69b34"),
        lists: false,
        read: face_swap,
    },
    Model {
        name: "nightmareai/real-esrgan",
        version: Some("f121d640bd286e1fdc67f9799164c1d5be36ff74576ee11c803ae5b665dd46aa"),
        lists: false,
        read: upscale,
    },
    Model {
        name: "lucataco/remove-bg",
        version: Some("95fcc2a26d3899cd6c2691c900465aaeff466285a65c14638cc5f36f34befaf1"),
        lists: false,
        read: remove_background,
    },
];

impl Model {
    /// The model of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        MODELS.iter().find(|model| model.name == name)
    }

    /// The model that a request is for: by name at an official model's path, else by the version in the body.
    pub fn of(official: Option<&str>, body: &Value) -> Result<Option<&'static Self>, Complaint> {
        let fields = Fields::of(body, "body")?;
        if let Some(name) = official {
            return Ok(Self::named(name).filter(|model| model.version.is_none()));
        }
        let told = fields.text("version", 256)?;
        let is_this = |model: &&Self| {
            model
                .version
                .is_some_and(|version| told == version || told == format!("{}:{version}", model.name))
        };
        Ok(MODELS.iter().find(is_this))
    }
}

impl Order {
    /// Reads a request for this model.
    pub fn read(model: &Model, body: &Value) -> Result<Self, Complaint> {
        let fields = Fields::of(body, "body")?;
        match model.version {
            Some(_) => fields.only(&["version", "input", "webhook", "webhook_events_filter", "stream"])?,
            None => fields.only(&["input", "webhook", "webhook_events_filter", "stream"])?,
        }
        let webhook = fields.optional_text("webhook", 2048)?.map(str::to_owned);
        if fields.get("webhook_events_filter").is_some() {
            const EVENTS: [&str; 4] = ["start", "output", "logs", "completed"];
            let events = fields.list("webhook_events_filter")?;
            if !events.iter().all(|event| event.as_str().is_some_and(|event| EVENTS.contains(&event))) {
                return Err(Complaint::of("webhook_events_filter", "there is no such event"));
            }
        }
        let empty = Value::Object(serde_json::Map::new());
        let work = (model.read)(&Fields::of(fields.get("input").unwrap_or(&empty), "input")?)?;
        Ok(Self {
            prompt: work.prompt.unwrap_or_else(|| model.name.to_owned()),
            frame: picture::drawable(work.frame),
            count: work.count,
            webhook,
        })
    }
}

fn flux(fields: &Fields<'_>) -> Result<Work, Complaint> {
    const RATIOS: &[&str] =
        &["1:1", "16:9", "21:9", "3:2", "2:3", "4:5", "5:4", "3:4", "4:3", "9:16", "9:21"];
    fields.only(&[
        "prompt",
        "aspect_ratio",
        "image",
        "prompt_strength",
        "num_outputs",
        "num_inference_steps",
        "guidance",
        "seed",
        "output_format",
        "output_quality",
        "disable_safety_checker",
        "go_fast",
        "megapixels",
    ])?;
    fields.integer("seed", 0..=u32::MAX)?;
    fields.choice("output_format", &["webp", "jpg", "png"])?;
    let (width, height) = png::size_of(fields.choice("aspect_ratio", RATIOS)?.unwrap_or("1:1"));
    let side = |pixels: u32| u16::try_from(pixels).unwrap_or(1024);
    Ok(Work {
        prompt: Some(fields.text("prompt", PROMPT_CHARS_MAX)?.to_owned()),
        frame: (side(width), side(height)),
        count: fields.integer("num_outputs", 1..=4)?.map_or(1, |count| u16::try_from(count).unwrap_or(1)),
    })
}

fn face_swap(fields: &Fields<'_>) -> Result<Work, Complaint> {
    fields.only(&["input_image", "swap_image"])?;
    picture::size(fields, "swap_image", DATA_URL_BYTES_MAX)?;
    of_picture(fields, "input_image", 1)
}

fn upscale(fields: &Fields<'_>) -> Result<Work, Complaint> {
    fields.only(&["image", "scale", "face_enhance"])?;
    fields.flag("face_enhance")?;
    let scale = fields.integer("scale", 0..=10)?.unwrap_or(4);
    of_picture(fields, "image", u16::try_from(scale).unwrap_or(4))
}

fn remove_background(fields: &Fields<'_>) -> Result<Work, Complaint> {
    fields.only(&["image"])?;
    of_picture(fields, "image", 1)
}

/// One picture, so many times as large as the one in this field.
fn of_picture(fields: &Fields<'_>, name: &str, times: u16) -> Result<Work, Complaint> {
    let (width, height) = picture::size(fields, name, DATA_URL_BYTES_MAX)?;
    let frame = (width.saturating_mul(times), height.saturating_mul(times));
    Ok(Work { prompt: None, frame, count: 1 })
}
