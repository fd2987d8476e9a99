//! Anthropic: chats with Claude by the Messages API, put into OpenAI's form and back.
//!
//! After a lost answer the chat is submitted again: there is neither an idempotency key nor a lookup, a second one costs cents,
//! and a caller waits. A refusal comes as a stop reason under a 200, an error may come in the middle of a stream.
//! Deliberately absent: thinking, caching of prompts and the vendor's own tools.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    AfterAmbiguity, Call, Checkup, ErrorClass, Provider, ProviderError, Step, Vendor,
    http::{self, ASK_TIMEOUT, Answer, MAX_JSON_BYTES, Stake},
    sse::{self, Opened},
};

mod request;
mod stream;

/// How it is configured.
pub const VENDOR: Vendor = Vendor {
    name: "anthropic",
    key_variables: &["ANTHROPIC_API_KEY"],
    base_variable: "ANTHROPIC_BASE_URL",
    base_url: "https://api.anthropic.com/v1",
    simulator_path: "anthropic/v1",
    simulated_key: "simulated",
    mode: "in the answer",
    cancel: "closing the connection",
    unverified: &[
        "`GET /models` as a free question",
        "pictures by URL (`source.type: url`)",
        "the fields of `tools`, `tool_choice` and `tool_result`",
        "prices of the models named after version 4.6",
    ],
    adapter: |http, base_url| Arc::new(Anthropic { http, base_url: http::base(base_url) }),
};

/// The version of the protocol that is spoken here; the vendor demands one.
const VERSION: &str = "2023-06-01";

#[derive(Debug)]
struct Anthropic {
    http: reqwest::Client,
    base_url: String,
}

#[async_trait]
impl Provider for Anthropic {
    fn name(&self) -> &'static str {
        VENDOR.name
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::SubmitAgain
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        if call.task != "text.chat" {
            let why = format!("anthropic is not wired for {}", call.task);
            return Err(ProviderError::new(ErrorClass::BadInput, why));
        }
        let request = self.http.post(format!("{}/messages", self.base_url)).json(&request::body(call)?);
        match sse::open(signed(request, &call.key), Stake::Submit).await? {
            Opened::Events(events) => stream::listen(events, call).await.map(Step::Done),
            Opened::Answer(answer) if answer.status.is_success() => {
                Err(answer.nonsense("an answer that is no stream"))
            }
            Opened::Answer(answer) => Err(fault(&answer)),
        }
    }

    async fn check(&self, key: &SecretString) -> Result<Option<Checkup>, ProviderError> {
        let request = self.http.get(format!("{}/models", self.base_url)).timeout(ASK_TIMEOUT);
        let answer = http::send(signed(request, key), Stake::Ask, MAX_JSON_BYTES).await?;
        if !answer.status.is_success() {
            return Err(fault(&answer));
        }
        Ok(Some(Checkup::default()))
    }
}

fn signed(request: RequestBuilder, key: &SecretString) -> RequestBuilder {
    request.header("x-api-key", key.expose_secret()).header("anthropic-version", VERSION)
}

#[derive(Debug, Deserialize)]
struct Failure {
    error: Fault,
}

/// What went wrong, in an answer or in a stream.
#[derive(Debug, Deserialize)]
struct Fault {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    message: String,
}

/// The error in an unsuccessful answer.
fn fault(answer: &Answer) -> ProviderError {
    let Ok(Failure { error }) = serde_json::from_slice::<Failure>(&answer.body) else {
        return answer.error(answer.class(), "an error without Anthropic's shape");
    };
    let class = class_of(&error.kind).unwrap_or_else(|| answer.class());
    let request_id = answer.headers.get("request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    answer.error(class, &format!("{} {request_id} {}", error.kind, error.message))
}

/// The class that an error's type names; an overload (status 529) passes as a rate limit does.
fn class_of(kind: &str) -> Option<ErrorClass> {
    match kind {
        "invalid_request_error" | "request_too_large" => Some(ErrorClass::BadInput),
        "authentication_error" | "permission_error" | "not_found_error" => Some(ErrorClass::Auth),
        "billing_error" => Some(ErrorClass::Quota),
        "rate_limit_error" | "overloaded_error" => Some(ErrorClass::RateLimited),
        "api_error" | "timeout_error" => Some(ErrorClass::Unavailable),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_error_has_its_class() {
        for (kind, expected) in [
            ("invalid_request_error", Some(ErrorClass::BadInput)),
            ("request_too_large", Some(ErrorClass::BadInput)),
            ("authentication_error", Some(ErrorClass::Auth)),
            ("permission_error", Some(ErrorClass::Auth)),
            ("not_found_error", Some(ErrorClass::Auth)),
            ("billing_error", Some(ErrorClass::Quota)),
            ("rate_limit_error", Some(ErrorClass::RateLimited)),
            ("overloaded_error", Some(ErrorClass::RateLimited)),
            ("api_error", Some(ErrorClass::Unavailable)),
            ("timeout_error", Some(ErrorClass::Unavailable)),
            ("something_new", None),
        ] {
            assert_eq!(class_of(kind), expected, "{kind}");
        }
    }
}
