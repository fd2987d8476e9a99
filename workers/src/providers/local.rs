//! What this program makes by itself: for now, drawings traced from images.
//!
//! No network and no bill, so after a crash the work is simply done again. Tracing is pure computation and runs on
//! the blocking pool. Deliberately absent: any choice of the tracer's knobs by callers.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use vtracer::{ColorImage, Config};

use super::{AfterAmbiguity, Artifact, Artifacts, Call, ErrorClass, Provider, ProviderError, Step};
use crate::media::{
    MediaError,
    raster::{decode, shrink},
};

/// Longest side that is traced; larger images are shrunk first. A drawing has no resolution, while time and size
/// grow with the pixels: pure noise of this size, the worst case, takes half a minute and about 20 MB.
const MAX_TRACED_SIDE: u32 = 1280;

/// The adapter for this program's own abilities.
#[derive(Debug)]
struct Local;

/// The adapter; it needs nothing.
pub fn adapter() -> Arc<dyn Provider> {
    Arc::new(Local)
}

#[async_trait]
impl Provider for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::SubmitAgain
    }

    fn is_billed(&self) -> bool {
        false
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        let bad = |why: String| ProviderError::new(ErrorClass::BadInput, why);
        if call.task != "image.vectorize" {
            return Err(bad(format!("local is not wired for {}", call.task)));
        }
        let image = call.file("image").ok_or_else(|| bad("tracing needs an image".to_owned()))?.bytes.clone();
        // A task that cannot be joined has panicked: the tracer met an image it cannot trace, and would again.
        let svg = tokio::task::spawn_blocking(move || trace(&image))
            .await
            .map_err(|_| ProviderError::new(ErrorClass::Failed, "the tracer broke down over this image"))??;
        Ok(Step::Done(Artifacts { files: vec![Artifact::Inline(svg)], ..Artifacts::default() }))
    }
}

/// Traces an image into an SVG.
fn trace(image: &[u8]) -> Result<Bytes, ProviderError> {
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
    use serde_json::json;

    use super::*;
    use crate::{media, providers::InputFile};

    fn call(bytes: Vec<u8>) -> Call {
        Call::new("image.vectorize", "vtracer", json!({"image": "file_1"}), "job_1-1").with_files(vec![
            InputFile { field: "image".to_owned(), mime_type: "image/png".to_owned(), bytes: bytes.into() },
        ])
    }

    fn png(image: RgbaImage) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        DynamicImage::from(image).write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[tokio::test]
    async fn an_image_becomes_a_drawing_that_passes_our_own_check() {
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
            let Ok(Step::Done(made)) = Local.submit(&call(png(image))).await else {
                panic!("tracing is done at once")
            };
            let [Artifact::Inline(svg)] = &made.files[..] else { panic!("one file, made here") };
            assert!(svg.starts_with(b"<?xml") && String::from_utf8_lossy(svg).contains("<path"));

            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(svg).unwrap();
            let verified = media::verify(file.path(), media::Kind::Vector).unwrap();
            assert_eq!((verified.width, verified.height), (Some(64), Some(48)));
        }
    }

    #[tokio::test]
    async fn the_smallest_and_emptiest_images_do_not_break_the_tracer() {
        for image in [RgbaImage::new(1, 1), RgbaImage::new(64, 64)] {
            assert!(Local.submit(&call(png(image))).await.is_ok());
        }
    }

    #[tokio::test]
    async fn a_bad_image_is_the_callers_fault() {
        let error = Local.submit(&call(b"\x89PNG\r\n\x1a\nrubbish".to_vec())).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::BadInput);
    }
}
