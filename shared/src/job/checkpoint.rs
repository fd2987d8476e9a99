//! Where the next run of a job resumes: the little that must survive a worker.
//!
//! Kept in `queue.checkpoint`, written under the lease before or right after the thing it remembers. No checkpoint, like
//! [`Checkpoint::Judging`], means that no provider has been called for the current attempt.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How far the current attempt has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Checkpoint {
    /// Nobody could judge what the job asks for yet; no provider is called before somebody has.
    Judging {
        /// How often that was tried; it decides how long to wait.
        #[serde(default)]
        misses: u16,
    },
    /// The intent to submit is written; whether the provider ever heard of it is not known.
    Submitting {
        /// How often the provider said it never saw this submit; one "never" may just be early.
        #[serde(default)]
        unseen: u8,
    },
    /// The provider accepted and gave this reference.
    Pending {
        /// The provider's task id.
        provider_ref: String,
        /// What has gone wrong since.
        #[serde(flatten)]
        misses: Misses,
    },
    /// The result is verified and stored; only the finish is missing.
    Stored {
        /// What will be finished with.
        output: Output,
    },
}

/// What went wrong while a provider had a job; it decides how long to wait, and when a result is taken for lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misses {
    /// Looks in a row that told nothing.
    #[serde(default)]
    pub blind: u16,
    /// Times that the result was made and could not be fetched or kept.
    #[serde(default)]
    pub undelivered: u16,
}

/// What a job made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The answer or the transcript.
    pub text: Option<String>,
    /// What the provider says it used.
    pub usage: Option<Value>,
    /// More of the provider's answer, such as `tool_calls`; an object, merged into the output.
    pub extra: Option<Value>,
    /// Files in storage, in order.
    pub files: Vec<StoredFile>,
    /// What the provider says it bills for this, in USD; where it says nothing, the catalogue's costs count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<Decimal>,
}

/// A file that is verified and in storage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Where: `outputs/{job_id}/{n}-{random}.{ext}`.
    pub storage_key: String,
    /// Where its preview is, for pictures and, where workers have ffmpeg, films.
    pub preview_key: Option<String>,
    /// Type by magic bytes.
    pub mime_type: String,
    /// Length.
    pub size_bytes: i64,
    /// Pixels.
    pub width: Option<i32>,
    /// Pixels.
    pub height: Option<i32>,
    /// Of sound and moving pictures.
    pub duration_seconds: Option<f64>,
}
