//! The hands of Kiln: pools of workers that call providers, verify and store results, and tell the callers.
//!
//! `run.rs` is a job's way through one claim, `outcome.rs` the one place where a failure becomes a decision,
//! `runtime.rs` the glue to apalis. Deliberately absent: SQL and HTTP servers. Everything durable goes through the verbs
//! of `shared`.

pub mod config;
mod fetch;
pub mod media;
mod net;
pub mod notify;
pub mod outcome;
pub mod providers;
mod result;
pub mod run;
pub mod runtime;

use std::sync::Arc;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use providers::Providers;
use shared::{catalog::Catalog, clock::SharedClock, config::Queue, storage::Storage, wake::Wakes};

pub use net::{Web, vendor_client};
pub use run::{Probe, Station};

/// What a running job needs; built once, cloned for each job.
#[derive(Debug, Clone)]
pub struct Ctx {
    /// Postgres.
    pub db: PgPool,
    /// The time.
    pub clock: SharedClock,
    /// Hints to other processes.
    pub wakes: Wakes,
    /// Which fields of an input are files.
    pub catalog: Arc<Catalog>,
    /// Where results go.
    pub storage: Storage,
    /// Who makes them.
    pub providers: Providers,
    /// The network beyond the providers: inputs by URL, downloads, webhooks.
    pub web: Web,
    /// Leases and tries.
    pub timing: Queue,
    /// Tripped when a stopping process has waited long enough: jobs still running are given back.
    pub drained: CancellationToken,
    /// Told which station a job has reached; deaf outside tests.
    pub probe: Probe,
}
