//! Luma, by its Dream Machine interface ([`dream`]), which it calls legacy, and by its newer one for agents ([`agents`]): each a
//! vendor of its own, for their addresses and keys have nothing in common.
//!
//! What both share is here: how to send, errors that are a sentence in `detail`, and pictures that are named by their address
//! and never sent along. After a lost answer both give up: Luma takes no name of ours, and a second film costs about 40 cents
//! ("maybe never"). Status words we do not know mean "still at work", never success.

use std::time::Duration;

use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Call, ErrorClass, Pending, ProviderError, Step,
    http::{self, ASK_TIMEOUT, Answer, MAX_JSON_BYTES, Stake, VIDEO_SUBMIT_TIMEOUT},
};

pub mod agents;
pub mod dream;

/// When to look for a task; films take 20–120 s.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The way to Luma, for both interfaces.
#[derive(Debug)]
struct Line {
    http: reqwest::Client,
    base_url: String,
}

impl Line {
    /// A line to `base_url` (with its version).
    fn new(http: reqwest::Client, base_url: String) -> Self {
        Self { http, base_url: http::base(base_url) }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    /// Sends a request, whose answer must hold no error.
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
}

fn pending(id: String, is_queued: bool) -> Step {
    let phase = if is_queued { "queued at provider" } else { "generating at provider" };
    Step::Pending(Pending {
        provider_ref: id,
        look_again: LOOK_AGAIN,
        progress: None,
        phase: phase.to_owned(),
    })
}

/// The prompt of the one task that Luma is wired for.
fn prompt<'a>(vendor: &str, call: &'a Call) -> Result<&'a str, ProviderError> {
    let bad = |why: String| ProviderError::new(ErrorClass::BadInput, why);
    if call.task != "video.generate" {
        return Err(bad(format!("{vendor} is not wired for {}", call.task)));
    }
    call.text("prompt").ok_or_else(|| bad("a film needs a prompt".to_owned()))
}

/// The address of a picture of the input, which Luma fetches by itself.
fn picture<'a>(call: &'a Call, field: &str) -> Result<Option<&'a str>, ProviderError> {
    match call.text(field) {
        Some(url) if !url.starts_with("https://") && !url.starts_with("http://") => Err(ProviderError::new(
            ErrorClass::BadInput,
            format!("luma takes a picture by its address only, as a URL in {field}"),
        )),
        url => Ok(url),
    }
}

/// Luma wants the length as `5s`.
fn duration(call: &Call) -> Option<Value> {
    call.input.get("seconds").and_then(Value::as_u64).map(|seconds| json!(format!("{seconds}s")))
}

#[derive(Debug, Deserialize)]
struct Failure {
    /// A sentence, or a list of what is wrong with which field.
    detail: Value,
}

/// The error in an unsuccessful answer.
fn fault(answer: &Answer) -> ProviderError {
    let Ok(Failure { detail }) = serde_json::from_slice::<Failure>(&answer.body) else {
        return answer.error(answer.class(), "an error without Luma's shape");
    };
    let words = detail.as_str().map_or_else(|| detail.to_string(), str::to_owned);
    answer.error(class_of(&words).unwrap_or_else(|| answer.class()), &words)
}

/// The class that the words of an error name more exactly than its status.
fn class_of(words: &str) -> Option<ErrorClass> {
    let words = words.to_ascii_lowercase();
    if words.contains("insufficient credit") {
        Some(ErrorClass::Quota)
    } else if words.contains("moderat") {
        Some(ErrorClass::Refused)
    } else {
        None
    }
}

/// The verdict of a task that failed, by Luma's words for why.
fn verdict(why: &str) -> ProviderError {
    let class = match class_of(why) {
        Some(ErrorClass::Refused) => ErrorClass::Refused,
        _ => ErrorClass::Failed,
    };
    ProviderError::new(class, format!("the task failed: {}", http::quote(why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_say_more_than_the_status() {
        let check = |words: &str, expected| assert_eq!(class_of(words), expected, "{words}");
        check("Insufficient credits", Some(ErrorClass::Quota));
        check("Prompt not allowed because advanced moderation failed", Some(ErrorClass::Refused));
        check("content_moderated", Some(ErrorClass::Refused));
        check("Invalid aspect ratio", None);
    }

    #[test]
    fn a_picture_is_named_by_its_address() {
        let call = |image: &str| Call::new("video.generate", "ray-2", json!({"image": image}), "job_1-1");
        let check = |image: &str, is_taken: bool| {
            assert_eq!(picture(&call(image), "image").is_ok(), is_taken, "{image}");
        };
        check("https://example.com/fox.png", true);
        check("data:image/png;base64,AQEB", false);
        check("file_0123", false);
    }
}
