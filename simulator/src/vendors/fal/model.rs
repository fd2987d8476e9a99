//! The models at fal that are known here: what each is given, field by field, and what it answers with.

use serde_json::{Value, json};

use crate::{
    fields::{Complaint, Fields},
    files, picture,
    task::{Makes, Task},
};

/// The longest prompt that is read.
const PROMPT_CHARS_MAX: usize = 50_000;
/// The limit of the tracing model: 5 MB.
const TRACED_BYTES_MAX: usize = 5 * 1024 * 1024;
/// The most any other picture may weigh.
const PICTURE_BYTES_MAX: usize = 30 * 1024 * 1024;

/// The named sizes, with their pixels.
const SIZES: &[(&str, (u16, u16))] = &[
    ("square_hd", (1024, 1024)),
    ("square", (512, 512)),
    ("portrait_4_3", (768, 1024)),
    ("portrait_16_9", (576, 1024)),
    ("landscape_4_3", (1024, 768)),
    ("landscape_16_9", (1024, 576)),
];

/// A model.
#[derive(Debug)]
pub(super) struct Model {
    /// Owner, name, and what may follow.
    pub path: &'static str,
    /// What kind of file it makes.
    pub makes: Makes,
    /// Whether it answers with `images` rather than with `image`.
    lists: bool,
    read: fn(&Fields<'_>) -> Result<Order, Complaint>,
}

/// A request, understood.
#[derive(Debug)]
pub(super) struct Order {
    /// The prompt; the model's path where it takes none.
    pub prompt: String,
    /// Width and height of each picture.
    pub frame: (u16, u16),
    /// How many pictures.
    pub count: u16,
}

const MODELS: &[Model] = &[
    Model { path: "fal-ai/flux/dev", makes: Makes::Png, lists: true, read: flux },
    Model { path: "fal-ai/face-swap", makes: Makes::Png, lists: false, read: face_swap },
    Model { path: "fal-ai/birefnet", makes: Makes::Png, lists: false, read: remove_background },
    Model { path: "fal-ai/recraft/vectorize", makes: Makes::Svg, lists: false, read: vectorize },
];

impl Model {
    /// The model at this path.
    pub fn at(path: &str) -> Option<&'static Self> {
        MODELS.iter().find(|model| model.path == path)
    }

    /// Owner and name, which its requests live under.
    pub fn home(&self) -> String {
        self.path.split('/').take(2).collect::<Vec<_>>().join("/")
    }

    /// What it answers with; a hollow answer has no file.
    pub fn output(&self, task: &Task, root: &str, is_hollow: bool) -> Value {
        let file = |n| {
            json!({
                "url": files::nth_url(root, task, task.issued, n), "content_type": task.makes.mime_type(),
                "file_name": format!("{n}.{}", task.makes.extension()), "width": task.frame.0, "height": task.frame.1,
            })
        };
        let count = if is_hollow { 0 } else { u32::from(task.seconds) };
        let made: Vec<_> = (0..count).map(file).collect();
        if self.lists {
            let flags = vec![false; made.len()];
            return json!({ "images": made, "timings": {}, "seed": 7, "has_nsfw_concepts": flags, "prompt": task.prompt });
        }
        json!({ "image": made.first() })
    }
}

impl Order {
    /// Reads a request for this model.
    pub fn read(model: &Model, body: &Value) -> Result<Self, Complaint> {
        let order = (model.read)(&Fields::of(body, "body")?)?;
        let prompt = if order.prompt.is_empty() { model.path.to_owned() } else { order.prompt };
        Ok(Self { prompt, frame: picture::drawable(order.frame), count: order.count })
    }
}

fn flux(fields: &Fields<'_>) -> Result<Order, Complaint> {
    fields.only(&[
        "prompt",
        "image_size",
        "num_inference_steps",
        "seed",
        "guidance_scale",
        "sync_mode",
        "num_images",
        "enable_safety_checker",
        "output_format",
        "acceleration",
    ])?;
    fields.integer("seed", 0..=u32::MAX)?;
    fields.choice("output_format", &["jpeg", "png"])?;
    let names: Vec<_> = SIZES.iter().map(|(name, _)| *name).collect();
    let wanted = fields.choice("image_size", &names)?.unwrap_or("landscape_4_3");
    let frame = SIZES.iter().find(|(name, _)| *name == wanted).map_or((1024, 768), |(_, frame)| *frame);
    Ok(Order {
        prompt: fields.text("prompt", PROMPT_CHARS_MAX)?.to_owned(),
        frame,
        count: fields.integer("num_images", 1..=4)?.map_or(1, |count| u16::try_from(count).unwrap_or(1)),
    })
}

fn face_swap(fields: &Fields<'_>) -> Result<Order, Complaint> {
    fields.only(&["base_image_url", "swap_image_url"])?;
    picture::size(fields, "swap_image_url", PICTURE_BYTES_MAX)?;
    of_picture(fields, "base_image_url", PICTURE_BYTES_MAX)
}

fn remove_background(fields: &Fields<'_>) -> Result<Order, Complaint> {
    fields.only(&[
        "image_url",
        "model",
        "operating_resolution",
        "output_format",
        "output_mask",
        "refine_foreground",
        "sync_mode",
    ])?;
    fields.choice("output_format", &["webp", "png", "gif"])?;
    of_picture(fields, "image_url", PICTURE_BYTES_MAX)
}

fn vectorize(fields: &Fields<'_>) -> Result<Order, Complaint> {
    fields.only(&["image_url"])?;
    let order = of_picture(fields, "image_url", TRACED_BYTES_MAX)?;
    let (width, height) = order.frame;
    if width.min(height) <= 256 || width.max(height) >= 4096 {
        return Err(Complaint::of(
            "image_url",
            format!("image of {width}x{height} is too small or too large"),
        ));
    }
    Ok(order)
}

/// One picture of the size of the one in this field.
fn of_picture(fields: &Fields<'_>, name: &str, bytes_max: usize) -> Result<Order, Complaint> {
    Ok(Order { prompt: String::new(), frame: picture::size(fields, name, bytes_max)?, count: 1 })
}
