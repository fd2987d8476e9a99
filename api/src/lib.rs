//! The front door over HTTP: reads a request, calls one verb of `shared`, shows what came of it.
//!
//! A handler holds no SQL and decides nothing about money. Any number of these processes may run; they keep no state.
//! Deliberately absent: providers and workers. The door and the hands meet only in Postgres.

mod auth;
pub mod config;
mod error;
pub mod http;
mod request;

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use sqlx::PgPool;

use shared::{
    catalog::Catalog, clock::SharedClock, job::Renderer, process::Process, storage::Storage, wake::Wakes,
};

pub use error::ApiError;

/// What handlers need; built once, cloned for each request.
#[derive(Debug, Clone)]
pub struct Ctx {
    /// Postgres.
    pub db: PgPool,
    /// The time.
    pub clock: SharedClock,
    /// Hints to and from other processes.
    pub wakes: Wakes,
    /// What is on offer.
    pub catalog: Arc<Catalog>,
    /// Shows jobs to their owners.
    pub renderer: Renderer,
    /// Asked for its health.
    pub storage: Storage,
    /// Told when to stop.
    pub process: Process,
    /// Renders `/metrics`; none where nothing is counted.
    pub metrics: Option<PrometheusHandle>,
    /// Whether webhooks may lead into private networks: for development.
    pub allow_private_addresses: bool,
}
