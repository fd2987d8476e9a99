//! What each of Stability's tools accepts, part by part.

use crate::{
    content::png,
    fields::Complaint,
    form::{Form, Picture},
};

/// The vendor's limit for a prompt.
const PROMPT_CHARS_MAX: usize = 10_000;
/// The vendor's limits for a picture that is sent in, in pixels.
const PIXELS: std::ops::RangeInclusive<u64> = 4_096..=9_437_184;
/// The vendor's limit for a picture whose background is removed.
const CUT_OUT_PIXELS_MAX: u64 = 4_194_304;
/// The largest seed.
const SEED_MAX: u64 = 4_294_967_294;

const RATIOS: &[&str] = &["21:9", "16:9", "3:2", "5:4", "1:1", "4:5", "2:3", "9:16", "9:21"];
const PRESETS: &[&str] = &[
    "3d-model",
    "analog-film",
    "anime",
    "cinematic",
    "comic-book",
    "digital-art",
    "enhance",
    "fantasy-art",
    "isometric",
    "line-art",
    "low-poly",
    "modeling-compound",
    "neon-punk",
    "origami",
    "photographic",
    "pixel-art",
    "tile-texture",
];

/// One tool: its path, the texts and the files it knows, and whether it works in the background.
struct Tool(&'static str, &'static [&'static str], &'static [&'static str], bool);

const TOOLS: &[Tool] = &[
    Tool(
        "generate/core",
        &["prompt", "negative_prompt", "aspect_ratio", "style_preset", "seed", "output_format"],
        &[],
        false,
    ),
    Tool(
        "generate/ultra",
        &["prompt", "negative_prompt", "aspect_ratio", "style_preset", "seed", "output_format", "strength"],
        &["image"],
        false,
    ),
    Tool(
        "generate/sd3",
        &[
            "prompt",
            "negative_prompt",
            "aspect_ratio",
            "style_preset",
            "seed",
            "output_format",
            "strength",
            "model",
            "mode",
            "cfg_scale",
        ],
        &["image"],
        false,
    ),
    Tool("upscale/fast", &["output_format"], &["image"], false),
    Tool("upscale/conservative", &["prompt", "seed", "output_format", "creativity"], &["image"], false),
    Tool("upscale/creative", &["prompt", "seed", "output_format", "creativity"], &["image"], true),
    Tool("edit/erase", &["grow_mask", "seed", "output_format"], &["image", "mask"], false),
    Tool("edit/remove-background", &["output_format"], &["image"], false),
    Tool(
        "edit/replace-background-and-relight",
        &[
            "background_prompt",
            "foreground_prompt",
            "preserve_original_subject",
            "original_background_depth",
            "keep_original_background",
            "light_source_direction",
            "light_source_strength",
            "seed",
            "output_format",
        ],
        &["subject_image", "background_reference", "light_reference"],
        true,
    ),
];

/// Whether there is a tool of that path.
pub(crate) fn is_known(path: &str) -> bool {
    TOOLS.iter().any(|tool| tool.0 == path)
}

/// An order, understood.
#[derive(Debug)]
pub(crate) struct Order {
    /// The prompt, and the size of the picture that came along.
    pub prompt: String,
    /// Width and height of the picture to be made.
    pub size: (u32, u32),
    /// Whether it becomes a task.
    pub lasts: bool,
}

impl Order {
    /// Reads the form of the tool at this path.
    pub fn read(path: &str, form: &Form) -> Result<Self, Complaint> {
        let unknown = || Complaint::general(format!("{path} is no tool"));
        let Tool(_, texts, files, lasts) = TOOLS.iter().find(|tool| tool.0 == path).ok_or_else(unknown)?;
        form.only(texts, files)?;
        check_shared(form)?;
        let needs_prompt =
            path.starts_with("generate/") || ["upscale/conservative", "upscale/creative"].contains(&path);
        let said = if needs_prompt { form.text("prompt", PROMPT_CHARS_MAX)? } else { "" };
        let (said, size) = match path {
            "generate/core" => (said, size_of_ratio(form)?),
            "generate/ultra" => {
                check_strength(form)?;
                (said, size_of_ratio(form)?)
            }
            "generate/sd3" => (said, size_of_sd3(form)?),
            "edit/replace-background-and-relight" => relight(form)?,
            _ => (said, size_of_tool(path, form)?),
        };
        let sent = files.first().map(|name| form.pictures(name)).transpose()?.unwrap_or_default();
        let named: Vec<_> = sent.iter().map(Picture::name).collect();
        let prompt = [said, &named.join(" ")].join(" ").trim().to_owned();
        Ok(Self { prompt, size, lasts: *lasts })
    }
}

fn check_shared(form: &Form) -> Result<(), Complaint> {
    form.optional_text("negative_prompt", PROMPT_CHARS_MAX)?;
    form.choice("style_preset", PRESETS)?;
    form.choice("output_format", &["png"])?;
    form.number("seed", 0..=SEED_MAX)?;
    form.number("grow_mask", 0..=20_u64)?;
    Ok(())
}

fn size_of_ratio(form: &Form) -> Result<(u32, u32), Complaint> {
    Ok(match form.choice("aspect_ratio", RATIOS)?.unwrap_or("1:1") {
        "9:21" => (672, 1536),
        ratio => png::size_of(ratio),
    })
}

fn check_strength(form: &Form) -> Result<(), Complaint> {
    let strength = form.number("strength", 0.0..=1.0)?;
    let image = form.pictures("image")?;
    if image.is_empty() != strength.is_none() {
        return Err(Complaint::of("strength", "strength: is required exactly when an image is given"));
    }
    image.iter().try_for_each(|image| check_picture("image", image))
}

fn size_of_sd3(form: &Form) -> Result<(u32, u32), Complaint> {
    form.choice("model", &["sd3.5-large", "sd3.5-large-turbo", "sd3.5-medium"])?;
    form.number("cfg_scale", 1.0..=10.0)?;
    if form.choice("mode", &["text-to-image", "image-to-image"])? != Some("image-to-image") {
        return size_of_ratio(form);
    }
    check_strength(form)?;
    if form.optional_text("aspect_ratio", 10)?.is_some() {
        return Err(Complaint::of("aspect_ratio", "aspect_ratio: is not taken with mode image-to-image"));
    }
    Ok(form.picture("image")?.scaled(1))
}

fn size_of_tool(path: &str, form: &Form) -> Result<(u32, u32), Complaint> {
    let image = form.picture("image")?;
    check_picture("image", &image)?;
    let times = match path {
        "upscale/fast" | "upscale/creative" => 4,
        "upscale/conservative" => 2,
        _ => 1,
    };
    match path {
        "upscale/conservative" => _ = form.number("creativity", 0.2..=0.5)?,
        "upscale/creative" => _ = form.number("creativity", 0.1..=0.5)?,
        "edit/remove-background" if image.pixels() > CUT_OUT_PIXELS_MAX => {
            return Err(Complaint::of("image", "image: exceeds 4,194,304 pixels"));
        }
        "edit/erase" => form.pictures("mask")?.iter().try_for_each(|mask| check_picture("mask", mask))?,
        _ => {}
    }
    Ok(image.scaled(times))
}

fn relight(form: &Form) -> Result<(&str, (u32, u32)), Complaint> {
    let subject = form.picture("subject_image")?;
    check_picture("subject_image", &subject)?;
    let words = form.optional_text("background_prompt", PROMPT_CHARS_MAX)?;
    let references = form.pictures("background_reference")?;
    if words.is_none() && references.is_empty() {
        let text = "background_prompt: either it or background_reference is required";
        return Err(Complaint::of("background_prompt", text));
    }
    form.optional_text("foreground_prompt", PROMPT_CHARS_MAX)?;
    form.choice("keep_original_background", &["true", "false"])?;
    form.choice("light_source_direction", &["left", "right", "above", "below"])?;
    for name in ["preserve_original_subject", "original_background_depth", "light_source_strength"] {
        form.number(name, 0.0..=1.0)?;
    }
    form.pictures("light_reference")?;
    Ok((words.unwrap_or_default(), subject.scaled(1)))
}

fn check_picture(name: &str, picture: &Picture) -> Result<(), Complaint> {
    let (long, short) = (picture.width.max(picture.height), picture.width.min(picture.height));
    if !PIXELS.contains(&picture.pixels()) {
        let text = format!("{name}: must have between {} and {} pixels", PIXELS.start(), PIXELS.end());
        return Err(Complaint::of(name, text));
    }
    if long * 2 > short * 5 {
        return Err(Complaint::of(name, format!("{name}: its sides must be within 1:2.5 and 2.5:1")));
    }
    Ok(())
}
