//! Decodes raster images within limits, and shrinks them.
//!
//! Keeps the rule that no image, however small as a file, can take more memory than the limits here allow: the
//! dimensions are read and judged before any pixel is. Of animations only the first frame is decoded.

use std::{io::Cursor, path::Path};

use fast_image_resize::Resizer;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};

use super::{Format, Measures, MediaError, contents, ends::reaches_end};

/// Most pixels of an image that is opened; four times what the largest image models make.
pub(crate) const MAX_PIXELS: u64 = 64 * 1_000_000;

/// Longest side of an image that is opened. A side takes memory for itself in some decoders, however short the other is.
const MAX_SIDE: u32 = 65_535;

/// Most memory a decoder may take: [`MAX_PIXELS`] with four channels of 16 bits.
const MAX_DECODED_BYTES: u64 = 512 * 1024 * 1024;

/// Longest image file; beyond what vendors send (base64 PNG of 4K is around 30 MB) and callers may upload (100 MB).
const MAX_FILE_BYTES: u64 = 128 * 1024 * 1024;

/// Decodes the image at `path` fully and tells its dimensions as displayed.
pub(super) fn measure(path: &Path, format: Format) -> Result<Measures, MediaError> {
    let bytes = contents(path, MAX_FILE_BYTES)?;
    if !reaches_end(&bytes, format) {
        let kind = format.extension();
        return Err(MediaError::Undecodable(format!("the {kind} ends before the mark of its end")));
    }
    let image = decode(&bytes)?;
    Ok(Measures::of_picture(image.width(), image.height()))
}

/// Reads the image at `path`, turned upright.
pub(super) fn open(path: &Path) -> Result<DynamicImage, MediaError> {
    decode(&contents(path, MAX_FILE_BYTES)?)
}

/// Decodes an image within the limits and turns it upright, as its EXIF orientation asks.
///
/// # Errors
/// [`MediaError::TooLarge`] before any pixel is read, [`MediaError::Undecodable`] for everything else.
pub(crate) fn decode(bytes: &[u8]) -> Result<DynamicImage, MediaError> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);

    let mut decoder = reader.into_decoder().map_err(judge)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(MediaError::TooLarge(format!("{width}x{height} is more than {MAX_PIXELS} pixels")));
    }
    let orientation = decoder.orientation().map_err(judge)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(judge)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// The image with its longest side at most `longest` pixels; never enlarged.
///
/// # Errors
/// [`MediaError::Undecodable`] for pixel layouts that cannot be resized, which no decoder here produces.
pub(crate) fn shrink(image: DynamicImage, longest: u32) -> Result<DynamicImage, MediaError> {
    let (width, height) = (image.width(), image.height());
    let side = width.max(height);
    if side <= longest {
        return Ok(image);
    }
    let scaled = |length: u32| {
        let scaled = u64::from(length) * u64::from(longest) / u64::from(side);
        u32::try_from(scaled).expect("a shrunk side is shorter than the u32 it came from").max(1)
    };
    let mut small = DynamicImage::new(scaled(width), scaled(height), image.color());
    Resizer::new()
        .resize(&image, &mut small, None)
        .map_err(|error| MediaError::Undecodable(format!("cannot be resized: {error}")))?;
    Ok(small)
}

fn judge(error: ImageError) -> MediaError {
    match error {
        ImageError::Limits(limit) => MediaError::TooLarge(limit.to_string()),
        other => MediaError::Undecodable(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Kind, samples, verify};

    #[test]
    fn good_images_are_measured() {
        for bytes in [
            samples::png(64, 48),
            samples::jpeg(64, 48),
            samples::encoded(64, 48, image::ImageFormat::WebP),
            samples::encoded(64, 48, image::ImageFormat::Gif),
        ] {
            let file = samples::file(&bytes);
            let verified = verify(file.path(), Kind::Image).unwrap();
            assert_eq!((verified.width, verified.height), (Some(64), Some(48)), "{}", verified.mime_type);
        }
    }

    #[test]
    fn truncated_images_are_refused_wherever_they_are_cut() {
        for bytes in [
            samples::png(64, 48),
            samples::jpeg(64, 48),
            samples::encoded(64, 48, image::ImageFormat::WebP),
            samples::encoded(64, 48, image::ImageFormat::Gif),
        ] {
            for percent in [20, 50, 90] {
                let file = samples::file(&bytes[..bytes.len() * percent / 100]);
                let error = verify(file.path(), Kind::Image).unwrap_err();
                assert!(matches!(error, MediaError::Undecodable(_)), "cut at {percent} %: {error}");
            }
        }
    }

    #[test]
    fn an_image_without_its_last_byte_is_refused() {
        for bytes in [
            samples::png(64, 48),
            samples::jpeg(64, 48),
            samples::encoded(64, 48, image::ImageFormat::WebP),
            samples::encoded(64, 48, image::ImageFormat::Gif),
        ] {
            let file = samples::file(&bytes[..bytes.len() - 1]);
            let error = verify(file.path(), Kind::Image).unwrap_err();
            assert!(matches!(error, MediaError::Undecodable(_)), "{error}");
        }
    }

    #[test]
    fn a_decompression_bomb_is_refused_before_it_is_unpacked() {
        let bomb = samples::flat_png(9000, 9000);
        assert!(bomb.len() < 1_000_000, "a bomb is small on disk");
        let file = samples::file(&bomb);
        assert!(matches!(verify(file.path(), Kind::Image), Err(MediaError::TooLarge(_))));
    }

    #[test]
    fn shrinking_keeps_the_shape_and_never_enlarges() {
        let shrunk = |width, height| {
            let image = shrink(DynamicImage::new_rgb8(width, height), 100).unwrap();
            (image.width(), image.height())
        };
        assert_eq!(shrunk(400, 200), (100, 50));
        assert_eq!(shrunk(200, 400), (50, 100));
        assert_eq!(shrunk(80, 60), (80, 60));
        assert_eq!(shrunk(5000, 1), (100, 1));
    }
}
