//! Perplexity: answers that were looked up on the web, with their sources.
//!
//! Two protocols, told apart by the name of the model: with a slash (`perplexity/sonar`) it is one of the Agent API
//! (`agent.rs`), without (`sonar`) of the older chat completions, which Perplexity itself has switched off and relays still
//! speak. Both say what they bill. After a lost answer the question is asked again: there is neither an idempotency key nor a
//! lookup, and a second answer costs about a cent. It has no free question that proves a key.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::RequestBuilder;
use secrecy::ExposeSecret;

use super::{
    AfterAmbiguity, Call, ErrorClass, Provider, ProviderError, Step, Vendor, http,
    openai::{
        chat::{self, Dialect},
        fault,
    },
};

mod agent;

/// How it is configured.
pub const VENDOR: Vendor = Vendor {
    name: "perplexity",
    key_variables: &["PERPLEXITY_API_KEY"],
    base_variable: "PERPLEXITY_BASE_URL",
    base_url: "https://api.perplexity.ai",
    simulator_path: "perplexity",
    simulated_key: "simulated",
    mode: "in the answer",
    cancel: "closing the connection",
    unverified: &[
        "the path of the Agent API: `/v1/agent` in its documentation, `/v1/responses` in a gateway's code",
        "the events of its stream, taken to be those of OpenAI's Responses",
        "`temperature` and `top_p` of the Agent API",
        "where its answer has the sources",
        "the body of its errors",
    ],
    adapter: |http, base_url| Arc::new(Perplexity { http, base_url: http::base(base_url) }),
};

/// The older protocol.
const DIALECT: Dialect = Dialect {
    limit: "max_tokens",
    same_name: &["frequency_penalty", "presence_penalty", "response_format", "temperature", "top_p"],
    adjust: |_, _| {},
    judge: fault::judge,
    beside: &["citations", "search_results"],
    cost: Some("/cost/total_cost"),
};

#[derive(Debug)]
struct Perplexity {
    http: reqwest::Client,
    base_url: String,
}

#[async_trait]
impl Provider for Perplexity {
    fn name(&self) -> &'static str {
        VENDOR.name
    }

    fn after_ambiguity(&self) -> AfterAmbiguity {
        AfterAmbiguity::SubmitAgain
    }

    async fn submit(&self, call: &Call) -> Result<Step, ProviderError> {
        if call.task != "text.chat" {
            let why = format!("perplexity is not wired for {}", call.task);
            return Err(ProviderError::new(ErrorClass::BadInput, why));
        }
        let answer = if call.upstream_model.contains('/') {
            agent::complete(self.post(call, "/v1/agent"), call).await?
        } else {
            chat::complete(self.post(call, "/chat/completions"), call, &DIALECT).await?
        };
        Ok(Step::Done(answer))
    }
}

impl Perplexity {
    fn post(&self, call: &Call, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.base_url)).bearer_auth(call.key.expose_secret())
    }
}
