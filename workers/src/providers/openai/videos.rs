//! Films in the shape of OpenAI's `/v1/videos`: a task is made, asked after, and its content read at the same place.
//!
//! OpenAI shut this API on 2026-09-24; relays still speak it. So it is a vendor of its own, with an address and a key of
//! its own, beside an `openai` that stays where it is. After a lost answer the adapter gives up: nothing of ours is kept
//! with a task, and a second film costs 40 cents and more ("maybe never"). Status words we do not know mean "still at
//! work", never success. Not confirmed by anybody: how a task that the policy stopped is told, how long its content stays,
//! and that the first frame must have the size of the film. Deliberately absent: remixes, edits, extensions, and
//! cancelling, which does not exist: a task can only be deleted once it is over.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use reqwest::{
    RequestBuilder,
    header::{AUTHORIZATION, HeaderMap},
    multipart::{Form, Part},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{fault, fault::class_of};
use crate::{
    media,
    providers::{
        AfterAmbiguity, Artifact, Artifacts, Call, Checkup, ErrorClass, InputFile, Pending, Provider,
        ProviderError, Step, Vendor,
        http::{self, ASK_TIMEOUT, Answer, MAX_JSON_BYTES, Stake, VIDEO_SUBMIT_TIMEOUT, is_id},
    },
};

/// How it is configured. The address is where the API was; a relay's takes its place.
pub const VENDOR: Vendor = Vendor {
    name: "openai_videos",
    key_variables: &["OPENAI_VIDEOS_API_KEY"],
    base_variable: "OPENAI_VIDEOS_BASE_URL",
    base_url: "https://api.openai.com/v1",
    simulator_path: "openai/v1",
    simulated_key: "simulated",
    mode: "as a task that is polled",
    cancel: "no",
    unverified: &[
        "how a task that the policy stopped is told",
        "how long the content of a task stays",
        "that the first frame must have the size of the film",
    ],
    adapter: |http, base_url| Arc::new(Videos::new(http, base_url)),
};

/// When to look for a task whose answer does not say; films take minutes, so later than the second of OpenAI's own clients.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// No look comes earlier, whatever an answer says.
const LOOK_AGAIN_MIN: Duration = Duration::from_secs(1);

/// The header that says when to look, in milliseconds.
const POLL_AFTER: &str = "openai-poll-after-ms";

/// The adapter for whatever speaks `/v1/videos`.
#[derive(Debug)]
pub struct Videos {
    http: reqwest::Client,
    base_url: String,
}

impl Videos {
    /// An adapter that calls `base_url` (with its `/v1`).
    pub fn new(http: reqwest::Client, base_url: String) -> Self {
        Self { http, base_url: http::base(base_url) }
    }

    async fn send(
        &self,
        key: &SecretString,
        request: RequestBuilder,
        stake: Stake,
    ) -> Result<Answer, ProviderError> {
        let timeout = if stake == Stake::Submit { VIDEO_SUBMIT_TIMEOUT } else { ASK_TIMEOUT };
        let request = request.bearer_auth(key.expose_secret()).timeout(timeout);
        let answer = http::send(request, stake, MAX_JSON_BYTES).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(fault(&answer)) }
    }

    /// The task in an answer. `known` is the one that was asked after: an answer about another says nothing of it.
    fn read(&self, key: &SecretString, answer: &Answer, known: Option<&str>) -> Result<Step, ProviderError> {
        let task: Task = answer.json()?;
        if !is_id(&task.id) {
            return Err(answer.nonsense("the task has no id"));
        }
        if known.is_some_and(|id| id != task.id) {
            return Err(answer.nonsense("an answer about another task"));
        }
        self.step(key, task, look_again(&answer.headers))
    }

    /// What a task's state means for the job.
    fn step(&self, key: &SecretString, task: Task, look_again: Duration) -> Result<Step, ProviderError> {
        match task.status.as_str() {
            "completed" => Ok(Step::Done(self.finished(key, &task))),
            "failed" => Err(verdict(task.error)),
            word => Ok(Step::Pending(Pending {
                provider_ref: task.id,
                look_again,
                progress: task.progress.as_u64().and_then(|percent| u8::try_from(percent.min(100)).ok()),
                phase: if word == "queued" { "queued at provider" } else { "generating at provider" }
                    .to_owned(),
            })),
        }
    }

    /// The film, which is read with our key.
    fn finished(&self, key: &SecretString, task: &Task) -> Artifacts {
        let url = format!("{}/videos/{}/content", self.base_url, task.id);
        let bearer = format!("Bearer {}", key.expose_secret());
        let files = vec![Artifact::Remote { url, headers: vec![(AUTHORIZATION.to_string(), bearer)] }];
        let seconds = task.seconds.as_ref().and_then(whole_seconds);
        let usage = seconds.map(|seconds| json!({"seconds": seconds}));
        Artifacts { files, usage, ..Artifacts::default() }
    }
}

#[async_trait]
impl Provider for Videos {
    fn name(&self) -> &'static str {
        VENDOR.name
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::GiveUp
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        let fields = request(call)?;
        let request = self.http.post(format!("{}/videos", self.base_url));
        let request = match call.file("image") {
            Some(image) => request.multipart(form(fields, image)?),
            None => request.json(&fields),
        };
        self.read(&call.key, &self.send(&call.key, request, Stake::Submit).await?, None)
    }

    async fn resume(&self, call: &Call, provider_ref: &str) -> Result<Step, ProviderError> {
        let request = self.http.get(format!("{}/videos/{provider_ref}", self.base_url));
        self.read(&call.key, &self.send(&call.key, request, Stake::Ask).await?, Some(provider_ref))
    }

    async fn check(&self, key: &SecretString) -> Result<Option<Checkup>, ProviderError> {
        let request = self.http.get(format!("{}/videos?limit=1", self.base_url));
        self.send(key, request, Stake::Ask).await.map(|_| Some(Checkup::default()))
    }
}

/// The fields of a request, all of them texts: the length is one in this API.
fn request(call: &Call) -> Result<Map<String, Value>, ProviderError> {
    let bad = |why: String| ProviderError::new(ErrorClass::BadInput, why);
    if call.task != "video.generate" {
        return Err(bad(format!("openai_videos is not wired for {}", call.task)));
    }
    let prompt = call.text("prompt").ok_or_else(|| bad("a film needs a prompt".to_owned()))?;
    let mut fields = Map::from_iter([
        ("model".to_owned(), json!(call.upstream_model)),
        ("prompt".to_owned(), json!(prompt)),
    ]);
    if let Some(seconds) = call.input.get("seconds").and_then(whole_seconds) {
        fields.insert("seconds".to_owned(), json!(seconds.to_string()));
    }
    if let Some(ratio) = call.text("aspect_ratio") {
        let size = size_of(ratio).ok_or_else(|| bad(format!("there is no film of {ratio}")))?;
        fields.insert("size".to_owned(), json!(size));
    }
    Ok(fields)
}

/// The size that every model of this API has for a ratio.
fn size_of(ratio: &str) -> Option<&'static str> {
    match ratio {
        "9:16" => Some("720x1280"),
        "16:9" => Some("1280x720"),
        _ => None,
    }
}

fn form(fields: Map<String, Value>, image: &InputFile) -> Result<Form, ProviderError> {
    let bad = |why: &str| ProviderError::new(ErrorClass::BadInput, why);
    let extension = media::sniff(&image.bytes).ok_or_else(|| bad("the first frame is of no known format"))?;
    let part = Part::bytes(image.bytes.to_vec())
        .file_name(format!("frame.{}", extension.extension()))
        .mime_str(&image.mime_type)
        .map_err(|_| bad("the first frame has no proper media type"))?;
    let form = fields.into_iter().fold(Form::new(), |form, (name, value)| {
        form.text(name, value.as_str().unwrap_or_default().to_owned())
    });
    Ok(form.part("input_reference", part))
}

/// Seconds, which are a text in this API and a number in ours.
fn whole_seconds(seconds: &Value) -> Option<u64> {
    match seconds {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    }
}

/// When the vendor says that a look is worth a call.
fn look_again(headers: &HeaderMap) -> Duration {
    let advice = headers.get(POLL_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    advice.map_or(LOOK_AGAIN, |millis| Duration::from_millis(millis).max(LOOK_AGAIN_MIN))
}

#[derive(Debug, Deserialize)]
struct Task {
    #[serde(default)]
    id: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    progress: Value,
    #[serde(default)]
    seconds: Option<Value>,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Debug, Default, Deserialize)]
struct Failure {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// The verdict of a task that failed.
fn verdict(failure: Option<Failure>) -> ProviderError {
    let failure = failure.unwrap_or_default();
    let code = failure.code.as_deref().unwrap_or("no code");
    let class = match class_of(code) {
        Some(ErrorClass::Refused) => ErrorClass::Refused,
        _ => ErrorClass::Failed,
    };
    let words = http::quote(&format!("{code} {}", failure.message.as_deref().unwrap_or_default()));
    ProviderError::new(class, format!("the task failed: {words}"))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn inputs_become_requests_made_of_texts() {
        let call = |input: Value| Call::new("video.generate", "sora-2", input, "job_1-1");
        let made = request(&call(json!({"prompt": "a fox", "seconds": 8, "aspect_ratio": "16:9"}))).unwrap();
        let expected = json!({"model": "sora-2", "prompt": "a fox", "seconds": "8", "size": "1280x720"});
        assert_eq!(Value::from(made), expected);
        for input in [json!({}), json!({"prompt": "a fox", "aspect_ratio": "1:1"})] {
            assert_eq!(request(&call(input)).unwrap_err().class, ErrorClass::BadInput);
        }
    }

    /// The state of a task in one word: its phase, the number of its files, or the class of its failure.
    fn check(task: Value, expected: &str) {
        let videos = Videos::new(reqwest::Client::builder().build().unwrap(), "https://relay/v1/".to_owned());
        let found =
            match videos.step(&"key".into(), serde_json::from_value(task.clone()).unwrap(), LOOK_AGAIN) {
                Ok(Step::Pending(pending)) => format!("{} {:?}", pending.phase, pending.progress),
                Ok(Step::Done(made)) => format!("{:?} {:?}", made.files, made.usage),
                Err(error) => format!("{:?}", error.class),
            };
        assert!(found.contains(expected), "{task}: {found}");
    }

    #[test]
    fn status_words_become_steps_and_unknown_ones_never_a_success() {
        let task = |status: &str| json!({"id": "v1", "status": status, "progress": 40, "seconds": "8"});
        check(task("queued"), "queued at provider Some(40)");
        check(task("in_progress"), "generating at provider Some(40)");
        check(task("archived"), "generating at provider");
        check(json!({"id": "v1", "progress": null}), "generating at provider None");
        check(task("completed"), "https://relay/v1/videos/v1/content");
        check(task("completed"), "{\"seconds\": Number(8)}");
        check(task("failed"), "Failed");
        let failed =
            |code: &str| json!({"id": "v1", "status": "failed", "error": {"code": code, "message": "no"}});
        check(failed("moderation_blocked"), "Refused");
        check(failed("rate_limit_exceeded"), "Failed");
    }

    #[test]
    fn the_vendor_says_when_to_look_again() {
        let check = |value: Option<&'static str>, expected| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(POLL_AFTER, HeaderValue::from_static(value));
            }
            assert_eq!(look_again(&headers), expected, "{value:?}");
        };
        check(None, LOOK_AGAIN);
        check(Some("soon"), LOOK_AGAIN);
        check(Some("12000"), Duration::from_secs(12));
        check(Some("0"), LOOK_AGAIN_MIN);
    }
}
