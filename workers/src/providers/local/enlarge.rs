//! Images enlarged by Lanczos resampling: more pixels, and no detail that was not there.
//!
//! Pure computation, to be run on the blocking pool. The result is a PNG with the channels of the source, so transparency stays.

use std::io::Cursor;

use bytes::Bytes;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::{
    DynamicImage, ImageEncoder,
    codecs::png::{CompressionType, FilterType as PngFilter, PngEncoder},
};
use serde_json::Value;

use super::bad;
use crate::{
    media::{MediaError, raster::decode},
    providers::{Call, ErrorClass, ProviderError},
};

/// How many times wider and higher, where the caller does not say.
const FACTOR: u32 = 2;

/// Most pixels of a result, those of a large photograph: with four channels 100 MB while it is made, and as a PNG well below what is
/// opened again to be checked.
const MAX_PIXELS: u64 = 25_000_000;

/// How many times wider and higher the call wants it.
pub fn factor(call: &Call) -> u32 {
    let wanted =
        call.input.get("factor").and_then(Value::as_u64).and_then(|factor| u32::try_from(factor).ok());
    wanted.unwrap_or(FACTOR)
}

/// Enlarges an image. Blocking.
///
/// # Errors
/// [`ErrorClass::BadInput`] for an image that cannot be opened or would become too large.
pub fn enlarge(image: &[u8], factor: u32) -> Result<Bytes, ProviderError> {
    let unusable = |error: MediaError| bad(&error.to_string());
    let failed = |error: String| ProviderError::new(ErrorClass::Failed, format!("enlarging failed: {error}"));
    let image = decode(image).map_err(unusable)?;
    let (width, height) = size(image.width(), image.height(), factor)?;
    let mut large = DynamicImage::new(width, height, image.color());
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3));
    Resizer::new().resize(&image, &mut large, &options).map_err(|error| failed(error.to_string()))?;
    drop(image);
    let mut png = Cursor::new(Vec::new());
    PngEncoder::new_with_quality(&mut png, CompressionType::Fast, PngFilter::Adaptive)
        .write_image(large.as_bytes(), width, height, large.color().into())
        .map_err(|error| failed(error.to_string()))?;
    Ok(png.into_inner().into())
}

/// The sides so many times over, where they are within the limit.
fn size(width: u32, height: u32, factor: u32) -> Result<(u32, u32), ProviderError> {
    let sides = width.checked_mul(factor).zip(height.checked_mul(factor));
    let fits = |(width, height): &(u32, u32)| {
        let pixels = u64::from(*width) * u64::from(*height);
        (1..=MAX_PIXELS).contains(&pixels)
    };
    sides.filter(fits).ok_or_else(|| {
        bad(&format!("{width}x{height} pixels, {factor} times as wide and high, are more than {MAX_PIXELS}"))
    })
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, ImageFormat, Luma, Rgba, RgbaImage};

    use super::*;

    fn encoded(image: DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn sides_grow_by_the_factor_and_transparency_stays() {
        let half =
            RgbaImage::from_fn(40, 30, |x, _| if x < 20 { Rgba([200, 30, 30, 255]) } else { Rgba([0; 4]) });
        let made = enlarge(&encoded(half.into(), ImageFormat::Png), 3).unwrap();
        let large = decode(&made).unwrap();
        assert_eq!((large.width(), large.height(), large.color().has_alpha()), (120, 90, true));
        let large = large.into_rgba8();
        assert_eq!(large.get_pixel(5, 5), &Rgba([200, 30, 30, 255]));
        assert_eq!(large.get_pixel(115, 5)[3], 0);
    }

    #[test]
    fn every_layout_of_pixels_can_be_enlarged() {
        let gray = GrayImage::from_pixel(10, 10, Luma([90]));
        let image = DynamicImage::from(gray);
        for (image, format) in [
            (image.clone(), ImageFormat::Png),
            (image.to_luma_alpha8().into(), ImageFormat::Png),
            (image.to_luma16().into(), ImageFormat::Png),
            (image.to_luma_alpha16().into(), ImageFormat::Png),
            (image.to_rgb16().into(), ImageFormat::Png),
            (image.to_rgba16().into(), ImageFormat::Png),
            (image.to_rgb8().into(), ImageFormat::Jpeg),
            (image.to_rgba8().into(), ImageFormat::WebP),
            (image.to_rgba8().into(), ImageFormat::Gif),
        ] {
            let colour = image.color();
            let made = enlarge(&encoded(image, format), 2).unwrap();
            let large = decode(&made).unwrap();
            assert_eq!((large.width(), large.height()), (20, 20), "{colour:?} {format:?}");
            assert!(large.to_luma8().get_pixel(9, 9)[0].abs_diff(90) < 4, "{colour:?} {format:?}");
        }
    }

    #[test]
    fn a_result_that_is_too_large_is_not_begun() {
        assert_eq!(size(5000, 2500, 1).unwrap(), (5000, 2500));
        assert_eq!(size(2500, 2500, 2).unwrap(), (5000, 5000));
        for (width, height, factor) in [(2501, 2500, 2), (4000, 4000, 16), (u32::MAX, 1, 2), (1, 1, 0)] {
            let error = size(width, height, factor).unwrap_err();
            assert_eq!(error.class, ErrorClass::BadInput, "{width}x{height} {factor}");
        }
        assert_eq!(enlarge(b"rubbish", 2).unwrap_err().class, ErrorClass::BadInput);
    }
}
