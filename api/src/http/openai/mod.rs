//! Paths that OpenAI's own clients use as they are. Each call is a job like any other.
//!
//! A handler reads OpenAI's form into the input of a model, hands it in as every job is ([`run`]), waits, and puts the result
//! back into OpenAI's form. Fields that it does not know are ignored, as OpenAI's clients expect; those whose neglect would change
//! the answer are refused. Errors are in OpenAI's words ([`error`]).
//! Deliberately absent: anything about money or queues. A client that hangs up leaves a job behind, which ends and is settled
//! without it.

mod asked;
pub mod chat;
mod completion;
mod content;
mod described;
pub mod embeddings;
pub mod error;
mod failures;
mod fit;
mod form;
pub mod images;
pub mod moderations;
pub mod run;
mod sent;
mod shape;
pub mod speech;
mod stream;
pub mod told;
pub mod transcriptions;
mod video;
pub mod videos;

use axum::response::{IntoResponse, Response};
use error::OpenAiError;
use shared::job::Job;

use crate::ApiError;

pub use sent::FORM_BYTES_MAX;

/// What the paths begin with that are asked and answered in OpenAI's words.
pub const PATHS: &[&str] =
    &["/v1/chat/", "/v1/embeddings", "/v1/moderations", "/v1/images/", "/v1/audio/", "/v1/videos"];

/// A refusal on the way to `path`, in the words that are spoken there.
pub fn refusal(path: &str, error: ApiError) -> Response {
    let is_openais = PATHS.iter().any(|begin| path.starts_with(begin));
    if is_openais { OpenAiError::from(error).into_response() } else { error.into_response() }
}

/// The answer where a job ended well and its output is not what its task makes: a fault of ours.
fn unreadable(job: &Job) -> OpenAiError {
    tracing::error!(job.id = %job.id, task = job.task, "the output of {} is not what its task makes", job.id);
    ApiError::internal().into()
}
