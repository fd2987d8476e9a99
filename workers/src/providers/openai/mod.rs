//! OpenAI: chat, embeddings, moderation, pictures, speech and transcription, each one request with the result in its answer.
//!
//! After a lost answer the work is submitted again: OpenAI offers neither an idempotency key nor a lookup for these
//! calls, a second one costs cents, and a caller waits. Its chat protocol is spoken by others too, who share `chat.rs`.
//! Deliberately absent: the Responses API.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};

use super::{
    AfterAmbiguity, Call, Checkup, ErrorClass, Provider, ProviderError, Step, Vendor,
    http::{self, ASK_TIMEOUT, MAX_CHAT_BYTES, Stake},
};

mod audio;
pub(super) mod chat;
pub(super) mod draft;
mod embed;
pub(super) mod fault;
mod images;
mod moderate;
pub mod videos;

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
    unverified: &[
        "the limit of 25 MB for a recording",
        "the exact codes of a refused picture",
        "the form of an error in the middle of a stream",
    ],
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
            "text.chat" => chat::complete(self.post(call, "/chat/completions"), call, &chat::OPENAI).await?,
            "text.embed" => embed::embed(self, call).await?,
            "text.moderate" => moderate::moderate(self, call).await?,
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
    async fn check(&self, key: &SecretString) -> Result<Option<Checkup>, ProviderError> {
        let request = self.http.get(format!("{}/models", self.base_url)).bearer_auth(key.expose_secret());
        let answer = http::send(request.timeout(ASK_TIMEOUT), Stake::Ask, MAX_CHAT_BYTES).await?;
        if !answer.status.is_success() {
            return Err(fault(&answer));
        }
        Ok(Some(Checkup::default()))
    }
}

/// The error in an unsuccessful answer.
fn fault(answer: &http::Answer) -> ProviderError {
    fault::in_answer(answer, fault::judge)
}
