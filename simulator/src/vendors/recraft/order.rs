//! What Recraft's endpoints accept, field by field and part by part.

use std::ops::RangeInclusive;

use serde_json::Value;

use crate::{
    fields::{Complaint, Fields},
    form::Form,
    task::Makes,
};

/// The models that draw in pixels, and what a picture by each costs in units of a tenth of a cent.
const MODELS: &[(&str, u32)] = &[
    ("recraftv4_1", 40),
    ("recraftv4_1_pro", 250),
    ("recraftv4_1_utility", 40),
    ("recraftv4", 40),
    ("recraftv3", 40),
    ("recraftv2", 22),
];
/// The tools, what they cost, how much larger than its source the result is, and whether it comes in a list.
const TOOLS: &[(&str, u32, u32, bool)] = &[
    ("vectorize", 10, 1, false),
    ("removeBackground", 10, 1, false),
    ("crispUpscale", 4, 2, false),
    ("creativeUpscale", 250, 2, false),
    ("replaceBackground", 40, 1, true),
];
const STYLES: &[&str] = &["realistic_image", "digital_illustration", "logo_raster"];
/// The sizes of the third generation.
const SIZES: &[&str] = &[
    "1024x1024",
    "1365x1024",
    "1024x1365",
    "1536x1024",
    "1024x1536",
    "1820x1024",
    "1024x1820",
    "1024x2048",
    "2048x1024",
    "1434x1024",
    "1024x1434",
    "1024x1280",
    "1280x1024",
    "1024x1707",
    "1707x1024",
];
const GENERATION: &[&str] = &[
    "prompt",
    "model",
    "style",
    "substyle",
    "style_id",
    "size",
    "n",
    "response_format",
    "image_format",
    "negative_prompt",
    "controls",
    "text_layout",
    "random_seed",
    "block_nsfw",
    "calculate_features",
    "expire",
];
/// How many pictures may be asked for at once.
const COUNT: RangeInclusive<u32> = 1..=6;
/// The limits for a prompt: of the second and third generation, and of the fourth.
const PROMPT_CHARS_MAX: (usize, usize) = (1000, 10_000);

/// Whether there is a tool of that name.
pub(crate) fn is_tool(name: &str) -> bool {
    TOOLS.iter().any(|tool| tool.0 == name)
}

/// An order, understood.
#[derive(Debug)]
pub(crate) struct Order {
    /// The prompt, and the size of the picture that came along.
    pub prompt: String,
    /// Width and height of each result.
    pub size: (u32, u32),
    /// How many results.
    pub count: u32,
    /// What kind of file they are.
    pub makes: Makes,
    /// Whether they come in the answer.
    pub inline: bool,
    /// Whether the answer holds a list.
    pub is_list: bool,
    /// What each costs.
    pub credits: u32,
}

impl Order {
    /// Reads an order for pictures from words.
    pub fn of_words(body: &Value) -> Result<Self, Complaint> {
        let fields = Fields::of(body, "body")?;
        fields.only(GENERATION)?;
        let models: Vec<_> = MODELS.iter().map(|(name, _)| *name).collect();
        let model = fields.choice("model", &models)?.unwrap_or("recraftv4_1");
        let is_old = ["recraftv2", "recraftv3"].contains(&model);
        let prompt = fields.text("prompt", if is_old { PROMPT_CHARS_MAX.0 } else { PROMPT_CHARS_MAX.1 })?;
        fields.optional_text("negative_prompt", PROMPT_CHARS_MAX.1)?;
        fields.optional_text("substyle", 100)?;
        fields.integer("random_seed", 0..=u32::MAX)?;
        fields.flag("block_nsfw")?;
        fields.flag("calculate_features")?;
        let styled = fields.choice("style", STYLES)?.is_some();
        if styled && fields.optional_text("style_id", 36)?.is_some() {
            return Err(Complaint::of("style_id", "style_id and style exclude each other"));
        }
        if fields.get("text_layout").is_some() && model != "recraftv3" {
            return Err(Complaint::of("text_layout", "text_layout is for recraftv3"));
        }
        let size = fields.choice("size", SIZES)?.unwrap_or("1024x1024");
        fields.choice("image_format", &["png"])?;
        Ok(Self {
            prompt: prompt.to_owned(),
            size: read_size(size),
            count: fields.integer("n", COUNT)?.unwrap_or(1),
            makes: Makes::Png,
            inline: fields.choice("response_format", &["url", "b64_json"])? == Some("b64_json"),
            is_list: true,
            credits: MODELS.iter().find(|(name, _)| *name == model).map_or(40, |(_, credits)| *credits),
        })
    }

    /// Reads the form of a tool. The picture's part may bear its old name.
    pub fn of_picture(tool: &str, form: &Form) -> Result<Self, Complaint> {
        let unknown = || Complaint::general(format!("{tool} is no tool"));
        let (_, credits, times, is_list) = *TOOLS.iter().find(|known| known.0 == tool).ok_or_else(unknown)?;
        let mut texts = vec!["response_format", "image_format", "expire"];
        if is_list {
            texts.extend([
                "prompt",
                "style",
                "substyle",
                "style_id",
                "model",
                "n",
                "negative_prompt",
                "random_seed",
            ]);
        }
        form.only(&texts, &["image", "file"])?;
        let picture = match form.pictures("file")?.first() {
            Some(picture) => *picture,
            None => form.picture("image")?,
        };
        let said = if is_list { form.text("prompt", PROMPT_CHARS_MAX.1)? } else { "" };
        form.choice("style", STYLES)?;
        form.choice("image_format", &["png"])?;
        Ok(Self {
            prompt: [said, &picture.name()].join(" ").trim().to_owned(),
            size: picture.scaled(times),
            count: form.number("n", COUNT)?.unwrap_or(1),
            makes: if tool == "vectorize" { Makes::Svg } else { Makes::Png },
            inline: form.choice("response_format", &["url", "b64_json"])? == Some("b64_json"),
            is_list,
            credits,
        })
    }
}

/// Even sides, which the writer of pictures wants.
fn read_size(size: &str) -> (u32, u32) {
    let side = |text: &str| text.parse::<u32>().unwrap_or(1024) & !1;
    size.split_once('x').map_or((1024, 1024), |(width, height)| (side(width), side(height)))
}
