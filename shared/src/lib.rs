//! The nouns of Kiln, its rules and all of its SQL.
//!
//! Everything that `api`, `workers` and `scheduler` have to agree on lives here, and they meet only in Postgres.
//! Deliberately absent: HTTP servers, providers, Telegram. Whoever needs one of those depends on this crate, never
//! the other way round.

pub mod account;
pub mod address;
pub mod batch;
pub mod billing;
pub mod catalog;
pub mod channel;
pub mod clock;
pub mod config;
pub mod db;
pub mod dialog;
pub mod feedback;
pub mod file;
pub mod format;
pub mod id;
pub mod job;
pub mod mail;
pub mod notice;
pub mod price;
pub mod privacy;
pub mod process;
pub mod provider;
pub mod queue;
pub mod rate;
pub mod schedule;
pub mod seal;
pub mod storage;
pub mod telemetry;
pub mod text;
pub mod trace;
pub mod upload;
pub mod usage;
pub mod wake;
pub mod webhook;

/// What the binaries allocate with. Jobs are many small things, made by one thread and forgotten by another, which it does with less
/// work than the system's allocator.
pub use mimalloc::MiMalloc as Allocator;
