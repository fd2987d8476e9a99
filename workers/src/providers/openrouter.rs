//! OpenRouter: chats with the models of many makers, in OpenAI's protocol.
//!
//! After a lost answer the chat is submitted again: there is no idempotency key, a generation can be looked up only by an
//! id that the lost answer would have told, and a second chat costs cents. It says itself what it bills (`usage.cost`, in
//! credits of one USD). An error has the HTTP status as its `code`, and comes under a 200 once generation has begun.
//! Deliberately absent: its own fallback lists and provider routing, which are the job's business here.

use std::sync::Arc;

use async_trait::async_trait;
use rust_decimal::Decimal;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    AfterAmbiguity, Call, Checkup, Credit, ErrorClass, Provider, ProviderError, Step, Vendor,
    http::{self, ASK_TIMEOUT, Answer, MAX_JSON_BYTES, Stake},
    openai::{
        chat::{self, Dialect},
        fault::{self, Fault},
    },
};

/// How it is configured.
pub const VENDOR: Vendor = Vendor {
    name: "openrouter",
    key_variables: &["OPENROUTER_API_KEY"],
    base_variable: "OPENROUTER_BASE_URL",
    base_url: "https://openrouter.ai/api/v1",
    simulator_path: "openrouter/api/v1",
    simulated_key: "simulated",
    mode: "in the answer",
    cancel: "closing the connection; not every maker stops billing",
    unverified: &[
        "whether `usage: {include: true}` is still needed for the cost to be told",
        "`finish_reason: error` in a stream that was given up",
        "field names of the answers to `GET /key` and `GET /credits`",
    ],
    adapter: |http, base_url| Arc::new(OpenRouter { http, base_url: http::base(base_url) }),
};

const DIALECT: Dialect = Dialect {
    limit: "max_tokens",
    same_name: &[
        "frequency_penalty",
        "logprobs",
        "parallel_tool_calls",
        "presence_penalty",
        "response_format",
        "seed",
        "stop",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
    ],
    adjust,
    judge,
    beside: &[],
    cost: Some("/cost"),
};

#[derive(Debug)]
struct OpenRouter {
    http: reqwest::Client,
    base_url: String,
}

#[async_trait]
impl Provider for OpenRouter {
    fn name(&self) -> &'static str {
        VENDOR.name
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::SubmitAgain
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        if call.task != "text.chat" {
            let why = format!("openrouter is not wired for {}", call.task);
            return Err(ProviderError::new(ErrorClass::BadInput, why));
        }
        let request = self.http.post(format!("{}/chat/completions", self.base_url));
        let request = request.bearer_auth(call.key.expose_secret());
        chat::complete(request, call, &DIALECT).await.map(Step::Done)
    }

    async fn check(&self, key: &SecretString) -> Result<Option<Checkup>, ProviderError> {
        let told: Told<KeyState> = self.ask("/key", key).await?.json()?;
        let left = match told.data.limit.as_ref().and_then(chat::amount) {
            Some(limit) => chat::amount(&told.data.usage).map(|used| limit - used),
            // A key without a limit of its own has what the account has, where it may see that.
            None => self.ask("/credits", key).await.ok().and_then(|answer| left(&answer)),
        };
        Ok(Some(Checkup { credit: left.map(|amount| Credit { amount, unit: "USD".to_owned() }) }))
    }
}

impl OpenRouter {
    async fn ask(&self, path: &str, key: &SecretString) -> Result<Answer, ProviderError> {
        let request = self.http.get(format!("{}{path}", self.base_url)).bearer_auth(key.expose_secret());
        let answer = http::send(request.timeout(ASK_TIMEOUT), Stake::Ask, MAX_JSON_BYTES).await?;
        if !answer.status.is_success() {
            return Err(fault::in_answer(&answer, judge));
        }
        Ok(answer)
    }
}

#[derive(Debug, Deserialize)]
struct Told<T> {
    data: T,
}

#[derive(Debug, Deserialize)]
struct KeyState {
    #[serde(default)]
    limit: Option<Value>,
    #[serde(default)]
    usage: Value,
}

#[derive(Debug, Deserialize)]
struct Credits {
    #[serde(default)]
    total_credits: Value,
    #[serde(default)]
    total_usage: Value,
}

/// What is left on the account.
fn left(answer: &Answer) -> Option<Decimal> {
    let Told { data } = answer.json::<Told<Credits>>().ok()?;
    Some(chat::amount(&data.total_credits)? - chat::amount(&data.total_usage)?)
}

fn adjust(call: &Call, body: &mut Map<String, Value>) {
    body.insert("usage".to_owned(), json!({"include": true}));
    if let Some(effort) = call.text("reasoning_effort") {
        body.insert("reasoning".to_owned(), json!({"effort": effort}));
    }
}

/// Its codes are HTTP statuses; two of them mean something else than elsewhere.
fn judge(fault: &Fault) -> Option<ErrorClass> {
    match fault.number()? {
        // Credits that other requests in flight have reserved come back by themselves.
        402 if fault.metadata["limit_source"] == "openrouter_in_flight_budget" => {
            Some(ErrorClass::RateLimited)
        }
        // Moderation says why; the limit of a key of ours says only that it is used up.
        403 if fault.metadata["reasons"].is_array() || fault.metadata["flagged_input"].is_string() => {
            Some(ErrorClass::Refused)
        }
        403 => Some(ErrorClass::Quota),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fault: Value, expected: Option<ErrorClass>) {
        let read = serde_json::from_value(fault.clone()).unwrap();
        assert_eq!(judge(&read), expected, "{fault}");
    }

    #[test]
    fn two_codes_mean_something_else_than_elsewhere() {
        check(json!({"code": 403, "metadata": {"reasons": ["violence"]}}), Some(ErrorClass::Refused));
        check(json!({"code": 403, "message": "Key limit exceeded (monthly limit)"}), Some(ErrorClass::Quota));
        let in_flight = json!({"limit_source": "openrouter_in_flight_budget"});
        check(json!({"code": 402, "metadata": in_flight}), Some(ErrorClass::RateLimited));
        check(json!({"code": 402}), None);
        check(json!({"code": 502, "message": "upstream"}), None);
        check(json!({"code": "rate_limit_exceeded"}), None);
    }
}
