//! Version 1, for Hailuo: videos as tasks that are asked after, the file in a third call.
//!
//! Every answer is a 200; the truth is in `base_resp`. Status words we do not know mean "still at work", never success. Not
//! confirmed by anybody: what MiniMax posts to the address it is given, and how long a download address lives. Deliberately
//! absent: cancelling, which this version does not offer.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use secrecy::SecretString;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use url::Url;

use super::{Line, text_of};
use crate::providers::{
    AfterAmbiguity, Artifact, Artifacts, Call, ErrorClass, Pending, Provider, ProviderError, Step, Vendor,
    http::{Stake, data_url},
};

/// How it is configured. The address is that outside China; keys of one region do not work in the other.
pub const VENDOR: Vendor = Vendor {
    name: "minimax",
    key_variables: &["MINIMAX_API_KEY"],
    base_variable: "MINIMAX_BASE_URL",
    base_url: "https://api.minimax.io",
    simulator_path: "minimax",
    simulated_key: "simulated",
    mode: "as a task that is polled",
    cancel: "no",
    unverified: &["how long a download address lives", "what is posted to a callback address"],
    adapter: |http, base_url| Arc::new(MiniMax(Line::new(http, base_url))),
};

/// When to look for a task; videos take 1–5 min.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The word for a task that failed.
pub(super) const FAILED: &str = "Fail";

/// The adapter for version 1.
#[derive(Debug)]
struct MiniMax(Line);

impl MiniMax {
    async fn ask<T: DeserializeOwned>(
        &self,
        key: &SecretString,
        path: &str,
        query: (&str, &str),
    ) -> Result<T, ProviderError> {
        let url =
            Url::parse_with_params(&format!("{}{path}", self.0.base_url), [query]).map_err(|error| {
                ProviderError::new(ErrorClass::Unavailable, format!("minimax's address: {error}"))
            })?;
        self.0.call(key, self.0.http.get(url), Stake::Ask).await
    }

    /// Where the finished file can be downloaded for the next hours.
    async fn retrieve(&self, key: &SecretString, file_id: &str) -> Result<Artifacts, ProviderError> {
        let found: Retrieved = self.ask(key, "/v1/files/retrieve", ("file_id", file_id)).await?;
        let url = [found.file.download_url, found.file.backup_download_url]
            .into_iter()
            .flatten()
            .find(|url| !url.is_empty())
            .ok_or_else(|| ProviderError::new(ErrorClass::Broken, "the file has no address"))?;
        let files = vec![Artifact::Remote { url, headers: Vec::new() }];
        Ok(Artifacts { files, ..Artifacts::default() })
    }
}

#[async_trait]
impl Provider for MiniMax {
    fn name(&self) -> &'static str {
        VENDOR.name
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::GiveUp
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        let request =
            self.0.http.post(format!("{}/v1/video_generation", self.0.base_url)).json(&request(call)?);
        let taken: Submitted = self.0.call(&call.key, request, Stake::Submit).await?;
        let task_id = text_of(&taken.task_id)
            .ok_or_else(|| ProviderError::new(ErrorClass::Ambiguous, "accepted without a task id"))?;
        Ok(pending(task_id, "queued at provider"))
    }

    async fn resume(&self, call: &Call, provider_ref: &str) -> Result<Step, ProviderError> {
        let query = ("task_id", provider_ref);
        let task: Task = self.ask(&call.key, "/v1/query/video_generation", query).await?;
        match state_of(&task.status) {
            State::Queued => Ok(pending(provider_ref.to_owned(), "queued at provider")),
            State::Working => Ok(pending(provider_ref.to_owned(), "generating at provider")),
            State::Failed => Err(ProviderError::new(ErrorClass::Failed, "the task failed")),
            State::Done => match text_of(&task.file_id) {
                Some(file_id) => self.retrieve(&call.key, &file_id).await.map(Step::Done),
                None => Err(ProviderError::new(ErrorClass::Broken, "the task succeeded without a file")),
            },
        }
    }
}

fn pending(provider_ref: String, phase: &str) -> Step {
    Step::Pending(Pending { provider_ref, look_again: LOOK_AGAIN, progress: None, phase: phase.to_owned() })
}

fn request(call: &Call) -> Result<Value, ProviderError> {
    let bad = |why: &str| ProviderError::new(ErrorClass::BadInput, why);
    if call.task != "video.generate" {
        return Err(bad(&format!("minimax is not wired for {}", call.task)));
    }
    let mut body = Map::from_iter([("model".to_owned(), json!(call.upstream_model))]);
    for (field, theirs) in [("image", "first_frame_image"), ("end_image", "last_frame_image")] {
        if let Some(file) = call.file(field) {
            body.insert(theirs.to_owned(), json!(data_url(file)));
        }
    }
    match call.text("prompt") {
        Some(prompt) => _ = body.insert("prompt".to_owned(), json!(prompt)),
        None if body.contains_key("first_frame_image") => {}
        None => return Err(bad("a video needs a prompt or a first frame")),
    }
    if let Some(seconds) = call.input.get("seconds").and_then(whole_seconds) {
        body.insert("duration".to_owned(), json!(seconds));
    }
    if let Some(resolution) = call.text("resolution") {
        body.insert("resolution".to_owned(), json!(resolution.to_ascii_uppercase()));
    }
    if let Some(callback) = &call.callback_url {
        body.insert("callback_url".to_owned(), json!(callback));
    }
    Ok(body.into())
}

/// MiniMax wants the seconds as a number.
fn whole_seconds(seconds: &Value) -> Option<u64> {
    match seconds {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    }
}

#[derive(Debug, Deserialize)]
struct Submitted {
    #[serde(default)]
    task_id: Value,
}

#[derive(Debug, Deserialize)]
struct Task {
    #[serde(default)]
    status: String,
    #[serde(default)]
    file_id: Value,
}

#[derive(Debug, Deserialize)]
struct Retrieved {
    file: File,
}

#[derive(Debug, Deserialize)]
struct File {
    #[serde(default)]
    download_url: Option<String>,
    #[serde(default)]
    backup_download_url: Option<String>,
}

#[derive(Debug, PartialEq)]
enum State {
    Queued,
    Working,
    Done,
    Failed,
}

/// Words we do not know mean "still at work": only the job's deadline may end it then.
fn state_of(status: &str) -> State {
    match status {
        "Preparing" | "Queueing" => State::Queued,
        "Success" => State::Done,
        FAILED => State::Failed,
        _ => State::Working,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::InputFile;

    #[test]
    fn status_words_become_states_and_unknown_ones_never_a_success() {
        let check = |word: &str, expected| assert_eq!(state_of(word), expected, "{word}");
        check("Preparing", State::Queued);
        check("Queueing", State::Queued);
        check("Processing", State::Working);
        check("Success", State::Done);
        check("Fail", State::Failed);
        check("success", State::Working);
        check("Archived", State::Working);
        check("", State::Working);
    }

    #[test]
    fn inputs_become_minimax_requests() {
        let call = |input: Value, files| {
            Call::new("video.generate", "MiniMax-Hailuo-02", input, "job_1-1").with_files(files)
        };
        let (field, mime_type) = ("image".to_owned(), "image/png".to_owned());
        let image = InputFile { field, mime_type, bytes: vec![1; 3].into() };
        let full =
            call(json!({"prompt": "a fox", "seconds": "6", "resolution": "768p"}), vec![image.clone()]);
        let expected = json!({
            "model": "MiniMax-Hailuo-02", "prompt": "a fox", "duration": 6, "resolution": "768P",
            "first_frame_image": "data:image/png;base64,AQEB",
        });
        assert_eq!(request(&full).unwrap(), expected);
        assert!(request(&call(json!({}), vec![image])).is_ok());
        assert_eq!(request(&call(json!({}), Vec::new())).unwrap_err().class, ErrorClass::BadInput);
    }
}
