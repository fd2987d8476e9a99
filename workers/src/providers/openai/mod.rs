//! OpenAI: chat, pictures, speech and transcription, each one request with the result in its answer.
//!
//! After a lost answer the work is submitted again: OpenAI offers neither an idempotency key nor a lookup for these
//! calls, a second one costs cents, and a caller waits. Deliberately absent: streaming and embeddings.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::RequestBuilder;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::Value;

use super::{AfterAmbiguity, Call, ErrorClass, Provider, ProviderError, Step, Vendor, http};

mod audio;
mod chat;
pub mod videos;
mod images;

/// The adapter for OpenAI, and for whatever speaks its protocol at another address.
#[derive(Debug)]
pub struct OpenAi {
    http: reqwest::Client,
    base_url: String,
}

/// How it is configured.
pub const VENDOR: Vendor = Vendor {
    name: "openai",
    key_variables: &["OPENAI_API_KEY"],
    base_variable: "OPENAI_BASE_URL",
    base_url: "https://api.openai.com/v1",
    simulator_path: "openai/v1",
    simulated_key: "simulated",
    mode: "in the answer",
    cancel: "closing the connection",
    unverified: &["the limit of 25 MB for a recording", "the exact codes of a refused picture"],
    adapter: |http, base_url| Arc::new(OpenAi::new(http, base_url)),
};

impl OpenAi {
    /// An adapter that calls `base_url` (with its `/v1`).
    pub fn new(http: reqwest::Client, base_url: String) -> Self {
        Self { http, base_url: http::base(base_url) }
    }

    fn post(&self, call: &Call, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.base_url)).bearer_auth(call.key.expose_secret())
    }
}

#[async_trait]
impl Provider for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::SubmitAgain
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        let artifacts = match call.task.as_str() {
            "text.chat" => chat::complete(self, call).await?,
            "image.generate" => images::generate(self, call).await?,
            "image.edit" => images::edit(self, call).await?,
            "audio.speech" => audio::speak(self, call).await?,
            "audio.transcribe" => audio::transcribe(self, call).await?,
            other => {
                let why = format!("openai is not wired for {other}");
                return Err(ProviderError::new(ErrorClass::BadInput, why));
            }
        };
        Ok(Step::Done(artifacts))
    }
}

#[derive(Debug, Deserialize)]
struct Failure {
    error: Fault,
}

#[derive(Debug, Deserialize)]
struct Fault {
    #[serde(default)]
    message: Option<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    /// A word; some servers that speak this protocol put a number here.
    #[serde(default)]
    code: Option<Value>,
}

/// The error in an unsuccessful answer.
fn fault(answer: &http::Answer) -> ProviderError {
    let Ok(Failure { error }) = serde_json::from_slice::<Failure>(&answer.body) else {
        return answer.error(answer.class(), "an error without OpenAI's shape");
    };
    let code = error.code.as_ref().and_then(Value::as_str).unwrap_or_default();
    let kind = error.kind.as_deref().unwrap_or_default();
    let class = class_of(code).or_else(|| class_of(kind)).unwrap_or_else(|| answer.class());
    let message = error.message.as_deref().unwrap_or_default();
    answer.error(class, &format!("{kind} {code} {message}"))
}

/// The class that a `code` or `type` names more exactly than the status does.
fn class_of(word: &str) -> Option<ErrorClass> {
    match word {
        "insufficient_quota"
        | "credit_balance_exhausted"
        | "organization_spend_limit_exceeded"
        | "billing_hard_limit_reached" => Some(ErrorClass::Quota),
        "content_policy_violation" | "moderation_blocked" => Some(ErrorClass::Refused),
        "invalid_api_key" | "model_not_found" => Some(ErrorClass::Auth),
        "rate_limit_exceeded" => Some(ErrorClass::RateLimited),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: &str, expected: Option<ErrorClass>) {
        assert_eq!(class_of(word), expected, "{word}");
    }

    #[test]
    fn codes_say_more_than_the_status() {
        check("insufficient_quota", Some(ErrorClass::Quota));
        check("credit_balance_exhausted", Some(ErrorClass::Quota));
        check("moderation_blocked", Some(ErrorClass::Refused));
        check("model_not_found", Some(ErrorClass::Auth));
        check("rate_limit_exceeded", Some(ErrorClass::RateLimited));
        check("context_length_exceeded", None);
        check("", None);
    }
}
