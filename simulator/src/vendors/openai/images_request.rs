//! What OpenAI's image endpoints accept, field by field and part by part.
//!
//! Which values a field may have depends on the family and generation of the model, and a field of the other family is refused.

use image::ImageFormat;
use serde_json::Value;

use crate::{
    fields::{Complaint, Fields},
    form::{Form, Picture},
};

/// The vendor's limits for a prompt, by family.
const GPT_PROMPT_CHARS_MAX: usize = 32_000;
const DALLE_PROMPT_CHARS_MAX: usize = 4_000;
/// The vendor's limits for files.
const IMAGE_BYTES_MAX: usize = 50 * 1024 * 1024;
const IMAGES_MAX: usize = 16;
const MASK_BYTES_MAX: usize = 4 * 1024 * 1024;

const GPT_QUALITIES: &[&str] = &["auto", "low", "medium", "high"];
const FIRST_GPT_SIZES: &[&str] = &["auto", "1024x1024", "1536x1024", "1024x1536"];
const DALLE_SIZES: &[&str] = &["1024x1024", "1792x1024", "1024x1792"];
const BACKGROUNDS: &[&str] = &["transparent", "opaque", "auto"];
const FORMATS: &[&str] = &["png", "jpeg", "webp"];
const PERCENT_MAX: u32 = 100;

/// Two generations of models that share an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// `gpt-image-…`.
    GptImage,
    /// `dall-e-3`.
    Dalle,
}

/// An order, understood.
#[derive(Debug)]
pub(super) struct Order {
    pub family: Family,
    pub prompt: String,
    pub size: (u32, u32),
    pub count: u32,
    pub quality: String,
    /// PNG, JPEG or WebP.
    pub format: ImageFormat,
    /// Whether nothing is behind what is drawn.
    pub is_transparent: bool,
    /// Whether the pictures come in the answer.
    pub inline: bool,
    /// How many pictures came along.
    pub pictures: usize,
    /// Output tokens that each picture made counts as.
    pub tokens: usize,
}

impl Order {
    /// Reads an order for pictures from words.
    pub fn of_words(body: &Value) -> Result<Self, Complaint> {
        let fields = Fields::of(body, "body")?;
        let model = fields.optional_text("model", 256)?.unwrap_or("dall-e-2");
        match family_of(model)? {
            Family::GptImage => Self::of_gpt(model, &fields),
            Family::Dalle => Self::of_dalle(&fields),
        }
    }

    fn of_gpt(model: &str, fields: &Fields<'_>) -> Result<Self, Complaint> {
        fields.only(&[
            "model",
            "prompt",
            "n",
            "size",
            "quality",
            "output_format",
            "output_compression",
            "background",
            "moderation",
            "user",
        ])?;
        let (format, is_transparent) =
            file_of(fields.choice("output_format", FORMATS)?, fields.choice("background", BACKGROUNDS)?)?;
        fields.integer("output_compression", 0..=PERCENT_MAX)?;
        fields.choice("moderation", &["auto", "low"])?;
        let quality = fields.choice("quality", GPT_QUALITIES)?.unwrap_or("auto");
        Ok(Self {
            family: Family::GptImage,
            prompt: fields.text("prompt", GPT_PROMPT_CHARS_MAX)?.to_owned(),
            size: gpt_size(model, fields.optional_text("size", 12)?.unwrap_or("auto"))?,
            count: fields.integer("n", 1..=10)?.unwrap_or(1),
            quality: quality.to_owned(),
            format,
            is_transparent,
            inline: true,
            pictures: 0,
            tokens: tokens_of(quality),
        })
    }

    fn of_dalle(fields: &Fields<'_>) -> Result<Self, Complaint> {
        fields.only(&["model", "prompt", "n", "size", "quality", "response_format", "style", "user"])?;
        fields.choice("style", &["vivid", "natural"])?;
        fields.integer("n", 1..=1)?;
        let size = fields.choice("size", DALLE_SIZES)?.unwrap_or("1024x1024");
        Ok(Self {
            family: Family::Dalle,
            prompt: fields.text("prompt", DALLE_PROMPT_CHARS_MAX)?.to_owned(),
            size: read_size(size).unwrap_or((1024, 1024)),
            count: 1,
            quality: fields.choice("quality", &["standard", "hd"])?.unwrap_or("standard").to_owned(),
            format: ImageFormat::Png,
            is_transparent: false,
            inline: fields.choice("response_format", &["url", "b64_json"])? == Some("b64_json"),
            pictures: 0,
            tokens: 0,
        })
    }

    /// Reads the form of an edit, which only GPT-image makes.
    pub fn of_picture(form: &Form) -> Result<Self, Complaint> {
        form.only(
            &[
                "model",
                "prompt",
                "n",
                "size",
                "quality",
                "input_fidelity",
                "background",
                "output_format",
                "output_compression",
                "user",
            ],
            &["image", "image[]", "mask"],
        )?;
        let model = form.optional_text("model", 256)?.unwrap_or("gpt-image-1.5");
        if family_of(model)? != Family::GptImage {
            return Err(Complaint::of("model", format!("{model} edits no pictures")));
        }
        form.choice("input_fidelity", &["high", "low"])?;
        let (format, is_transparent) =
            file_of(form.choice("output_format", FORMATS)?, form.choice("background", BACKGROUNDS)?)?;
        form.number("output_compression", 0..=PERCENT_MAX)?;
        let images = [form.pictures("image")?, form.pictures("image[]")?].concat();
        check_images(&images, &form.pictures("mask")?)?;
        let quality = form.choice("quality", GPT_QUALITIES)?.unwrap_or("auto");
        let prompt = form.text("prompt", GPT_PROMPT_CHARS_MAX)?;
        Ok(Self {
            family: Family::GptImage,
            prompt: prompt.to_owned(),
            size: gpt_size(model, form.optional_text("size", 12)?.unwrap_or("auto"))?,
            count: form.number("n", 1..=10)?.unwrap_or(1),
            quality: quality.to_owned(),
            format,
            is_transparent,
            inline: true,
            pictures: images.len(),
            tokens: tokens_of(quality),
        })
    }
}

fn family_of(model: &str) -> Result<Family, Complaint> {
    if model.starts_with("gpt-image-") || model == "chatgpt-image-latest" {
        return Ok(Family::GptImage);
    }
    if model == "dall-e-3" {
        return Ok(Family::Dalle);
    }
    Err(Complaint::of("model", format!("the model {model} does not exist")))
}

/// What kind of file is wanted, and whether nothing is behind what is drawn, which a JPEG cannot say.
fn file_of(format: Option<&str>, background: Option<&str>) -> Result<(ImageFormat, bool), Complaint> {
    let is_transparent = background == Some("transparent");
    match format {
        Some("jpeg") if is_transparent => {
            Err(Complaint::of("background", "transparent background is not supported with jpeg"))
        }
        Some("jpeg") => Ok((ImageFormat::Jpeg, false)),
        Some("webp") => Ok((ImageFormat::WebP, is_transparent)),
        _ => Ok((ImageFormat::Png, is_transparent)),
    }
}

/// What the vendor's price list comes to for a square picture.
fn tokens_of(quality: &str) -> usize {
    match quality {
        "low" => 272,
        "high" => 4160,
        _ => 1056,
    }
}

/// The first generation has three sizes; later ones any whose sides are multiples of 16, 1:3 to 3:1, up to 3840x2160.
fn gpt_size(model: &str, size: &str) -> Result<(u32, u32), Complaint> {
    let wrong = || Complaint::of("size", format!("invalid value '{size}' for 'size' with {model}"));
    if size == "auto" {
        return Ok((1024, 1024));
    }
    let (width, height) = read_size(size).ok_or_else(wrong)?;
    let fits = if model.starts_with("gpt-image-2") {
        let is_whole = width % 16 == 0 && height % 16 == 0;
        let (long, short) = (width.max(height), width.min(height));
        is_whole && short > 0 && long <= short * 3 && long <= 3840 && short <= 2160
    } else {
        FIRST_GPT_SIZES.contains(&size)
    };
    if fits { Ok((width, height)) } else { Err(wrong()) }
}

fn read_size(size: &str) -> Option<(u32, u32)> {
    let (width, height) = size.split_once('x')?;
    Some((width.parse().ok()?, height.parse().ok()?))
}

/// A mask is a PNG of the size of the first picture.
fn check_images(images: &[Picture], masks: &[Picture]) -> Result<(), Complaint> {
    let formats = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP];
    let first = images.first().ok_or_else(|| Complaint::of("image", "you must provide an 'image'"))?;
    if images.len() > IMAGES_MAX {
        return Err(Complaint::of("image", "too many images"));
    }
    if let Some(odd) =
        images.iter().find(|image| !formats.contains(&image.format) || image.bytes > IMAGE_BYTES_MAX)
    {
        return Err(Complaint::of("image", format!("unsupported image of {} bytes", odd.bytes)));
    }
    let fits = |mask: &Picture| {
        mask.format == ImageFormat::Png
            && mask.bytes <= MASK_BYTES_MAX
            && (mask.width, mask.height) == (first.width, first.height)
    };
    if masks.len() > 1 || !masks.iter().all(fits) {
        return Err(Complaint::of("mask", "the mask must be one PNG of the image's size, under 4 MB"));
    }
    Ok(())
}
