//! Replicate: models of many makers, each run as a prediction that is asked after.
//!
//! A model is named by `owner/name`, for the official ones, or by `owner/name:version` or a version alone, for all others. After a
//! lost answer the work is submitted again ("maybe twice"): a prediction bears no name of ours to look it up by, and a second one
//! costs at most a few cents. What it is given and gives back differs from model to model, see `mapped.rs`.
//!
//! An `aborted` prediction was never begun, which is Replicate's own fault, so it is made anew. That goes by the word for a
//! result that cannot be used, for there is none for work let go by a vendor, so its attempt is booked at the most it can
//! have cost although Replicate says it bills nothing. Deliberately absent: waiting within the request, deployments,
//! streaming, and checking the signatures of webhooks (Standard Webhooks), since nothing that they say is believed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use reqwest::{
    Body, RequestBuilder,
    multipart::{Form, Part},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    AfterAmbiguity, Artifacts, Call, Checkup, ErrorClass, InputFile, Pending, Provider, ProviderError, Step,
    Vendor,
    http::{self, ASK_TIMEOUT, Answer, MAX_INLINE_BYTES, Stake, VIDEO_SUBMIT_TIMEOUT, data_url},
    mapped,
};

/// How it is configured.
pub const VENDOR: Vendor = Vendor {
    name: "replicate",
    key_variables: &["REPLICATE_API_TOKEN"],
    base_variable: "REPLICATE_BASE_URL",
    base_url: "https://api.replicate.com/v1",
    simulator_path: "replicate/v1",
    simulated_key: "simulated",
    mode: "as a task that is polled",
    cancel: "yes",
    unverified: &[
        "names, versions and costs of the models in the catalogue",
        "the form of an upload (POST /files)",
        "the title of the refusal of a version that is gone",
        "the words by which models say that content was refused",
    ],
    adapter: |http, base_url| Arc::new(Replicate::new(http, base_url)),
};

/// When to look for a prediction; most pictures take 2–30 s.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// Largest file that goes into the request; Replicate's documentation advises data URLs up to 1 MB, and an upload beyond.
const MAX_DATA_URL_BYTES: usize = 1_000_000;

/// The adapter for Replicate.
#[derive(Debug)]
pub struct Replicate {
    http: reqwest::Client,
    base_url: String,
}

impl Replicate {
    /// An adapter that calls `base_url` (with its `/v1`).
    pub fn new(http: reqwest::Client, base_url: String) -> Self {
        Self { http, base_url: http::base(base_url) }
    }

    async fn send(
        &self,
        key: &SecretString,
        request: RequestBuilder,
        stake: Stake,
        timeout: Duration,
    ) -> Result<Answer, ProviderError> {
        let request = request.bearer_auth(key.expose_secret()).timeout(timeout);
        // A prediction repeats its input, and with it the files, and may hold its output as data URLs.
        let answer = http::send(request, stake, MAX_INLINE_BYTES).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(fault(&answer)) }
    }

    async fn ask(&self, key: &SecretString, path: &str) -> Result<Answer, ProviderError> {
        self.send(key, self.http.get(format!("{}{path}", self.base_url)), Stake::Ask, ASK_TIMEOUT).await
    }

    /// What is sent for a file: itself, or the address that it was uploaded to. An upload costs nothing.
    async fn address(&self, key: &SecretString, file: &InputFile) -> Result<String, ProviderError> {
        if file.bytes.len() <= MAX_DATA_URL_BYTES {
            return Ok(data_url(file));
        }
        let part = Part::stream_with_length(Body::from(file.bytes.clone()), file.bytes.len() as u64)
            .file_name(file.field.clone())
            .mime_str(&file.mime_type)
            .map_err(|_| ProviderError::new(ErrorClass::BadInput, "a file of an odd type"))?;
        let request = self.http.post(format!("{}/files", self.base_url));
        let request = request.multipart(Form::new().part("content", part));
        let answer = self.send(key, request, Stake::Ask, VIDEO_SUBMIT_TIMEOUT).await?;
        Ok(answer.json::<Upload>()?.urls.get)
    }
}

#[async_trait]
impl Provider for Replicate {
    fn name(&self) -> &'static str {
        "replicate"
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::SubmitAgain
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        let mut addresses = HashMap::new();
        for file in &call.files {
            addresses.insert(file.field.as_str(), self.address(&call.key, file).await?);
        }
        let (path, body) = request(call, |field| addresses.get(field).cloned())?;
        let request = self.http.post(format!("{}{path}", self.base_url)).json(&body);
        let answer = self.send(&call.key, request, Stake::Submit, VIDEO_SUBMIT_TIMEOUT).await?;
        let prediction: Prediction = answer.json()?;
        if !mapped::is_plain(&prediction.id) {
            return Err(answer.nonsense("accepted without an id"));
        }
        let id = prediction.id.clone();
        step(&call.task, &id, prediction)
    }

    async fn resume(&self, call: &Call, provider_ref: &str) -> Result<Step, ProviderError> {
        let answer = self.ask(&call.key, &format!("/predictions/{provider_ref}")).await?;
        step(&call.task, provider_ref, answer.json()?)
    }

    async fn check(&self, key: &SecretString) -> Result<Option<Checkup>, ProviderError> {
        self.ask(key, "/account").await?;
        Ok(Some(Checkup::default()))
    }

    async fn cancel(&self, call: &Call, provider_ref: &str) -> Result<(), ProviderError> {
        let request = self.http.post(format!("{}/predictions/{provider_ref}/cancel", self.base_url));
        self.send(&call.key, request, Stake::Ask, ASK_TIMEOUT).await.map(drop)
    }
}

/// Path and body of a submit.
fn request(call: &Call, file: impl Fn(&str) -> Option<String>) -> Result<(String, Value), ProviderError> {
    let input = mapped::input(call, file)?;
    let (path, mut body) = match version_of(&call.upstream_model) {
        Some(version) => ("/predictions".to_owned(), json!({ "version": version, "input": input })),
        None => (official_path(&call.upstream_model)?, json!({ "input": input })),
    };
    if let Some(url) = &call.callback_url {
        body["webhook"] = json!(url);
        body["webhook_events_filter"] = json!(["completed"]);
    }
    Ok((path, body))
}

/// The version in `owner/name:version`, or alone: 64 hexadecimal digits.
fn version_of(upstream_model: &str) -> Option<&str> {
    let version = upstream_model.rsplit(':').next()?;
    (version.len() == 64 && version.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(version)
}

/// Where an official model takes submits.
fn official_path(upstream_model: &str) -> Result<String, ProviderError> {
    match upstream_model.split_once('/') {
        Some((owner, name)) if mapped::is_plain(owner) && mapped::is_plain(name) => {
            Ok(format!("/models/{owner}/{name}/predictions"))
        }
        _ => {
            let why = format!("{upstream_model:?} is neither owner/name nor a version");
            Err(ProviderError::new(ErrorClass::Auth, why))
        }
    }
}

#[derive(Debug, Deserialize)]
struct Upload {
    urls: UploadUrls,
}

#[derive(Debug, Deserialize)]
struct UploadUrls {
    get: String,
}

#[derive(Debug, Deserialize)]
struct Prediction {
    #[serde(default)]
    id: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    output: Value,
    #[serde(default)]
    error: Value,
    #[serde(default)]
    metrics: Value,
    /// An hour after its end everything but the bare facts is gone.
    #[serde(default)]
    data_removed: bool,
}

#[derive(Debug, Deserialize)]
struct Problem {
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: Value,
}

/// The error in an unsuccessful answer.
fn fault(answer: &Answer) -> ProviderError {
    let Ok(Problem { title, detail }) = serde_json::from_slice(&answer.body) else {
        return answer.error(answer.class(), "an error without Replicate's shape");
    };
    let words = format!("{title}: {}", text_of(&detail));
    let class = match answer.class() {
        ErrorClass::BadInput if mapped::is_refusal(&words) => ErrorClass::Refused,
        // The catalogue names a version that is gone; the customer's input is not to blame.
        ErrorClass::BadInput if title.starts_with("Invalid version") => ErrorClass::Auth,
        class => class,
    };
    answer.error(class, &words)
}

/// Words, which are mostly a text, and of some models an object.
fn text_of(words: &Value) -> String {
    words.as_str().map_or_else(|| words.to_string(), str::to_owned)
}

/// What a prediction's state means for the job. Words we do not know mean "still at work".
fn step(task: &str, id: &str, prediction: Prediction) -> Result<Step, ProviderError> {
    let pending = |phase: &str| {
        Ok(Step::Pending(Pending {
            provider_ref: id.to_owned(),
            look_again: LOOK_AGAIN,
            progress: None,
            phase: phase.to_owned(),
        }))
    };
    match prediction.status.as_str() {
        "starting" => pending("queued at provider"),
        "succeeded" => finished(task, prediction).map(Step::Done),
        "failed" => {
            let why = text_of(&prediction.error);
            let class = if mapped::is_refusal(&why) { ErrorClass::Refused } else { ErrorClass::Failed };
            Err(ProviderError::new(class, format!("the prediction failed: {}", http::quote(&why))))
        }
        "canceled" => Err(ProviderError::new(ErrorClass::Failed, "the prediction was canceled")),
        "aborted" => Err(ProviderError::new(ErrorClass::Broken, "the prediction was let go before it began")),
        _ => pending("generating at provider"),
    }
}

fn finished(task: &str, prediction: Prediction) -> Result<Artifacts, ProviderError> {
    let files = mapped::files(&prediction.output, task);
    if files.is_empty() {
        let why = if prediction.data_removed { "its files are gone" } else { "there is no file" };
        return Err(ProviderError::new(ErrorClass::Broken, format!("the prediction succeeded, but {why}")));
    }
    let usage = Some(prediction.metrics).filter(Value::is_object);
    Ok(Artifacts { files, usage, ..Artifacts::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::mapped::tests::call;

    fn sent(call: &Call) -> (String, Value) {
        request(call, |field| call.file(field).map(data_url)).unwrap()
    }

    #[test]
    fn inputs_become_predictions_by_name_or_by_version() {
        let mut flux = call("flux", "replicate", json!({"prompt": "a fox", "n": 2}), &[]);
        let (path, body) = sent(&flux);
        assert_eq!(path, "/models/black-forest-labs/flux-dev/predictions");
        let input =
            json!({"prompt": "a fox", "num_outputs": 2, "aspect_ratio": "1:1", "output_format": "png"});
        assert_eq!(body, json!({"input": input}));

        flux.callback_url = Some("https://kiln.example/ring".to_owned());
        let (_, body) = sent(&flux);
        assert_eq!(body["webhook"], "https://kiln.example/ring");
        assert_eq!(body["webhook_events_filter"], json!(["completed"]));

        let input = json!({"image": "file_1", "source": "file_2", "consent": true});
        let (path, body) = sent(&call("face-swap-replicate", "replicate", input, &["image", "source"]));
        assert_eq!(path, "/predictions");
        let file = "data:image/png;base64,AQEB";
        assert_eq!(body["input"], json!({"input_image": file, "swap_image": file}));
        assert_eq!(body["version"].as_str().map(str::len), Some(64));
    }

    #[test]
    fn a_model_is_named_in_three_ways() {
        let hash = "278a81e7ebb22db98bcba54de985d22cc1abeead2754eb1f2af717247be69b34";
        assert_eq!(version_of(hash), Some(hash));
        assert_eq!(version_of(&format!("owner/name:{hash}")), Some(hash));
        assert_eq!(version_of("owner/name"), None);
        assert_eq!(official_path("owner/name").unwrap(), "/models/owner/name/predictions");
        for bad in ["name", "owner/name:short", "owner/../x", "owner/name/more", ""] {
            assert_eq!(official_path(bad).unwrap_err().class, ErrorClass::Auth, "{bad}");
        }
    }

    /// A prediction's state in one word: its phase, the number of its files, or the class of its failure.
    fn check_state(prediction: Value, expected: &str) {
        let read = serde_json::from_value(prediction.clone()).unwrap();
        let found = match step("image.generate", "abc", read) {
            Ok(Step::Pending(pending)) => format!("{} {}", pending.phase, pending.provider_ref),
            Ok(Step::Done(made)) => format!("{} files", made.files.len()),
            Err(error) => format!("{:?}", error.class),
        };
        assert_eq!(found, expected, "{prediction}");
    }

    #[test]
    fn status_words_become_steps_and_unknown_ones_never_a_success() {
        check_state(json!({"status": "starting"}), "queued at provider abc");
        check_state(json!({"status": "processing"}), "generating at provider abc");
        check_state(json!({"status": "booting"}), "generating at provider abc");
        check_state(json!({}), "generating at provider abc");
        check_state(json!({"status": "canceled"}), "Failed");
        check_state(json!({"status": "aborted"}), "Broken");
        check_state(json!({"status": "failed", "error": "no face found"}), "Failed");
        check_state(json!({"status": "failed", "error": null}), "Failed");
        check_state(json!({"status": "failed", "error": "NSFW content detected. Try again."}), "Refused");
        check_state(json!({"status": "succeeded", "output": "https://x/1.png"}), "1 files");
        check_state(json!({"status": "succeeded", "output": ["https://x/1", "https://x/2"]}), "2 files");
        check_state(json!({"status": "succeeded", "output": {"image": "https://x/1"}}), "1 files");
        check_state(json!({"status": "succeeded", "output": null, "data_removed": true}), "Broken");
        check_state(json!({"status": "succeeded", "output": []}), "Broken");
    }
}
