//! Decodes raster images within limits, and shrinks them.
//!
//! Keeps the rule that no image, however small as a file, can take more memory than the limits here allow: the
//! dimensions are read and judged before any pixel is. Of animations only the first frame is decoded.

use std::{io::Cursor, path::Path};

use fast_image_resize::Resizer;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};

use super::{Format, Measures, MediaError, contents};

/// Most pixels of an image that is opened; four times what the largest image models make.
const MAX_PIXELS: u64 = 64 * 1_000_000;

/// Most memory a decoder may take: [`MAX_PIXELS`] with four channels of 16 bits.
const MAX_DECODED_BYTES: u64 = 512 * 1024 * 1024;

/// Longest image file; beyond what vendors send (base64 PNG of 4K is around 30 MB) and callers may upload (100 MB).
const MAX_FILE_BYTES: u64 = 128 * 1024 * 1024;

/// Decodes the image at `path` fully and tells its dimensions as displayed.
pub(super) fn measure(path: &Path, format: Format) -> Result<Measures, MediaError> {
    let bytes = contents(path, MAX_FILE_BYTES)?;
    if format == Format::Jpeg && !reaches_jpeg_end(&bytes) {
        return Err(MediaError::Undecodable("the jpeg ends before its end marker".to_owned()));
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

/// Whether the JPEG runs to its end marker.
///
/// The decoder is forgiving and fills a missing lower half with grey; a cut download must not pass for a result.
fn reaches_jpeg_end(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xDA;
    const END_OF_IMAGE: u8 = 0xD9;

    let mut at = 2;
    while let Some(&[0xFF, marker]) = bytes.get(at..at + 2) {
        match marker {
            END_OF_IMAGE => return true,
            // Fill bytes and markers that stand alone.
            0xFF => at += 1,
            0x01 | 0xD0..=0xD8 => at += 2,
            _ => {
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
                if marker == START_OF_SCAN {
                    let Some(next) = next_marker(bytes, at) else { return false };
                    at = next;
                }
            }
        }
    }
    false
}

/// Where compressed data that begins at `from` gives way to a marker other than a restart.
fn next_marker(bytes: &[u8], from: usize) -> Option<usize> {
    let data = bytes.get(from..)?;
    let found = data.windows(2).position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xD0..=0xD7))?;
    Some(from + found)
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
    fn a_jpeg_without_its_last_bytes_is_refused() {
        let bytes = samples::jpeg(64, 48);
        let file = samples::file(&bytes[..bytes.len() - 2]);
        assert!(matches!(verify(file.path(), Kind::Image), Err(MediaError::Undecodable(_))));
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
