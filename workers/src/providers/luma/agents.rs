//! Luma's interface for agents: films by Ray 3 as generations that are asked after.
//!
//! Not confirmed by anybody: the fields of a request beside its type, model and prompt, how an error is put, and the prices.
//! Deliberately absent: editing and reframing, pictures, callbacks and cancelling, of which Luma says nothing here.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Line, duration, pending, picture, prompt, verdict};
use crate::providers::{
    AfterAmbiguity, Artifact, Artifacts, Call, ErrorClass, Provider, ProviderError, Step, Vendor,
    http::{Answer, Stake, is_id},
};

/// How it is configured. The keys are not those of Dream Machine.
pub const VENDOR: Vendor = Vendor {
    name: "luma_agents",
    key_variables: &["LUMA_AGENTS_API_KEY"],
    base_variable: "LUMA_AGENTS_BASE_URL",
    base_url: "https://agents.lumalabs.ai/v1",
    simulator_path: "luma/agents/v1",
    simulated_key: "simulated",
    mode: "as a task that is polled",
    cancel: "no",
    unverified: &[
        "the fields of a request beside type, model and prompt",
        "how an error is put",
        "the prices",
    ],
    adapter: |http, base_url| Arc::new(Agents(Line::new(http, base_url))),
};

/// The adapter for the interface for agents.
#[derive(Debug)]
struct Agents(Line);

#[async_trait]
impl Provider for Agents {
    fn name(&self) -> &'static str {
        VENDOR.name
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::GiveUp
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        let request = self.0.http.post(self.0.url("/generations")).json(&request(call)?);
        read(&self.0.send(&call.key, request, Stake::Submit).await?, None)
    }

    async fn resume(&self, call: &Call, provider_ref: &str) -> Result<Step, ProviderError> {
        let request = self.0.http.get(self.0.url(&format!("/generations/{provider_ref}")));
        read(&self.0.send(&call.key, request, Stake::Ask).await?, Some(provider_ref))
    }
}

fn request(call: &Call) -> Result<Value, ProviderError> {
    let prompt = prompt(VENDOR.name, call)?;
    let mut body = json!({"type": "video", "model": call.upstream_model, "prompt": prompt});
    if let Some(ratio) = call.text("aspect_ratio") {
        body["aspect_ratio"] = json!(ratio);
    }
    let mut video = Map::new();
    if let Some(resolution) = call.text("resolution") {
        video.insert("resolution".to_owned(), json!(resolution));
    }
    if let Some(duration) = duration(call) {
        video.insert("duration".to_owned(), duration);
    }
    for (field, theirs) in [("image", "start_frame"), ("end_image", "end_frame")] {
        if let Some(url) = picture(call, field)? {
            video.insert(theirs.to_owned(), json!({"url": url}));
        }
    }
    if !video.is_empty() {
        body["video"] = video.into();
    }
    Ok(body)
}

#[derive(Debug, Deserialize)]
struct Generation {
    #[serde(default)]
    id: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    failure_code: Option<String>,
    #[serde(default)]
    failure_reason: Option<String>,
    #[serde(default)]
    output: Option<Vec<Output>>,
}

#[derive(Debug, Deserialize)]
struct Output {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    url: Option<String>,
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
            let films = generation.output.unwrap_or_default().into_iter();
            let files: Vec<_> = films
                .filter(|output| output.kind == "video")
                .filter_map(|output| output.url.filter(|url| !url.is_empty()))
                .map(|url| Artifact::Remote { url, headers: Vec::new() })
                .collect();
            if files.is_empty() {
                return Err(ProviderError::new(
                    ErrorClass::Broken,
                    "the generation is complete without a film",
                ));
            }
            Ok(Step::Done(Artifacts { files, ..Artifacts::default() }))
        }
        "failed" => {
            let code = generation.failure_code.unwrap_or_default();
            if code == "output_not_found" {
                // Made, but lost: no verdict on the input.
                return Err(ProviderError::new(
                    ErrorClass::Broken,
                    "the film was made and is not to be found",
                ));
            }
            Err(verdict(&format!("{code} {}", generation.failure_reason.unwrap_or_default())))
        }
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
        let state = |word: &str| json!({"id": "g1", "state": word, "output": null});
        check(state("queued"), "queued at provider g1");
        check(state("processing"), "generating at provider g1");
        check(state("archived"), "generating at provider g1");
        check(state("completed"), "Broken");
        let made = |kind: &str| json!({"id": "g1", "state": "completed", "output": [{"type": kind, "url": "https://x/1"}]});
        check(made("video"), "1 files");
        check(made("image"), "Broken");
        let failed = |code: &str| json!({"id": "g1", "state": "failed", "failure_code": code});
        check(failed("content_moderated"), "Refused");
        check(failed("generation_failed"), "Failed");
        check(failed("budget_exhausted"), "Failed");
        check(failed("output_not_found"), "Broken");
        check(state("failed"), "Failed");
    }

    #[test]
    fn inputs_become_requests_for_agents() {
        let input = json!({
            "prompt": "a fox", "seconds": 5, "aspect_ratio": "16:9", "resolution": "720p", "image": "https://x/a.png",
        });
        let expected = json!({
            "type": "video", "model": "ray-3.2", "prompt": "a fox", "aspect_ratio": "16:9",
            "video": {"duration": "5s", "resolution": "720p", "start_frame": {"url": "https://x/a.png"}},
        });
        assert_eq!(request(&Call::new("video.generate", "ray-3.2", input, "job_1-1")).unwrap(), expected);
        let bare = Call::new("video.generate", "ray-3.2", json!({"prompt": "a fox"}), "job_1-1");
        assert_eq!(request(&bare).unwrap(), json!({"type": "video", "model": "ray-3.2", "prompt": "a fox"}));
    }
}
