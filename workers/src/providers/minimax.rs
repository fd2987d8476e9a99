//! MiniMax Hailuo (API v1): videos as tasks that are asked after, the file in a third call.
//!
//! After a lost answer the adapter gives up: MiniMax takes no name of ours and lists no tasks, and a second video
//! costs 28–56 cents, so a failed job (nothing charged) is better than two bills. Every answer is a 200; the truth
//! is in `base_resp`. Deliberately absent: callbacks, API v2, and cancelling, which v1 does not offer.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use url::Url;

use super::{
    AfterAmbiguity, Artifact, Artifacts, Call, ErrorClass, Pending, Provider, ProviderError, Step, Vendor,
    http::{self, ASK_TIMEOUT, MAX_JSON_BYTES, Stake, VIDEO_SUBMIT_TIMEOUT, data_url, is_id},
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
    unverified: &["how long a download address lives"],
    adapter: |http, base_url| Arc::new(MiniMax::new(http, base_url)),
};

/// When to look for a task; videos take 1–5 min.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The adapter for MiniMax.
#[derive(Debug)]
pub struct MiniMax {
    http: reqwest::Client,
    base_url: String,
}

impl MiniMax {
    /// An adapter that calls `base_url` (without `/v1`).
    pub fn new(http: reqwest::Client, base_url: String) -> Self {
        Self { http, base_url: http::base(base_url) }
    }

    /// Sends a request and reads its answer as `T`, which must hold no error.
    async fn call<T: DeserializeOwned>(
        &self,
        key: &SecretString,
        request: RequestBuilder,
        stake: Stake,
    ) -> Result<T, ProviderError> {
        let timeout = if stake == Stake::Submit { VIDEO_SUBMIT_TIMEOUT } else { ASK_TIMEOUT };
        let request = request.bearer_auth(key.expose_secret()).timeout(timeout);
        let answer = http::send(request, stake, MAX_JSON_BYTES).await?;
        let envelope: Envelope = serde_json::from_slice(&answer.body).unwrap_or_default();
        let Verdict { status_code, status_msg } = envelope.base_resp.unwrap_or_default();
        let is_error = status_code != 0 || !answer.status.is_success();
        if is_error && stake == Stake::Submit && text_of(&envelope.task_id).is_some() {
            return Err(answer.nonsense("an error that names a task"));
        }
        if status_code != 0 {
            let class = judge(status_code, envelope.status.as_str().unwrap_or_default());
            return Err(answer.error(class, &format!("code {status_code}: {status_msg}")));
        }
        if is_error {
            return Err(answer.error(answer.class(), "an error without MiniMax's shape"));
        }
        answer.json()
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        key: &SecretString,
        path: &str,
        query: (&str, &str),
    ) -> Result<T, ProviderError> {
        let url = Url::parse_with_params(&format!("{}{path}", self.base_url), [query]).map_err(|error| {
            ProviderError::new(ErrorClass::Unavailable, format!("minimax's address: {error}"))
        })?;
        self.call(key, self.http.get(url), Stake::Ask).await
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
        "minimax"
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::GiveUp
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        let request = self.http.post(format!("{}/v1/video_generation", self.base_url)).json(&request(call)?);
        let taken: Submitted = self.call(&call.key, request, Stake::Submit).await?;
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
    Ok(body.into())
}

/// MiniMax wants the seconds as a number.
fn whole_seconds(seconds: &Value) -> Option<u64> {
    match seconds {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    }
}

/// What any answer may hold; a field of another type than usual does not hide the verdict beside it.
#[derive(Debug, Default, Deserialize)]
struct Envelope {
    base_resp: Option<Verdict>,
    /// Of a task, where the answer is about one.
    #[serde(default)]
    status: Value,
    #[serde(default)]
    task_id: Value,
}

#[derive(Debug, Default, Deserialize)]
struct Verdict {
    status_code: i64,
    #[serde(default)]
    status_msg: String,
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

/// An id, which is a string in one answer and a number in the next. A number too long to be read exactly is none.
fn text_of(id: &Value) -> Option<String> {
    match id {
        Value::String(text) if is_id(text) => Some(text.clone()),
        Value::Number(number) if number.is_u64() => Some(number.to_string()),
        _ => None,
    }
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
        "Fail" => State::Failed,
        _ => State::Working,
    }
}

/// What an error code means; beside the word that a task failed, every code is the reason for a verdict.
fn judge(code: i64, status: &str) -> ErrorClass {
    match (class_of(code), state_of(status)) {
        (ErrorClass::Refused, _) => ErrorClass::Refused,
        (_, State::Failed) => ErrorClass::Failed,
        (class, _) => class,
    }
}

fn class_of(code: i64) -> ErrorClass {
    match code {
        // 2038 is an account without the identity check, 2061 a plan without this model.
        1004 | 2038 | 2049 | 2061 => ErrorClass::Auth,
        1008 => ErrorClass::Quota,
        1002 | 1039 | 1041 => ErrorClass::RateLimited,
        1026 | 1027 => ErrorClass::Refused,
        1042 | 2013 => ErrorClass::BadInput,
        // 1000, 1001, 1024 and 1033 are faults of theirs; a code not listed is no verdict on the input.
        _ => ErrorClass::Unavailable,
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
    fn codes_become_classes() {
        let check = |code, expected| assert_eq!(class_of(code), expected, "{code}");
        check(1000, ErrorClass::Unavailable);
        check(1002, ErrorClass::RateLimited);
        check(1004, ErrorClass::Auth);
        check(1008, ErrorClass::Quota);
        check(1026, ErrorClass::Refused);
        check(1027, ErrorClass::Refused);
        check(2013, ErrorClass::BadInput);
        check(2049, ErrorClass::Auth);
        check(2061, ErrorClass::Auth);
        check(4242, ErrorClass::Unavailable);
    }

    #[test]
    fn a_failed_task_is_a_verdict_whatever_its_code() {
        let check =
            |code, status: &str, expected| assert_eq!(judge(code, status), expected, "{code} {status}");
        check(1000, "Fail", ErrorClass::Failed);
        check(1027, "Fail", ErrorClass::Refused);
        check(1000, "Processing", ErrorClass::Unavailable);
        check(1002, "", ErrorClass::RateLimited);
    }

    #[test]
    fn ids_come_as_text_or_number() {
        let check = |id: Value, expected: Option<&str>| assert_eq!(text_of(&id).as_deref(), expected);
        check(json!("205"), Some("205"));
        check(json!(205), Some("205"));
        check(json!(""), None);
        check(json!(2.05e30), None);
        check(json!("20\u{0}5"), None);
        check(Value::Null, None);
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
