//! Drawings traced from images.
//!
//! Pure computation, to be run on the blocking pool. Deliberately absent: any choice of the tracer's knobs by callers.

use bytes::Bytes;
use vtracer::{ColorImage, Config};

use crate::{
    media::{
        MediaError,
        raster::{decode, shrink},
    },
    providers::{ErrorClass, ProviderError},
};

/// Longest side that is traced; larger images are shrunk first. A drawing has no resolution, while time and size
/// grow with the pixels: pure noise of this size, the worst case, takes half a minute and about 20 MB.
const MAX_TRACED_SIDE: u32 = 1280;

/// Traces an image into an SVG. Blocking.
///
/// # Errors
/// [`ErrorClass::BadInput`] for an image that cannot be opened, [`ErrorClass::Failed`] for one that cannot be traced.
pub fn trace(image: &[u8]) -> Result<Bytes, ProviderError> {
    let unusable = |error: MediaError| ProviderError::new(ErrorClass::BadInput, error.to_string());
    let image = shrink(decode(image).map_err(unusable)?, MAX_TRACED_SIDE).map_err(unusable)?.into_rgba8();
    let pixels = ColorImage {
        width: image.width() as usize,
        height: image.height() as usize,
        pixels: image.into_raw(),
    };
    let svg = vtracer::convert(pixels, Config::default())
        .map_err(|error| ProviderError::new(ErrorClass::Failed, format!("tracing failed: {error}")))?;
    Ok(svg.to_string().into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use image::{DynamicImage, ImageFormat, Rgba, RgbaImage};

    use super::*;
    use crate::media;

    fn png(image: RgbaImage) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        DynamicImage::from(image).write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn an_image_becomes_a_drawing_that_passes_our_own_check() {
        let square = |x: u32, y: u32| (20..40).contains(&x) && (20..40).contains(&y);
        for background in [Rgba([255; 4]), Rgba([0; 4])] {
            let image =
                RgbaImage::from_fn(
                    64,
                    48,
                    |x, y| {
                        if square(x, y) { Rgba([200, 30, 30, 255]) } else { background }
                    },
                );
            let svg = trace(&png(image)).unwrap();
            assert!(svg.starts_with(b"<?xml") && String::from_utf8_lossy(&svg).contains("<path"));

            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&svg).unwrap();
            let verified = media::verify(file.path(), media::Kind::Vector).unwrap();
            assert_eq!((verified.width, verified.height), (Some(64), Some(48)));
        }
    }

    #[test]
    fn the_smallest_and_emptiest_images_do_not_break_the_tracer() {
        for image in [RgbaImage::new(1, 1), RgbaImage::new(64, 64)] {
            assert!(trace(&png(image)).is_ok());
        }
    }

    #[test]
    fn a_bad_image_is_the_callers_fault() {
        assert_eq!(trace(b"\x89PNG\r\n\x1a\nrubbish").unwrap_err().class, ErrorClass::BadInput);
    }
}
