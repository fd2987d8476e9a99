//! The seam between Kiln and the companies that generate: one adapter a vendor, one trait for all.
//!
//! Owns the words every adapter speaks: what it is asked ([`Call`]), what it answers ([`Step`]) and how it
//! fails ([`ProviderError`]). An adapter translates between these and its vendor's wire protocol and does nothing
//! else. Deliberately absent: retries, waiting, money, storage and the database. What an error *means* for the job
//! is decided in `outcome.rs` alone, and wire types never leave the file of their vendor.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use rust_decimal::Decimal;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::catalog::Mapping;
use tokio::sync::mpsc;

pub mod anthropic;
pub mod deepseek;
pub mod fal;
pub mod gemini;
mod http;
pub mod kling;
pub mod local;
pub mod luma;
mod mapped;
pub mod midjourney;
pub mod minimax;
pub mod openai;
pub mod openrouter;
pub mod perplexity;
#[cfg(test)]
mod properties;
pub mod recraft;
pub mod removebg;
pub mod replicate;
mod sse;
pub mod stability;
pub mod suno;
mod vendor;
pub mod veo;

#[cfg(test)]
pub(crate) use http::data_url;
pub use vendor::Vendor;

/// Every vendor that there is an adapter for, but for [`local`], which is none.
pub const VENDORS: [&Vendor; 21] = [
    &openai::VENDOR,
    &anthropic::VENDOR,
    &gemini::VENDOR,
    &openrouter::VENDOR,
    &deepseek::VENDOR,
    &perplexity::VENDOR,
    &kling::VENDOR,
    &minimax::v1::VENDOR,
    &minimax::v2::VENDOR,
    &openai::videos::VENDOR,
    &veo::VENDOR,
    &luma::dream::VENDOR,
    &luma::agents::VENDOR,
    &replicate::VENDOR,
    &fal::VENDOR,
    &stability::VENDOR,
    &recraft::VENDOR,
    &removebg::VENDOR,
    &midjourney::VENDOR,
    &suno::relay::VENDOR,
    &suno::sunoapi::VENDOR,
];

/// What one adapter is asked to do: the customer's input, already checked against the model's schema.
#[derive(Debug, Clone)]
pub struct Call {
    /// Task word of the catalogue, such as `video.generate`; an adapter that serves several chooses by it.
    pub task: String,
    /// Model id in the vendor's own words, from the catalogue's route.
    pub upstream_model: String,
    /// The job's `input` object as the caller sent it; files in it are in [`Call::files`] already fetched.
    pub input: Value,
    /// Files named by the input, fetched and sniffed, in the order the schema lists their fields.
    pub files: Vec<InputFile>,
    /// Unique name of this attempt on our side (`job_…-1`), sent along wherever a vendor takes one, so that
    /// a submit whose answer was lost can be looked up.
    pub client_ref: String,
    /// Our key at the vendor; of several parts joined by `:` where a vendor wants more than one, see [`Vendor::key_variables`].
    pub key: SecretString,
    /// The vendor's own reference of the job that `input.job` names, whose follow-up this is.
    pub parent_ref: Option<String>,
    /// Where the vendor may ring when something has changed, for those that take such an address. It only wakes the job, which
    /// then asks; nothing that is sent there is believed.
    pub callback_url: Option<String>,
    /// How the route puts the input into the vendor's names, for vendors whose models each have their own; else empty.
    pub mapping: Arc<Mapping>,
    /// Hears a text while it is written.
    pub deltas: Deltas,
}

/// Where a text adapter tells what it hears while it hears it. Nothing depends on it: the whole text is in the [`Artifacts`].
/// Deaf by default.
#[derive(Debug, Clone, Default)]
pub struct Deltas(Option<mpsc::UnboundedSender<Value>>);

impl Deltas {
    /// Passes deltas on to `listener`.
    pub fn new(listener: mpsc::UnboundedSender<Value>) -> Self {
        Self(Some(listener))
    }

    /// Tells the `choices` of one chunk in OpenAI's form, `[{"index":0,"delta":{"content":"…"}}]`; other vendors' words are put
    /// into it.
    pub fn tell(&self, choices: Value) {
        if let Some(listener) = &self.0 {
            // Nobody there: the caller has gone, and the text is still finished.
            drop(listener.send(choices));
        }
    }
}

impl Call {
    /// A call without key, files, parent, callback, mapping and listener, for tests and as a base to build on.
    pub fn new(task: &str, upstream_model: &str, input: Value, client_ref: &str) -> Self {
        Self {
            task: task.to_owned(),
            upstream_model: upstream_model.to_owned(),
            input,
            files: Vec::new(),
            client_ref: client_ref.to_owned(),
            key: SecretString::default(),
            parent_ref: None,
            callback_url: None,
            mapping: Arc::default(),
            deltas: Deltas::default(),
        }
    }

    /// The same call with these files.
    #[must_use]
    pub fn with_files(mut self, files: Vec<InputFile>) -> Self {
        self.files = files;
        self
    }

    /// A string field of the input, or `None` when it is absent or not a string.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.input.get(field).and_then(Value::as_str)
    }

    /// The fetched file that the input named in `field`.
    pub fn file(&self, field: &str) -> Option<&InputFile> {
        self.files.iter().find(|file| file.field == field)
    }
}

/// A file of the customer's, fetched into memory and recognised by its magic bytes.
#[derive(Debug, Clone)]
pub struct InputFile {
    /// Field of the input that named it, such as `image` or `audio`.
    pub field: String,
    /// Type found in the bytes, never the one that was claimed.
    pub mime_type: String,
    /// The content.
    pub bytes: Bytes,
}

/// An answer of a vendor that is not an error.
#[derive(Debug, Clone)]
pub enum Step {
    /// The result is here, or may be downloaded at once.
    Done(Artifacts),
    /// The vendor is at work; ask again by this reference.
    Pending(Pending),
}

/// A vendor's promise: its own task id, and when to look again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// The vendor's task id in whatever form the adapter needs to resume by it.
    pub provider_ref: String,
    /// How long to wait before [`Provider::resume`] is worth a call.
    pub look_again: Duration,
    /// 0–100 where the vendor tells it.
    pub progress: Option<u8>,
    /// Free text for the job's `phase`, such as `queued at provider`.
    pub phase: String,
}

/// Everything a finished generation brought.
#[derive(Debug, Clone, Default)]
pub struct Artifacts {
    /// The answer of a text task, or the transcript of a transcription.
    pub text: Option<String>,
    /// What the vendor says it used, in its own JSON (`prompt_tokens`, `seconds`, …), shown to the caller as is.
    pub usage: Option<Value>,
    /// More of the vendor's answer that callers want, such as `tool_calls`: an object, merged into the output.
    pub extra: Option<Value>,
    /// Files made, in order.
    pub files: Vec<Artifact>,
    /// What the vendor says it bills for this, in USD; where it says nothing, the catalogue's costs count.
    pub cost_usd: Option<Decimal>,
}

/// One file made by a vendor.
#[derive(Debug, Clone)]
pub enum Artifact {
    /// Came in the answer itself.
    Inline(Bytes),
    /// To be downloaded, by streaming, with these extra headers.
    Remote {
        /// Where the vendor put it; usually short-lived.
        url: String,
        /// Headers the download needs, such as the vendor's key.
        headers: Vec<(String, String)>,
    },
}

/// How a call to a vendor failed, in the classes that routing and retries care about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Our key is wrong, expired or lacks a right. The caller can do nothing about it.
    Auth,
    /// Our account at the vendor is out of money or quota. Retrying at once is useless.
    Quota,
    /// Too many requests just now.
    RateLimited,
    /// The vendor's content policy said no; the same input would be refused again.
    Refused,
    /// The vendor finds the input invalid; the same input would fail again.
    BadInput,
    /// A fault on the vendor's side that surely left no work behind: 5xx with a body, connection refused.
    Unavailable,
    /// Sent, but the answer never came or made no sense: the vendor may be at work on it, and may bill it.
    Ambiguous,
    /// The vendor said the work itself failed: a verdict, and no result will come.
    Failed,
    /// The vendor claimed success but the result cannot be used.
    Broken,
}

impl ErrorClass {
    /// Its word in logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Quota => "quota",
            Self::RateLimited => "rate_limited",
            Self::Refused => "refused",
            Self::BadInput => "bad_input",
            Self::Unavailable => "unavailable",
            Self::Ambiguous => "ambiguous",
            Self::Failed => "failed",
            Self::Broken => "broken",
        }
    }
}

/// A failed call, as an adapter judged it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{class:?}: {message}")]
pub struct ProviderError {
    /// What kind of failure it was.
    pub class: ErrorClass,
    /// The vendor's words or ours, for the log and for operators; holds no secret.
    pub message: String,
    /// How long the vendor asked us to stay away, if it did.
    pub retry_after: Option<Duration>,
}

impl ProviderError {
    /// An error of `class` with no advice on when to come back.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), retry_after: None }
    }

    /// The same error, carrying the vendor's advice on when to come back.
    pub fn retry_after(mut self, delay: Option<Duration>) -> Self {
        self.retry_after = delay;
        self
    }
}

/// What to do when a submit's fate is unknown: its answer was lost, or the worker died before recording it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterAmbiguity {
    /// The vendor can be asked by our client reference; nothing is repeated before it has answered.
    Lookup,
    /// It cannot be asked, and a lost answer costs little: submit again ("maybe twice").
    SubmitAgain,
    /// It cannot be asked, and a second bill would hurt more than a failed job ("maybe never").
    GiveUp,
}

/// What a vendor says of a key that works.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkup {
    /// What is left on the account, where the vendor tells it.
    pub credit: Option<Credit>,
}

/// What is left on an account at a vendor.
#[derive(Debug, Clone, PartialEq)]
pub struct Credit {
    /// How much.
    pub amount: Decimal,
    /// Of what: `USD`, `credits`, in the vendor's word.
    pub unit: String,
}

/// One vendor, speaking its own wire protocol.
#[async_trait]
pub trait Provider: Send + Sync + std::fmt::Debug {
    /// Name in routes, logs and metrics, such as `kling`.
    fn name(&self) -> &'static str;

    /// Which way this vendor errs after an ambiguous submit; each adapter's module docs say why.
    fn after_ambiguity(&self) -> AfterAmbiguity;

    /// Whether somebody sends us a bill for the work. Where nobody does, it is begun without writing an intent first, and done
    /// again when its end is not known.
    fn is_billed(&self) -> bool {
        true
    }

    /// Hands the work over. Called at most once an attempt, after the intent is recorded if it is billed.
    ///
    /// # Errors
    /// [`ErrorClass::Ambiguous`] whenever the vendor may have accepted; every other class means it surely did not.
    async fn submit(&self, call: &Call) -> Result<Step, ProviderError>;

    /// Asks how a task fares, by the reference that [`Step::Pending`] carried.
    ///
    /// # Errors
    /// [`ErrorClass::Failed`], [`ErrorClass::Refused`] or [`ErrorClass::Broken`] are verdicts; anything else means
    /// "not known now" and the job keeps waiting.
    async fn resume(&self, call: &Call, provider_ref: &str) -> Result<Step, ProviderError> {
        let _ = (call, provider_ref);
        Err(ProviderError::new(ErrorClass::Broken, format!("{} has no tasks to resume", self.name())))
    }

    /// Asks whether a submit under `call.client_ref` ever arrived. `None` is the vendor's clear "never seen".
    ///
    /// # Errors
    /// As [`Provider::resume`].
    async fn lookup(&self, call: &Call) -> Result<Option<Step>, ProviderError> {
        let _ = call;
        Err(ProviderError::new(
            ErrorClass::Broken,
            format!("{} cannot be asked by client reference", self.name()),
        ))
    }

    /// Asks the vendor, for free, whether `key` works and what is left on its account. `None`: it has no such question.
    ///
    /// # Errors
    /// [`ErrorClass::Auth`] and [`ErrorClass::Quota`] are about the key; anything else means "not known now".
    async fn check(&self, key: &SecretString) -> Result<Option<Checkup>, ProviderError> {
        let _ = key;
        Ok(None)
    }

    /// Asks the vendor to stop; best effort, and not an error where the vendor offers no such call.
    ///
    /// # Errors
    /// As [`Provider::resume`]; the job is canceled either way.
    async fn cancel(&self, call: &Call, provider_ref: &str) -> Result<(), ProviderError> {
        let _ = (call, provider_ref);
        Ok(())
    }
}

/// The adapters of this process, by the name that routes use.
#[derive(Debug, Clone, Default)]
pub struct Providers(Vec<Arc<dyn Provider>>);

impl Providers {
    /// A registry of just these.
    pub fn new(providers: Vec<Arc<dyn Provider>>) -> Self {
        Self(providers)
    }

    /// The adapter called `name`, or `None` when there is none.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Provider>> {
        self.0.iter().find(|provider| provider.name() == name)
    }

    /// Names of all adapters.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|provider| provider.name()).collect()
    }
}

/// Whether a provider is called with a key: all vendors are, what this program does by itself is not.
pub fn needs_key(provider: &str) -> bool {
    VENDORS.iter().any(|vendor| vendor.name == provider)
}
