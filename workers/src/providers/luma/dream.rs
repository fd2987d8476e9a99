//! Dream Machine, the interface that Luma calls legacy: films by the Ray models as generations that are asked after.
//!
//! Not confirmed by anybody: the prices, and the words for an empty account and for a film that moderation stopped.
//! Deliberately absent: going on from an earlier generation, upscaling, sound, pictures, and concepts.

use std::sync::Arc;

use async_trait::async_trait;
use rust_decimal::Decimal;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Line, duration, pending, picture, prompt, verdict};
use crate::providers::{
    AfterAmbiguity, Artifact, Artifacts, Call, Checkup, Credit, ErrorClass, Provider, ProviderError, Step,
    Vendor,
    http::{Answer, Stake, is_id},
};

/// How it is configured.
pub const VENDOR: Vendor = Vendor {
    name: "luma",
    key_variables: &["LUMA_API_KEY"],
    base_variable: "LUMA_BASE_URL",
    base_url: "https://api.lumalabs.ai/dream-machine/v1",
    simulator_path: "luma/dream-machine/v1",
    simulated_key: "simulated",
    mode: "as a task that is polled",
    cancel: "by deleting the task",
    unverified: &[
        "the prices",
        "the words for an empty account and for a film that moderation stopped",
        "whether deleting a task that is at work also saves its price",
    ],
    adapter: |http, base_url| Arc::new(Dream(Line::new(http, base_url))),
};

/// The adapter for Dream Machine.
#[derive(Debug)]
struct Dream(Line);

#[async_trait]
impl Provider for Dream {
    fn name(&self) -> &'static str {
        VENDOR.name
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::GiveUp
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        let request = self.0.http.post(self.0.url("/generations/video")).json(&request(call)?);
        read(&self.0.send(&call.key, request, Stake::Submit).await?, None)
    }

    async fn resume(&self, call: &Call, provider_ref: &str) -> Result<Step, ProviderError> {
        let request = self.0.http.get(self.0.url(&format!("/generations/{provider_ref}")));
        read(&self.0.send(&call.key, request, Stake::Ask).await?, Some(provider_ref))
    }

    async fn cancel(&self, call: &Call, provider_ref: &str) -> Result<(), ProviderError> {
        let request = self.0.http.delete(self.0.url(&format!("/generations/{provider_ref}")));
        self.0.send(&call.key, request, Stake::Ask).await.map(drop)
    }

    async fn check(&self, key: &SecretString) -> Result<Option<Checkup>, ProviderError> {
        let request = self.0.http.get(self.0.url("/credits"));
        let Credits { credit_balance } = self.0.send(key, request, Stake::Ask).await?.json()?;
        // Luma counts in cents.
        let credit = Credit { amount: credit_balance / Decimal::ONE_HUNDRED, unit: "USD".to_owned() };
        Ok(Some(Checkup { credit: Some(credit) }))
    }
}

fn request(call: &Call) -> Result<Value, ProviderError> {
    let prompt = prompt(VENDOR.name, call)?;
    let mut body = json!({"model": call.upstream_model, "prompt": prompt});
    for field in ["aspect_ratio", "resolution"] {
        if let Some(word) = call.text(field) {
            body[field] = json!(word);
        }
    }
    if let Some(duration) = duration(call) {
        body["duration"] = duration;
    }
    let mut keyframes = Map::new();
    for (field, theirs) in [("image", "frame0"), ("end_image", "frame1")] {
        if let Some(url) = picture(call, field)? {
            keyframes.insert(theirs.to_owned(), json!({"type": "image", "url": url}));
        }
    }
    if !keyframes.is_empty() {
        body["keyframes"] = keyframes.into();
    }
    if let Some(callback) = &call.callback_url {
        body["callback_url"] = json!(callback);
    }
    Ok(body)
}

#[derive(Debug, Deserialize)]
struct Credits {
    credit_balance: Decimal,
}

#[derive(Debug, Deserialize)]
struct Generation {
    #[serde(default)]
    id: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    failure_reason: Option<String>,
    #[serde(default)]
    assets: Option<Assets>,
}

#[derive(Debug, Deserialize)]
struct Assets {
    #[serde(default)]
    video: Option<String>,
}

/// The generation in an answer. `known` is the one that was asked after: an answer about another says nothing of it.
fn read(answer: &Answer, known: Option<&str>) -> Result<Step, ProviderError> {
    let generation: Generation = answer.json()?;
    if !is_id(&generation.id) {
        return Err(answer.nonsense("the generation has no id"));
    }
    if known.is_some_and(|id| id != generation.id) {
        return Err(answer.nonsense("an answer about another generation"));
    }
    step(generation)
}

/// What a generation's state means for the job.
fn step(generation: Generation) -> Result<Step, ProviderError> {
    match generation.state.as_str() {
        "queued" => Ok(pending(generation.id, true)),
        "completed" => {
            let film = generation.assets.and_then(|assets| assets.video).filter(|url| !url.is_empty());
            let url = film.ok_or_else(|| {
                ProviderError::new(ErrorClass::Broken, "the generation is complete without a film")
            })?;
            let files = vec![Artifact::Remote { url, headers: Vec::new() }];
            Ok(Step::Done(Artifacts { files, ..Artifacts::default() }))
        }
        "failed" => Err(verdict(&generation.failure_reason.unwrap_or_default())),
        _ => Ok(pending(generation.id, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state of a generation in one word: its phase, the number of its files, or the class of its failure.
    fn check(generation: Value, expected: &str) {
        let found = match step(serde_json::from_value(generation.clone()).unwrap()) {
            Ok(Step::Pending(pending)) => format!("{} {}", pending.phase, pending.provider_ref),
            Ok(Step::Done(made)) => format!("{} files", made.files.len()),
            Err(error) => format!("{:?}", error.class),
        };
        assert_eq!(found, expected, "{generation}");
    }

    #[test]
    fn states_become_steps_and_unknown_ones_never_a_success() {
        let state = |word: &str| json!({"id": "g1", "state": word, "assets": null});
        check(state("queued"), "queued at provider g1");
        check(state("dreaming"), "generating at provider g1");
        check(state("archived"), "generating at provider g1");
        check(state("completed"), "Broken");
        let made =
            json!({"id": "g1", "state": "completed", "assets": {"video": "https://x/1.mp4", "image": null}});
        check(made, "1 files");
        check(state("failed"), "Failed");
        let why = "Prompt not allowed because advanced moderation failed";
        check(json!({"id": "g1", "state": "failed", "failure_reason": why}), "Refused");
    }

    #[test]
    fn inputs_become_dream_requests() {
        let input = json!({
            "prompt": "a fox", "seconds": 9, "aspect_ratio": "16:9", "resolution": "720p",
            "image": "https://x/a.png", "end_image": "https://x/b.png",
        });
        let mut call = Call::new("video.generate", "ray-2", input, "job_1-1");
        call.callback_url = Some("https://kiln.example/hook".to_owned());
        let frame = |url: &str| json!({"type": "image", "url": url});
        let expected = json!({
            "model": "ray-2", "prompt": "a fox", "duration": "9s", "aspect_ratio": "16:9", "resolution": "720p",
            "keyframes": {"frame0": frame("https://x/a.png"), "frame1": frame("https://x/b.png")},
            "callback_url": "https://kiln.example/hook",
        });
        assert_eq!(request(&call).unwrap(), expected);
        let bare = Call::new("video.generate", "ray-2", json!({"prompt": "a fox"}), "job_1-1");
        assert_eq!(request(&bare).unwrap(), json!({"model": "ray-2", "prompt": "a fox"}));
        let empty = Call::new("video.generate", "ray-2", json!({}), "job_1-1");
        assert_eq!(request(&empty).unwrap_err().class, ErrorClass::BadInput);
    }
}
