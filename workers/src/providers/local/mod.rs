//! What this program makes by itself: drawings traced from images, images enlarged, and speech where espeak-ng is installed.
//!
//! No network and no bill, so after a crash the work is simply done again. Pixels are worked on in the blocking pool, speech
//! in a process of its own. Deliberately absent: models; what is made here is made by arithmetic and by rules.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use super::{AfterAmbiguity, Artifact, Artifacts, Call, ErrorClass, Provider, ProviderError, Step};

mod enlarge;
mod speak;
mod trace;

/// The adapter for this program's own abilities.
#[derive(Debug)]
struct Local {
    /// The program that speaks; looked for in the search path when it has no folder.
    speaker: PathBuf,
}

/// The adapter; it needs nothing.
pub fn adapter() -> Arc<dyn Provider> {
    Arc::new(Local { speaker: speak::PROGRAM.into() })
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
        let file = match call.task.as_str() {
            "image.vectorize" => {
                let image = image(call)?;
                compute(move || trace::trace(&image)).await?
            }
            "image.upscale" => {
                let (image, factor) = (image(call)?, enlarge::factor(call));
                compute(move || enlarge::enlarge(&image, factor)).await?
            }
            "audio.speech" => speak::speak(&self.speaker, call).await?,
            other => return Err(bad(&format!("local is not wired for {other}"))),
        };
        Ok(Step::Done(Artifacts { files: vec![Artifact::Inline(file)], ..Artifacts::default() }))
    }
}

fn bad(why: &str) -> ProviderError {
    ProviderError::new(ErrorClass::BadInput, why)
}

fn image(call: &Call) -> Result<Bytes, ProviderError> {
    Ok(call.file("image").ok_or_else(|| bad("this needs an image"))?.bytes.clone())
}

/// Computes on a thread that may block. What cannot be joined has panicked: it met an image it cannot take, and would again.
async fn compute(
    work: impl FnOnce() -> Result<Bytes, ProviderError> + Send + 'static,
) -> Result<Bytes, ProviderError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ProviderError::new(ErrorClass::Failed, "the work broke down over this image"))?
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, ImageFormat, RgbImage};
    use serde_json::json;

    use super::*;
    use crate::providers::InputFile;

    #[tokio::test]
    async fn each_task_is_led_to_its_maker() {
        let mut png = std::io::Cursor::new(Vec::new());
        DynamicImage::from(RgbImage::new(8, 8)).write_to(&mut png, ImageFormat::Png).unwrap();
        let file = InputFile {
            field: "image".to_owned(),
            mime_type: "image/png".to_owned(),
            bytes: png.into_inner().into(),
        };
        let local = adapter();
        for (task, start) in [("image.vectorize", &b"<?xml"[..]), ("image.upscale", b"\x89PNG")] {
            let call = Call::new(task, "any", json!({}), "job_1-1");
            assert_eq!(local.submit(&call).await.unwrap_err().class, ErrorClass::BadInput, "{task}");
            let Ok(Step::Done(made)) = local.submit(&call.with_files(vec![file.clone()])).await else {
                panic!("{task} is done at once")
            };
            let [Artifact::Inline(bytes)] = &made.files[..] else { panic!("one file, made here") };
            assert!(bytes.starts_with(start), "{task}");
        }
        let call = Call::new("video.generate", "any", json!({}), "job_1-1");
        assert_eq!(local.submit(&call).await.unwrap_err().class, ErrorClass::BadInput);
    }
}
