//! The pictures of [`png`] in the other formats that OpenAI has, and without their background.
//!
//! Slower than plain PNG, so only what was asked for is made here.

use std::io::Cursor;

use anyhow::Context as _;
use image::{DynamicImage, ImageFormat, RgbImage, Rgba};

use super::{pattern::Pattern, png};
use crate::seed::Seed;

/// A picture as it was ordered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Still {
    /// Both sides are even.
    pub size: (u32, u32),
    /// PNG, JPEG or WebP.
    pub format: ImageFormat,
    /// Whether nothing is behind it.
    pub is_transparent: bool,
}

impl Still {
    /// Draws it, on a thread that may block.
    ///
    /// # Errors
    /// When the encoder refuses: a JPEG has nothing to say of transparency.
    pub async fn draw(self, seed: Seed) -> anyhow::Result<Vec<u8>> {
        if self.format == ImageFormat::Png && !self.is_transparent {
            return png::draw(seed, self.size).await;
        }
        tokio::task::spawn_blocking(move || self.encode(&seed)).await.context("draw a picture")?
    }

    fn encode(self, seed: &Seed) -> anyhow::Result<Vec<u8>> {
        let (width, height) = self.size;
        let pixels = Pattern::new(seed).paint_coarse(usize::try_from(width)?, usize::try_from(height)?);
        let picture = RgbImage::from_raw(width, height, pixels).context("a picture lacks pixels")?;
        let mut file = Cursor::new(Vec::new());
        let written = if self.is_transparent {
            let mut picture = DynamicImage::ImageRgb8(picture).into_rgba8();
            // A quarter on each side is background.
            let is_in = |at: u32, side: u32| (side / 4..side - side / 4).contains(&at);
            for (x, y, pixel) in picture.enumerate_pixels_mut() {
                if !is_in(x, width) || !is_in(y, height) {
                    *pixel = Rgba([0, 0, 0, 0]);
                }
            }
            picture.write_to(&mut file, self.format)
        } else {
            picture.write_to(&mut file, self.format)
        };
        written.context("encode a picture")?;
        Ok(file.into_inner())
    }
}
