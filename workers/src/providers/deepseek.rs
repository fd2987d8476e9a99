//! DeepSeek: chats in OpenAI's protocol.
//!
//! After a lost answer the chat is submitted again: there is neither an idempotency key nor a lookup, and a second one costs
//! a fraction of a cent. While a request waits it sends comments, or blank lines before a whole answer; both are passed over.
//! Its models think before they answer unless told not to; what they thought is told as `reasoning`.

use std::sync::Arc;

use async_trait::async_trait;
use rust_decimal::Decimal;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    AfterAmbiguity, Call, Checkup, Credit, ErrorClass, Provider, ProviderError, Step, Vendor,
    http::{self, ASK_TIMEOUT, MAX_JSON_BYTES, Stake},
    openai::{
        chat::{self, Dialect},
        fault,
    },
};

/// How it is configured.
pub const VENDOR: Vendor = Vendor {
    name: "deepseek",
    key_variables: &["DEEPSEEK_API_KEY"],
    base_variable: "DEEPSEEK_BASE_URL",
    base_url: "https://api.deepseek.com",
    simulator_path: "deepseek",
    simulated_key: "simulated",
    mode: "in the answer",
    cancel: "closing the connection",
    unverified: &[
        "`GET /user/balance` and its field names",
        "`finish_reason: insufficient_system_resource`",
        "how it refuses a prompt",
        "that it closes a connection after ten minutes of waiting",
    ],
    adapter: |http, base_url| Arc::new(DeepSeek { http, base_url: http::base(base_url) }),
};

const DIALECT: Dialect = Dialect {
    limit: "max_tokens",
    same_name: &[
        "frequency_penalty",
        "logprobs",
        "presence_penalty",
        "reasoning_effort",
        "response_format",
        "stop",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
    ],
    adjust: |_, _| {},
    judge: fault::judge,
    beside: &[],
    cost: None,
};

#[derive(Debug)]
struct DeepSeek {
    http: reqwest::Client,
    base_url: String,
}

#[async_trait]
impl Provider for DeepSeek {
    fn name(&self) -> &'static str {
        VENDOR.name
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::SubmitAgain
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        if call.task != "text.chat" {
            let why = format!("deepseek is not wired for {}", call.task);
            return Err(ProviderError::new(ErrorClass::BadInput, why));
        }
        let request = self.http.post(format!("{}/chat/completions", self.base_url));
        let request = request.bearer_auth(call.key.expose_secret());
        chat::complete(request, call, &DIALECT).await.map(Step::Done)
    }

    async fn check(&self, key: &SecretString) -> Result<Option<Checkup>, ProviderError> {
        let request = self.http.get(format!("{}/user/balance", self.base_url));
        let request = request.bearer_auth(key.expose_secret()).timeout(ASK_TIMEOUT);
        let answer = http::send(request, Stake::Ask, MAX_JSON_BYTES).await?;
        if !answer.status.is_success() {
            return Err(fault::in_answer(&answer, fault::judge));
        }
        let balance: Balance = answer.json()?;
        Ok(Some(Checkup { credit: balance.balance_infos.into_iter().find_map(Purse::credit) }))
    }
}

#[derive(Debug, Deserialize)]
struct Balance {
    #[serde(default)]
    balance_infos: Vec<Purse>,
}

/// What is left in one currency; an account has one.
#[derive(Debug, Deserialize)]
struct Purse {
    currency: String,
    total_balance: String,
}

impl Purse {
    fn credit(self) -> Option<Credit> {
        let amount: Decimal = self.total_balance.parse().ok()?;
        Some(Credit { amount, unit: self.currency })
    }
}
