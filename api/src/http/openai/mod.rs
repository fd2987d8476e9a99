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
pub mod error;
pub mod run;
mod stream;
pub mod told;
