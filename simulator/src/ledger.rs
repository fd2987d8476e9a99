//! What was asked of each vendor, and what it would have billed.
//!
//! A submit is *accepted* when the vendor took the work, whatever then became of the answer; that count is what
//! "paid at most once" is measured by. Entries are kept until a reset, without a limit, because tests want exact
//! counts. It lives in memory only: a restarted simulator knows its tasks but starts a new account book.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::clock;

/// A simulated vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Provider {
    Openai,
    Gemini,
    Kling,
    Minimax,
    Replicate,
    Fal,
    Veo,
    Luma,
    Stability,
    Recraft,
    Removebg,
    Midjourney,
    Suno,
    Sunoapi,
    Openrouter,
    Deepseek,
    Anthropic,
    Perplexity,
}

impl Provider {
    /// Whether its work is usually a task to be polled, rather than done within the request.
    pub fn keeps_tasks(self) -> bool {
        matches!(
            self,
            Self::Kling
                | Self::Minimax
                | Self::Replicate
                | Self::Fal
                | Self::Veo
                | Self::Luma
                | Self::Midjourney
                | Self::Suno
                | Self::Sunoapi
        )
    }

    /// Whether it judges the content while the work runs, rather than at the door.
    pub fn judges_later(self) -> bool {
        matches!(
            self,
            Self::Kling | Self::Replicate | Self::Fal | Self::Suno | Self::Sunoapi | Self::Anthropic
        )
    }

    /// The name used in paths and filters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Gemini => "gemini",
            Self::Kling => "kling",
            Self::Minimax => "minimax",
            Self::Replicate => "replicate",
            Self::Fal => "fal",
            Self::Veo => "veo",
            Self::Luma => "luma",
            Self::Stability => "stability",
            Self::Recraft => "recraft",
            Self::Removebg => "removebg",
            Self::Midjourney => "midjourney",
            Self::Suno => "suno",
            Self::Sunoapi => "sunoapi",
            Self::Openrouter => "openrouter",
            Self::Deepseek => "deepseek",
            Self::Anthropic => "anthropic",
            Self::Perplexity => "perplexity",
        }
    }
}

/// What a request wants of a vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Op {
    /// New work, done at once or as a task.
    Submit,
    /// How a task is doing.
    Poll,
    /// Where a finished task's file is (MiniMax and fal only).
    File,
    /// The file itself.
    Download,
}

/// One well-formed request: who is asked for what, about which prompt.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    /// The vendor.
    pub provider: Provider,
    /// What is wanted.
    pub op: Op,
    /// The vendor's own name for the call, such as `text2video`.
    pub call: String,
    /// The prompt of the work, also when polling or downloading.
    pub prompt: Arc<str>,
    /// The client's own name for the work, where the protocol has a place for it.
    pub client_ref: Option<String>,
    /// Whether the work is a task to be polled, rather than done within the request.
    pub lasts: bool,
}

impl Visit {
    /// A request, described.
    pub fn new(provider: Provider, op: Op, call: &str, prompt: &str, client_ref: Option<&str>) -> Self {
        let client_ref = client_ref.map(str::to_owned);
        let lasts = provider.keeps_tasks();
        Self { provider, op, call: call.to_owned(), prompt: prompt.into(), client_ref, lasts }
    }

    /// The same request to a vendor that does some work at once and some as tasks.
    pub fn lasting(self, lasts: bool) -> Self {
        Self { lasts, ..self }
    }
}

/// One submit, taken or turned away.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Submit {
    provider: Provider,
    op: Op,
    call: String,
    prompt: Arc<str>,
    client_ref: Option<String>,
    task_id: Option<String>,
    accepted: bool,
    /// Unix milliseconds.
    at: i64,
}

/// How many requests there were of each kind.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Counts {
    submit: u64,
    poll: u64,
    file: u64,
    download: u64,
}

/// The account book.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    submits: Vec<Submit>,
    requests: HashMap<(Provider, Op, Arc<str>), u64>,
}

/// Which entries are wanted.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Filter {
    provider: Option<Provider>,
    contains: Option<String>,
}

impl Filter {
    fn meets(&self, provider: Provider, prompt: &str) -> bool {
        self.provider.is_none_or(|wanted| wanted == provider)
            && self.contains.as_deref().is_none_or(|text| prompt.contains(text))
    }
}

impl Ledger {
    /// Counts a request, whatever comes of it.
    pub fn count(&mut self, visit: &Visit) {
        *self.requests.entry((visit.provider, visit.op, visit.prompt.clone())).or_default() += 1;
    }

    /// Notes a submit; `accepted` says whether the vendor would bill it.
    pub fn note(&mut self, visit: &Visit, task_id: Option<&str>, accepted: bool) {
        self.submits.push(Submit {
            provider: visit.provider,
            op: visit.op,
            call: visit.call.clone(),
            prompt: visit.prompt.clone(),
            client_ref: visit.client_ref.clone(),
            task_id: task_id.map(str::to_owned),
            accepted,
            at: clock::now_ms(),
        });
    }

    /// The submits that meet the filter, oldest first, and how many of them were accepted.
    pub fn submits(&self, filter: &Filter) -> (Vec<Submit>, usize) {
        let wanted: Vec<_> = self
            .submits
            .iter()
            .filter(|submit| filter.meets(submit.provider, &submit.prompt))
            .cloned()
            .collect();
        let accepted = wanted.iter().filter(|submit| submit.accepted).count();
        (wanted, accepted)
    }

    /// How many requests met the filter.
    pub fn requests(&self, filter: &Filter) -> Counts {
        let mut counts = Counts::default();
        for ((provider, op, prompt), times) in &self.requests {
            if filter.meets(*provider, prompt) {
                match op {
                    Op::Submit => counts.submit += times,
                    Op::Poll => counts.poll += times,
                    Op::File => counts.file += times,
                    Op::Download => counts.download += times,
                }
            }
        }
        counts
    }

    /// Opens a new book.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
