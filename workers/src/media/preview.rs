//! Makes the preview that callers without a claim to the original are given.
//!
//! One recipe: upright, at most 1920 pixels a side, on white where it was transparent, progressive JPEG. Absent:
//! any choice of quality or size by callers, and metadata of the original (EXIF, GPS, colour profile).

use std::path::Path;

use image::{DynamicImage, RgbImage};
use jpeg_encoder::{ColorType, Encoder};

use super::{
    MediaError,
    raster::{open, shrink},
};

/// Longest side of a preview in pixels, as the product promises.
const MAX_SIDE: u32 = 1920;

/// JPEG quality of a preview, as the product promises.
const QUALITY: u8 = 85;

/// A preview, ready to store.
#[derive(Debug, Clone)]
pub struct Preview {
    /// A progressive JPEG.
    pub jpeg: Vec<u8>,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

/// Renders the image at `path` as a preview. Blocking.
///
/// # Errors
/// As [`super::verify`] for an image.
pub fn preview(path: &Path) -> Result<Preview, MediaError> {
    let image = shrink(DynamicImage::from(on_white(open(path)?)), MAX_SIDE)?.into_rgb8();
    let (width, height) = image.dimensions();
    let side = |length: u32| u16::try_from(length).expect("a side is at most 1920 pixels");

    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, QUALITY);
    encoder.set_progressive(true);
    encoder
        .encode(image.as_raw(), side(width), side(height), ColorType::Rgb)
        .map_err(|error| MediaError::Undecodable(format!("cannot be encoded as jpeg: {error}")))?;
    Ok(Preview { jpeg, width, height })
}

/// The image without its alpha channel, as it looks on white paper.
fn on_white(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let image = image.into_rgba8();
    let (width, height) = image.dimensions();
    let flat = image
        .pixels()
        .flat_map(|pixel| {
            let [red, green, blue, alpha] = pixel.0;
            [red, green, blue].map(|channel| over_white(channel, alpha))
        })
        .collect();
    RgbImage::from_raw(width, height, flat).expect("three bytes were made for every pixel")
}

fn over_white(channel: u8, alpha: u8) -> u8 {
    let alpha = u16::from(alpha);
    let mixed = (u16::from(channel) * alpha + 255 * (255 - alpha) + 127) / 255;
    u8::try_from(mixed).expect("a mean of two bytes is a byte")
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Rgba, RgbaImage};

    use super::*;
    use crate::media::{Kind, samples, verify};

    /// The marker that only progressive JPEGs carry.
    const SOF2: [u8; 2] = [0xFF, 0xC2];

    #[test]
    fn a_preview_is_a_progressive_jpeg_of_at_most_1920_pixels() {
        let file = samples::file(&samples::png(2400, 1200));
        let preview = preview(file.path()).unwrap();

        assert_eq!((preview.width, preview.height), (1920, 960));
        assert!(preview.jpeg.windows(2).any(|pair| pair == SOF2));
        let verified = verify(samples::file(&preview.jpeg).path(), Kind::Image).unwrap();
        assert_eq!(
            (verified.mime_type, verified.width, verified.height),
            ("image/jpeg", Some(1920), Some(960))
        );
    }

    #[test]
    fn a_small_image_keeps_its_size() {
        let file = samples::file(&samples::png(30, 50));
        let preview = preview(file.path()).unwrap();
        assert_eq!((preview.width, preview.height), (30, 50));
    }

    #[test]
    fn transparency_becomes_white() {
        let clear = DynamicImage::from(RgbaImage::from_pixel(16, 16, Rgba([200, 0, 0, 0])));
        let file = samples::file(&samples::as_format(&clear, ImageFormat::Png));
        let preview = preview(file.path()).unwrap();
        let pixel = image::load_from_memory(&preview.jpeg).unwrap().into_rgb8().get_pixel(8, 8).0;
        assert!(pixel.iter().all(|channel| *channel > 250), "{pixel:?}");
    }

    #[test]
    fn half_transparent_mixes_half_with_white() {
        assert_eq!(over_white(0, 128), 127);
        assert_eq!(over_white(0, 0), 255);
        assert_eq!(over_white(77, 255), 77);
    }

    #[test]
    fn a_photo_lying_on_its_side_is_turned_upright() {
        let file = samples::file(&samples::jpeg_turned_right(40, 20));
        let preview = preview(file.path()).unwrap();
        assert_eq!((preview.width, preview.height), (20, 40));
    }
}
