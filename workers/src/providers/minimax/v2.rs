//! Version 2, for H3: videos as tasks that carry the address of their file.
//!
//! Status words we do not know mean "still at work", never success. A task can be stopped while it waits in the queue and
//! costs nothing then; one that is being worked on cannot, and MiniMax says so. Not confirmed by anybody: how this version
//! puts an error, so all forms that were seen are read; what MiniMax posts to the address it is given. Deliberately absent:
//! looking for a lost task in the list of all, which shows none of our names.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::{Failure, Line, class_of, text_of};
use crate::providers::{
    AfterAmbiguity, Artifact, Artifacts, Call, ErrorClass, Pending, Provider, ProviderError, Step, Vendor,
    http::{self, Stake, data_url},
};

/// How it is configured: as version 1.
pub const VENDOR: Vendor = Vendor {
    name: "minimax_v2",
    simulator_path: "minimax",
    cancel: "while it waits in the queue",
    unverified: &["how an error is put", "what is posted to a callback address"],
    adapter: |http, base_url| Arc::new(MiniMaxV2(Line::new(http, base_url))),
    ..super::v1::VENDOR
};

/// When to look for a task; videos take 1–5 min.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The shape of a video from words alone, where the caller names none; MiniMax demands one then.
const DEFAULT_RATIO: &str = "16:9";

/// The adapter for version 2.
#[derive(Debug)]
struct MiniMaxV2(Line);

#[async_trait]
impl Provider for MiniMaxV2 {
    fn name(&self) -> &'static str {
        VENDOR.name
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::GiveUp
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        let request =
            self.0.http.post(format!("{}/v2/video_generation", self.0.base_url)).json(&request(call)?);
        let taken: Submitted = self.0.call(&call.key, request, Stake::Submit).await?;
        let task_id = text_of(&taken.task_id)
            .ok_or_else(|| ProviderError::new(ErrorClass::Ambiguous, "accepted without a task id"))?;
        Ok(pending(task_id, "queued at provider"))
    }

    async fn resume(&self, call: &Call, provider_ref: &str) -> Result<Step, ProviderError> {
        let url = format!("{}/v2/query/video_generation/{provider_ref}", self.0.base_url);
        let found: Found = self.0.call(&call.key, self.0.http.get(url), Stake::Ask).await?;
        step(provider_ref, found.task)
    }

    async fn cancel(&self, call: &Call, provider_ref: &str) -> Result<(), ProviderError> {
        let url = format!("{}/v2/video_generation/{provider_ref}", self.0.base_url);
        let _: IgnoredAny = self.0.call(&call.key, self.0.http.delete(url), Stake::Ask).await?;
        Ok(())
    }
}

fn pending(provider_ref: String, phase: &str) -> Step {
    Step::Pending(Pending { provider_ref, look_again: LOOK_AGAIN, progress: None, phase: phase.to_owned() })
}

fn request(call: &Call) -> Result<Value, ProviderError> {
    let bad = |why: &str| ProviderError::new(ErrorClass::BadInput, why);
    if call.task != "video.generate" {
        return Err(bad(&format!("minimax_v2 is not wired for {}", call.task)));
    }
    let prompt = call.text("prompt").ok_or_else(|| bad("a video needs a prompt"))?;
    let mut content = vec![json!({"type": "text", "text": prompt})];
    for (field, role) in [("image", "first_frame"), ("end_image", "last_frame")] {
        if let Some(file) = call.file(field) {
            content.push(json!({"type": "image_url", "image_url": {"url": data_url(file)}, "role": role}));
        }
    }
    let mut body = json!({"model": call.upstream_model});
    if content.len() == 1 {
        body["ratio"] = json!(call.text("aspect_ratio").unwrap_or(DEFAULT_RATIO));
    }
    body["content"] = content.into();
    if let Some(seconds) = call.input.get("seconds").and_then(Value::as_u64) {
        body["duration"] = json!(seconds);
    }
    if let Some(resolution) = call.text("resolution") {
        body["resolution"] = json!(resolution.to_ascii_uppercase());
    }
    if let Some(callback) = &call.callback_url {
        body["callback_url"] = json!(callback);
    }
    Ok(body)
}

#[derive(Debug, Deserialize)]
struct Submitted {
    #[serde(default)]
    task_id: Value,
}

#[derive(Debug, Deserialize)]
struct Found {
    task: Task,
}

#[derive(Debug, Deserialize)]
struct Task {
    #[serde(default)]
    status: String,
    #[serde(default)]
    error: Option<Failure>,
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    usage: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Content {
    #[serde(default)]
    url: Option<String>,
}

/// What a task's state means for the job.
fn step(provider_ref: &str, task: Task) -> Result<Step, ProviderError> {
    match task.status.as_str() {
        "queued" => Ok(pending(provider_ref.to_owned(), "queued at provider")),
        "succeeded" => {
            let url = task.content.and_then(|content| content.url).filter(|url| !url.is_empty());
            let url = url.ok_or_else(|| {
                ProviderError::new(ErrorClass::Broken, "the task succeeded without a video")
            })?;
            let files = vec![Artifact::Remote { url, headers: Vec::new() }];
            Ok(Step::Done(Artifacts { files, usage: task.usage, ..Artifacts::default() }))
        }
        "failed" => Err(verdict(task.error)),
        "cancelled" => Err(ProviderError::new(ErrorClass::Failed, "the task was stopped")),
        _ => Ok(pending(provider_ref.to_owned(), "generating at provider")),
    }
}

/// The verdict of a task that failed.
fn verdict(failure: Option<Failure>) -> ProviderError {
    let failure = failure.unwrap_or_default();
    let class = match failure.number().map(class_of) {
        Some(ErrorClass::Refused) => ErrorClass::Refused,
        _ => ErrorClass::Failed,
    };
    let words = http::quote(&format!("code {} {}", failure.code, failure.message));
    ProviderError::new(class, format!("the task failed: {words}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::InputFile;

    /// The state of a task in one word: its phase, the number of its files, or the class of its failure.
    fn check(task: Value, expected: &str) {
        let found = match step("7", serde_json::from_value(task.clone()).unwrap()) {
            Ok(Step::Pending(pending)) => pending.phase,
            Ok(Step::Done(made)) => format!("{} files, {}", made.files.len(), made.usage.unwrap_or_default()),
            Err(error) => format!("{:?}", error.class),
        };
        assert_eq!(found, expected, "{task}");
    }

    #[test]
    fn status_words_become_steps_and_unknown_ones_never_a_success() {
        check(json!({"status": "queued"}), "queued at provider");
        check(json!({"status": "running"}), "generating at provider");
        check(json!({"status": "archived"}), "generating at provider");
        check(json!({}), "generating at provider");
        let content = json!({"url": "https://x/1.mp4"});
        check(
            json!({"status": "succeeded", "content": content, "usage": {"output_seconds": 5}}),
            "1 files, {\"output_seconds\":5}",
        );
        check(json!({"status": "succeeded", "content": {"url": ""}}), "Broken");
        check(json!({"status": "succeeded"}), "Broken");
        check(json!({"status": "failed", "error": {"code": 1027, "message": "x"}}), "Refused");
        check(json!({"status": "failed", "error": {"code": "1026"}}), "Refused");
        check(json!({"status": "failed", "error": {"code": 1008}}), "Failed");
        check(json!({"status": "failed"}), "Failed");
        check(json!({"status": "cancelled"}), "Failed");
    }

    #[test]
    fn inputs_become_requests_of_version_2() {
        let call = |input: Value, files| {
            Call::new("video.generate", "MiniMax-H3", input, "job_1-1").with_files(files)
        };
        let text = call(json!({"prompt": "a fox", "seconds": 6, "resolution": "2k"}), Vec::new());
        let expected = json!({
            "model": "MiniMax-H3", "content": [{"type": "text", "text": "a fox"}], "ratio": "16:9", "duration": 6,
            "resolution": "2K",
        });
        assert_eq!(request(&text).unwrap(), expected);

        let (field, mime_type) = ("end_image".to_owned(), "image/png".to_owned());
        let image = InputFile { field, mime_type, bytes: vec![1; 3].into() };
        let framed = call(json!({"prompt": "a fox", "aspect_ratio": "1:1"}), vec![image]);
        let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AQEB"}, "role": "last_frame"});
        let expected =
            json!({"model": "MiniMax-H3", "content": [{"type": "text", "text": "a fox"}, picture]});
        assert_eq!(request(&framed).unwrap(), expected);
        assert_eq!(request(&call(json!({}), Vec::new())).unwrap_err().class, ErrorClass::BadInput);
    }
}
