//! PNG pictures in the sizes the Gemini image models give for each aspect ratio.
//!
//! Fast encoding is preferred to small files; a picture is a few hundred kilobytes.

use anyhow::Context as _;
use image::{
    ExtendedColorType, ImageEncoder as _,
    codecs::png::{CompressionType, FilterType, PngEncoder},
};

use crate::{content::pattern::Pattern, seed::Seed};

/// Aspect ratios with the size of the picture at 1K, as the vendor documents them.
pub(crate) const SIZES: &[(&str, (u32, u32))] = &[
    ("1:1", (1024, 1024)),
    ("2:3", (832, 1248)),
    ("3:2", (1248, 832)),
    ("3:4", (864, 1184)),
    ("4:3", (1184, 864)),
    ("4:5", (896, 1152)),
    ("5:4", (1152, 896)),
    ("9:16", (768, 1344)),
    ("16:9", (1344, 768)),
    ("21:9", (1536, 672)),
];

/// The size for an aspect ratio; square for one nobody knows.
pub(crate) fn size_of(aspect_ratio: &str) -> (u32, u32) {
    SIZES.iter().find(|(name, _)| *name == aspect_ratio).map_or((1024, 1024), |(_, size)| *size)
}

/// As [`picture`], on a thread that may block.
///
/// # Errors
/// As [`picture`].
pub(crate) async fn draw(seed: Seed, size: (u32, u32)) -> anyhow::Result<Vec<u8>> {
    tokio::task::spawn_blocking(move || picture(&seed, size)).await.context("draw a picture")?
}

/// A PNG file of that size; both sides must be even.
///
/// # Errors
/// When the encoder refuses, which it has no reason to.
pub(crate) fn picture(seed: &Seed, (width, height): (u32, u32)) -> anyhow::Result<Vec<u8>> {
    let pixels = Pattern::new(seed).paint_coarse(usize::try_from(width)?, usize::try_from(height)?);
    let mut file = Vec::new();
    PngEncoder::new_with_quality(&mut file, CompressionType::Fast, FilterType::Up)
        .write_image(&pixels, width, height, ExtendedColorType::Rgb8)
        .context("encode a PNG")?;
    Ok(file)
}
