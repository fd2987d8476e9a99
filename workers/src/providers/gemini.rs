//! Google Gemini: chats, told while they are written (`text.rs`), and pictures ("Nano Banana") as base64 in one answer.
//!
//! After a lost answer the work is submitted again: there is nothing to look up, and a second picture costs about
//! four cents, a second chat less. A 200 without a result is common here, and why is spread over two fields.
//! Deliberately absent: several turns about a picture, tools and the Files API.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    AfterAmbiguity, Artifact, Artifacts, Call, Checkup, ErrorClass, Provider, ProviderError, Step, Vendor,
    http::{self, ASK_TIMEOUT, Answer, IMAGE_TIMEOUT, MAX_INLINE_BYTES, MAX_JSON_BYTES, Stake},
};

mod text;

/// How it is configured.
pub const VENDOR: Vendor = Vendor {
    name: "gemini",
    key_variables: &["GEMINI_API_KEY"],
    base_variable: "GEMINI_BASE_URL",
    base_url: "https://generativelanguage.googleapis.com/v1beta",
    simulator_path: "gemini/v1beta",
    simulated_key: "simulated",
    mode: "in the answer",
    cancel: "no",
    unverified: &[
        "how many tokens a picture is billed as",
        "the form of an error in the middle of a stream",
        "`responseJsonSchema`, by which an answer's form is asked for",
    ],
    adapter: |http, base_url| Arc::new(Gemini::new(http, base_url)),
};

/// Longest request with pictures in it that Google takes; beyond, it wants its Files API.
const MAX_REQUEST_BYTES: usize = 20 * 1024 * 1024;

/// The adapter for Gemini.
#[derive(Debug)]
pub struct Gemini {
    http: reqwest::Client,
    base_url: String,
}

impl Gemini {
    /// An adapter that calls `base_url` (with its version).
    pub fn new(http: reqwest::Client, base_url: String) -> Self {
        Self { http, base_url: http::base(base_url) }
    }
}

#[async_trait]
impl Provider for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::SubmitAgain
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        if call.task == "text.chat" {
            return text::complete(self, call).await.map(Step::Done);
        }
        let request = self.post(call, "generateContent").timeout(IMAGE_TIMEOUT).json(&request(call)?);
        let answer = http::send(request, Stake::Submit, MAX_INLINE_BYTES).await?;
        if !answer.status.is_success() {
            return Err(fault(&answer));
        }
        read(answer.json()?).map(Step::Done)
    }

    async fn check(&self, key: &SecretString) -> Result<Option<Checkup>, ProviderError> {
        let request = self.http.get(format!("{}/models", self.base_url)).timeout(ASK_TIMEOUT);
        let request = request.header("x-goog-api-key", key.expose_secret());
        let answer = http::send(request, Stake::Ask, MAX_JSON_BYTES).await?;
        if !answer.status.is_success() {
            return Err(fault(&answer));
        }
        Ok(Some(Checkup::default()))
    }
}

impl Gemini {
    fn post(&self, call: &Call, method: &str) -> RequestBuilder {
        self.http
            .post(format!("{}/models/{}:{method}", self.base_url, call.upstream_model))
            .header("x-goog-api-key", call.key.expose_secret())
    }
}

fn request(call: &Call) -> Result<Value, ProviderError> {
    let bad = |why: String| ProviderError::new(ErrorClass::BadInput, why);
    let prompt = match call.task.as_str() {
        "image.generate" | "image.edit" => call.text("prompt"),
        other => return Err(bad(format!("gemini is not wired for {other}"))),
    };
    let prompt = prompt.ok_or_else(|| bad("an image needs a prompt".to_owned()))?;

    let images: Vec<_> = call.files.iter().filter(|file| file.field == "image").collect();
    if images.is_empty() && call.task == "image.edit" {
        return Err(bad("an edit needs an image".to_owned()));
    }
    let sent_bytes =
        prompt.len() + images.iter().map(|image| image.bytes.len().div_ceil(3) * 4).sum::<usize>();
    if sent_bytes > MAX_REQUEST_BYTES {
        return Err(bad(format!("the images take more than {MAX_REQUEST_BYTES} bytes in the request")));
    }

    let mut parts = vec![json!({"text": prompt})];
    parts.extend(images.into_iter().map(|image| {
        json!({"inlineData": {"mimeType": image.mime_type, "data": BASE64_STANDARD.encode(&image.bytes)}})
    }));
    let mut config = json!({"responseModalities": ["TEXT", "IMAGE"]});
    if let Some(ratio) = call.text("aspect_ratio") {
        config["imageConfig"] = json!({"aspectRatio": ratio});
    }
    Ok(json!({"contents": [{"role": "user", "parts": parts}], "generationConfig": config}))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Generated {
    #[serde(default)]
    candidates: Vec<Candidate>,
    #[serde(default)]
    prompt_feedback: Option<PromptFeedback>,
    #[serde(default)]
    usage_metadata: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PromptFeedback {
    #[serde(default)]
    block_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    #[serde(default)]
    content: Content,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Content {
    #[serde(default)]
    parts: Vec<Part>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    #[serde(default)]
    inline_data: Option<InlineData>,
    /// A sketch on the way to the answer, not the answer.
    #[serde(default)]
    thought: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InlineData {
    mime_type: String,
    data: String,
}

/// Turns an answer with status 200 into pictures, or into what it says went wrong.
fn read(generated: Generated) -> Result<Artifacts, ProviderError> {
    if let Some(reason) = generated.prompt_feedback.and_then(|feedback| feedback.block_reason) {
        let words = format!("the prompt was blocked: {}", http::quote(&reason));
        return Err(ProviderError::new(ErrorClass::Refused, words));
    }
    let reason = generated.candidates.first().and_then(|candidate| candidate.finish_reason.clone());
    let files = generated
        .candidates
        .into_iter()
        .flat_map(|candidate| candidate.content.parts)
        .filter(|part| !part.thought)
        .filter_map(|part| part.inline_data)
        .filter(|data| data.mime_type.starts_with("image/"))
        .map(|data| BASE64_STANDARD.decode(data.data).map(|bytes| Artifact::Inline(bytes.into())))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| ProviderError::new(ErrorClass::Broken, "the image is not proper base64"))?;
    if files.is_empty() {
        let reason = reason.as_deref().unwrap_or("no finish reason");
        let words = format!("no image: {}", http::quote(reason));
        return Err(ProviderError::new(class_of_finish(reason), words));
    }
    Ok(Artifacts { files, usage: generated.usage_metadata, ..Artifacts::default() })
}

/// What a finish reason means when no picture came with it.
fn class_of_finish(reason: &str) -> ErrorClass {
    match reason {
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => ErrorClass::Refused,
        _ => ErrorClass::Broken,
    }
}

#[derive(Debug, Deserialize)]
struct Failure {
    error: Fault,
}

#[derive(Debug, Deserialize)]
struct Fault {
    #[serde(default)]
    message: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    details: Vec<Value>,
}

/// The error in an unsuccessful answer, with the delay that Google puts into the body rather than a header.
pub(super) fn fault(answer: &Answer) -> ProviderError {
    let Ok(Failure { error }) = serde_json::from_slice::<Failure>(&answer.body) else {
        return answer.error(answer.class(), "an error without Google's shape");
    };
    let class = class_of_fault(&error).unwrap_or_else(|| answer.class());
    let judged = answer.error(class, &format!("{} {}", error.status, error.message));
    let delay = retry_delay(&error.details).or(judged.retry_after);
    judged.retry_after(delay)
}

/// The class that the body names more exactly than the status does.
fn class_of_fault(fault: &Fault) -> Option<ErrorClass> {
    let details = || fault.details.iter();
    let is_bad_key = details().any(|detail| detail["reason"] == "API_KEY_INVALID")
        || fault.message.to_ascii_lowercase().contains("api key");
    let is_daily = details()
        .filter_map(|detail| detail["violations"].as_array())
        .flatten()
        .any(|violation| violation["quotaId"].as_str().is_some_and(|id| id.contains("PerDay")));
    match fault.status.as_str() {
        "INVALID_ARGUMENT" if is_bad_key => Some(ErrorClass::Auth),
        // Google's word for a region or a project without billing.
        "FAILED_PRECONDITION" => Some(ErrorClass::Auth),
        "RESOURCE_EXHAUSTED" if is_daily => Some(ErrorClass::Quota),
        // The request was given up by the server's side; no picture was made.
        "CANCELLED" => Some(ErrorClass::Unavailable),
        _ => None,
    }
}

/// The delay of a `RetryInfo` detail, such as `"23s"` or `"0.5s"`.
fn retry_delay(details: &[Value]) -> Option<Duration> {
    let delay = details.iter().find_map(|detail| detail["retryDelay"].as_str())?;
    Duration::try_from_secs_f64(delay.strip_suffix('s')?.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::InputFile;

    fn call(task: &str, input: Value, files: Vec<InputFile>) -> Call {
        Call::new(task, "gemini-2.5-flash-image", input, "job_1-1").with_files(files)
    }

    fn image(length: usize) -> InputFile {
        InputFile {
            field: "image".to_owned(),
            mime_type: "image/png".to_owned(),
            bytes: vec![1; length].into(),
        }
    }

    #[test]
    fn inputs_become_gemini_requests() {
        let input = json!({"prompt": "a fox", "aspect_ratio": "16:9"});
        let made = request(&call("image.edit", input, vec![image(3)])).unwrap();
        let expected = json!({
            "contents": [{"role": "user", "parts": [
                {"text": "a fox"}, {"inlineData": {"mimeType": "image/png", "data": "AQEB"}},
            ]}],
            "generationConfig": {"responseModalities": ["TEXT", "IMAGE"], "imageConfig": {"aspectRatio": "16:9"}},
        });
        assert_eq!(made, expected);
    }

    #[test]
    fn impossible_requests_are_not_sent() {
        let check = |call: Call| assert_eq!(request(&call).unwrap_err().class, ErrorClass::BadInput);
        check(call("image.generate", json!({}), Vec::new()));
        check(call("image.edit", json!({"prompt": "x"}), Vec::new()));
        check(call("image.edit", json!({"prompt": "x"}), vec![image(16 * 1024 * 1024)]));
        check(call("video.generate", json!({"prompt": "x"}), Vec::new()));
    }

    fn check_answer(answer: Value, expected: Result<usize, ErrorClass>) {
        let found = read(serde_json::from_value(answer.clone()).unwrap());
        assert_eq!(found.map(|made| made.files.len()).map_err(|error| error.class), expected, "{answer}");
    }

    #[test]
    fn a_200_is_judged_by_what_is_in_it() {
        let finish = |reason: &str| json!({"candidates": [{"finishReason": reason}]});
        let parts =
            |parts: Value| json!({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]});
        let picture = |data: &str| json!({"inlineData": {"mimeType": "image/png", "data": data}});
        check_answer(parts(json!([{"text": "here"}, picture("AQEB")])), Ok(1));
        check_answer(parts(json!([{"text": "I would rather not"}])), Err(ErrorClass::Broken));
        check_answer(
            parts(json!([{"thought": true, "inlineData": {"mimeType": "image/png", "data": "AQEB"}}])),
            Err(ErrorClass::Broken),
        );
        check_answer(parts(json!([picture("%%")])), Err(ErrorClass::Broken));
        check_answer(json!({"promptFeedback": {"blockReason": "OTHER"}}), Err(ErrorClass::Refused));
        check_answer(json!({}), Err(ErrorClass::Broken));
        check_answer(finish("IMAGE_SAFETY"), Err(ErrorClass::Refused));
        check_answer(finish("PROHIBITED_CONTENT"), Err(ErrorClass::Refused));
        check_answer(finish("NO_IMAGE"), Err(ErrorClass::Broken));
        check_answer(finish("IMAGE_OTHER"), Err(ErrorClass::Broken));
        check_answer(finish("SOMETHING_NEW"), Err(ErrorClass::Broken));
    }

    fn check_fault(fault: Value, expected: Option<ErrorClass>) {
        assert_eq!(class_of_fault(&serde_json::from_value(fault.clone()).unwrap()), expected, "{fault}");
    }

    #[test]
    fn google_hides_bad_keys_and_spent_quotas_in_details() {
        let key = json!([{"reason": "API_KEY_INVALID"}]);
        let daily =
            json!([{"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}]);
        check_fault(json!({"status": "INVALID_ARGUMENT", "details": key}), Some(ErrorClass::Auth));
        check_fault(
            json!({"status": "INVALID_ARGUMENT", "message": "API key not valid."}),
            Some(ErrorClass::Auth),
        );
        check_fault(json!({"status": "INVALID_ARGUMENT", "message": "bad ratio"}), None);
        check_fault(json!({"status": "FAILED_PRECONDITION"}), Some(ErrorClass::Auth));
        check_fault(json!({"status": "RESOURCE_EXHAUSTED", "details": daily}), Some(ErrorClass::Quota));
        check_fault(json!({"status": "RESOURCE_EXHAUSTED"}), None);
    }

    #[test]
    fn the_delay_is_read_from_the_body() {
        let check =
            |delay: &str, expected| assert_eq!(retry_delay(&[json!({"retryDelay": delay})]), expected);
        check("23s", Some(Duration::from_secs(23)));
        check("0.5s", Some(Duration::from_millis(500)));
        check("soon", None);
        check("-1s", None);
        assert_eq!(retry_delay(&[json!({"violations": []})]), None);
    }
}
