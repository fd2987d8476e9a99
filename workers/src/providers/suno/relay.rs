//! Suno by a relay of new-api's kind: `/suno/submit/music`, `/suno/fetch/{id}`.
//!
//! Its code is a word, `success` or another. The status words come in two sets, the relay's own and Suno's, told apart by
//! nothing; both are known here, and others mean "still at work". It offers no callbacks.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{SUBMIT_TIMEOUT, Track, Wish, class_of_failure, made, pending};
use crate::providers::{
    AfterAmbiguity, Call, ErrorClass, Provider, ProviderError, Step, Vendor,
    http::{self, ASK_TIMEOUT, Answer, MAX_JSON_BYTES, Stake, is_id},
};

/// How it is configured. There are many relays and no first among them, so the address is that of a container beside ours.
pub const VENDOR: Vendor = Vendor {
    name: "suno",
    key_variables: &["SUNO_API_KEY"],
    base_variable: "SUNO_BASE_URL",
    base_url: "http://suno-relay:3000",
    simulator_path: "suno",
    simulated_key: "simulated",
    mode: "as a task that is polled",
    cancel: "no",
    unverified: &[
        "the names of models beside chirp-v3-0",
        "that title and tags count beside a description",
        "error codes, and the words by which a failed task tells that its content was refused",
        "where the words that were sung stand in an answer",
        "prices",
    ],
    adapter: |http, base_url| Arc::new(Relay::new(http, base_url)),
};

/// The adapter for a relay of new-api's kind.
#[derive(Debug)]
pub struct Relay {
    http: reqwest::Client,
    base_url: String,
}

impl Relay {
    /// An adapter that calls `base_url` (without `/suno`).
    pub fn new(http: reqwest::Client, base_url: String) -> Self {
        Self { http, base_url: http::base(base_url) }
    }

    async fn send(
        &self,
        key: &SecretString,
        request: RequestBuilder,
        stake: Stake,
    ) -> Result<Value, ProviderError> {
        let timeout = if stake == Stake::Submit { SUBMIT_TIMEOUT } else { ASK_TIMEOUT };
        let request = request.bearer_auth(key.expose_secret()).timeout(timeout);
        read(&http::send(request, stake, MAX_JSON_BYTES).await?)
    }
}

#[async_trait]
impl Provider for Relay {
    fn name(&self) -> &'static str {
        "suno"
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::SubmitAgain
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        let request = self.http.post(format!("{}/suno/submit/music", self.base_url)).json(&request(call)?);
        match self.send(&call.key, request, Stake::Submit).await?.as_str() {
            Some(id) if is_id(id) => Ok(pending(id, true, None)),
            _ => Err(ProviderError::new(ErrorClass::Ambiguous, "accepted without a task id")),
        }
    }

    async fn resume(&self, call: &Call, provider_ref: &str) -> Result<Step, ProviderError> {
        let request = self.http.get(format!("{}/suno/fetch/{provider_ref}", self.base_url));
        let found = self.send(&call.key, request, Stake::Ask).await?;
        let task: Task = serde_json::from_value(the_one(found, provider_ref))
            .map_err(|_| ProviderError::new(ErrorClass::Unavailable, "the answer holds no task"))?;
        step(provider_ref, task)
    }
}

/// The task that was asked for, which some relays put into a list.
fn the_one(found: Value, id: &str) -> Value {
    match found {
        Value::Array(tasks) => tasks.into_iter().find(|task| task["task_id"] == id).unwrap_or_default(),
        task => task,
    }
}

fn request(call: &Call) -> Result<Value, ProviderError> {
    let wish = Wish::of(call)?;
    let mut body = json!({ "mv": call.upstream_model, "make_instrumental": wish.is_instrumental });
    let tags = match wish.lyrics {
        Some(lyrics) => {
            body["prompt"] = json!(lyrics);
            wish.style_and_subject()
        }
        None => {
            body["gpt_description_prompt"] = json!(wish.about);
            wish.style.map(str::to_owned)
        }
    };
    if let Some(tags) = tags {
        body["tags"] = json!(tags);
    }
    if let Some(title) = wish.title {
        body["title"] = json!(title);
    }
    Ok(body)
}

#[derive(Debug, Deserialize)]
struct Envelope {
    code: String,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    data: Value,
}

/// The data of an answer that says `success`.
fn read(answer: &Answer) -> Result<Value, ProviderError> {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(&answer.body) else {
        if answer.status.is_success() {
            return Err(answer.nonsense("an answer without the relay's shape"));
        }
        return Err(answer.error(answer.class(), "an error without the relay's shape"));
    };
    if answer.status.is_success() && envelope.code == "success" {
        return Ok(envelope.data);
    }
    let words = format!("code {}: {}", envelope.code, envelope.message.unwrap_or_default());
    let class = match envelope.code.as_str() {
        "quota_not_enough" => ErrorClass::Quota,
        // A clear no, and no word of what is wrong with the input.
        _ if answer.status.is_success() => ErrorClass::Unavailable,
        _ => answer.class(),
    };
    Err(answer.error(class, &words))
}

#[derive(Debug, Deserialize)]
struct Task {
    status: String,
    #[serde(default)]
    fail_reason: Option<String>,
    /// `"45%"`.
    #[serde(default)]
    progress: Value,
    #[serde(default)]
    data: Value,
}

#[derive(Debug, Deserialize)]
struct Clip {
    #[serde(default)]
    audio_url: Option<String>,
    #[serde(default)]
    image_url: Option<String>,
    #[serde(default)]
    image_large_url: Option<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    tags: Option<String>,
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    error_type: Option<String>,
    #[serde(default)]
    error_message: Option<String>,
}

/// What a task's state means for the job.
fn step(provider_ref: &str, task: Task) -> Result<Step, ProviderError> {
    let progress = task.progress.as_str().and_then(|text| text.strip_suffix('%')?.parse::<u8>().ok());
    let progress = progress.map(|percent| percent.min(100));
    match task.status.to_ascii_lowercase().as_str() {
        "not_start" | "submitted" | "queued" | "queueing" => Ok(pending(provider_ref, true, progress)),
        "success" => made(clips(task.data).into_iter().map(Track::from).collect()).map(Step::Done),
        "failure" | "failed" => {
            let why = words_of_failure(task);
            Err(ProviderError::new(class_of_failure(&why), format!("the task failed: {}", http::quote(&why))))
        }
        _ => Ok(pending(provider_ref, false, progress)),
    }
}

/// The clips in a task; an odd one is left out.
fn clips(data: Value) -> Vec<Clip> {
    let items = match data {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect()
}

fn words_of_failure(task: Task) -> String {
    let of_clips = clips(task.data).into_iter().filter_map(|clip| clip.metadata);
    let of_clips = of_clips.flat_map(|metadata| [metadata.error_type, metadata.error_message]);
    std::iter::once(task.fail_reason).chain(of_clips).flatten().collect::<Vec<_>>().join(" ")
}

impl From<Clip> for Track {
    fn from(clip: Clip) -> Self {
        let metadata = clip.metadata.unwrap_or_default();
        let full = |text: Option<String>| text.filter(|text| !text.is_empty());
        Self {
            audio_url: clip.audio_url,
            title: clip.title,
            lyrics: full(metadata.prompt).or(clip.text),
            style: metadata.tags,
            cover_url: full(clip.image_large_url).or(clip.image_url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_request(input: Value, expected: Value) {
        let call = Call::new("audio.music", "chirp-v3-0", input, "job_1-1");
        assert_eq!(request(&call).unwrap(), expected);
    }

    #[test]
    fn inputs_become_the_relays_requests() {
        check_request(
            json!({ "prompt": "a fox" }),
            json!({ "mv": "chirp-v3-0", "make_instrumental": false, "gpt_description_prompt": "a fox" }),
        );
        check_request(
            json!({ "prompt": "a fox", "lyrics": "la la", "style": "folk", "title": "Fox", "instrumental": true }),
            json!({ "mv": "chirp-v3-0", "make_instrumental": true, "prompt": "la la", "tags": "folk, a fox", "title": "Fox" }),
        );
    }

    fn check_answer(status: u16, body: &str, expected: Result<Value, ErrorClass>) {
        let answer = Answer::told(status, body, Stake::Submit);
        assert_eq!(read(&answer).map_err(|error| error.class), expected, "{status} {body}");
    }

    #[test]
    fn an_answer_is_judged_by_its_code() {
        check_answer(200, r#"{"code":"success","message":"","data":"7"}"#, Ok(json!("7")));
        check_answer(200, r#"{"code":"upstream_error","message":"x"}"#, Err(ErrorClass::Unavailable));
        check_answer(403, r#"{"code":"quota_not_enough","message":"x"}"#, Err(ErrorClass::Quota));
        check_answer(401, r#"{"code":"x","message":"x"}"#, Err(ErrorClass::Auth));
        check_answer(400, r#"{"code":"x","message":null}"#, Err(ErrorClass::BadInput));
        check_answer(429, r#"{"code":"x"}"#, Err(ErrorClass::RateLimited));
        check_answer(200, "<html>", Err(ErrorClass::Ambiguous));
        check_answer(502, "<html>", Err(ErrorClass::Ambiguous));
    }

    /// The state of a task in one word: phase and progress, the number of its files, or the class of its failure.
    fn check_state(task: Value, expected: &str) {
        let found = match step("7", serde_json::from_value(task.clone()).unwrap()) {
            Ok(Step::Pending(pending)) => format!("{} {:?}", pending.phase, pending.progress),
            Ok(Step::Done(made)) => format!("{} files", made.files.len()),
            Err(error) => format!("{:?}", error.class),
        };
        assert_eq!(found, expected, "{task}");
    }

    #[test]
    fn both_sets_of_status_words_become_steps_and_unknown_ones_never_a_success() {
        let clip = json!({ "id": "a", "audio_url": "https://x/1.mp3", "metadata": null });
        let task = |status: &str| json!({ "status": status, "progress": "45%", "data": [clip] });
        for queued in ["NOT_START", "SUBMITTED", "QUEUED", "submitted", "queueing"] {
            check_state(task(queued), "queued at provider Some(45)");
        }
        for working in ["IN_PROGRESS", "processing", "UNKNOWN", "RETICULATING", ""] {
            check_state(task(working), "generating at provider Some(45)");
        }
        for done in ["SUCCESS", "success"] {
            check_state(task(done), "1 files");
        }
        for failed in ["FAILURE", "failed"] {
            check_state(task(failed), "Failed");
        }
        check_state(json!({ "status": "SUCCESS", "data": [] }), "Broken");
        let refused = json!({ "metadata": { "error_type": "moderation_failure" } });
        check_state(json!({ "status": "failed", "data": [refused] }), "Refused");
    }

    #[test]
    fn what_is_said_of_a_song_is_told() {
        let clip = json!({
            "audio_url": "https://x/1.mp3", "image_url": "https://x/1.png", "image_large_url": "", "title": "Fox",
            "text": "", "metadata": { "tags": "folk", "prompt": "la la", "duration": 120.5 },
        });
        let track = Track::from(clips(json!([clip])).remove(0));
        let found = (track.title.as_deref(), track.lyrics.as_deref(), track.style.as_deref());
        assert_eq!(found, (Some("Fox"), Some("la la"), Some("folk")));
        assert_eq!(track.cover_url.as_deref(), Some("https://x/1.png"));
    }
}
