//! The front door over HTTP: reads a request, calls one verb of `shared`, shows what came of it.
//!
//! A handler holds no SQL and decides nothing about money. Any number of these processes may run; they keep no state.
//! Deliberately absent: providers and workers. The door and the hands meet only in Postgres.

pub mod access;
mod access_token;
pub mod config;
mod cors;
mod error;
mod form;
pub mod http;
pub mod limit;
mod page;
mod people;
mod request;
mod schema;
mod sheet;
pub mod uploads;
mod waits;

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::SecretString;
use sqlx::PgPool;

use shared::{
    account::Keyring,
    catalog::Catalog,
    clock::SharedClock,
    job::{Doorbell, Estimator, Renderer, Submitter},
    price::Prices,
    process::Process,
    provider::Standings,
    seal::Sealer,
    storage::Storage,
    text::Audience,
    wake::Wakes,
};

pub use cors::Origins;
pub use error::{ApiError, ErrorBody};
pub use limit::Limits;
pub use people::People;
pub use uploads::{UploadLimits, Uploads};
pub use waits::Waits;

/// What handlers need, as each request has it: a request passes it on several times.
pub type Ctx = Arc<Parts>;

/// What handlers need; built once.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Postgres.
    pub db: PgPool,
    /// Proves API keys.
    pub keyring: Keyring,
    /// Where orders are handed in.
    pub submitter: Submitter,
    /// The time.
    pub clock: SharedClock,
    /// Hints to and from other processes.
    pub wakes: Wakes,
    /// Those who listen to texts while they are written.
    pub audience: Audience,
    /// What is on offer.
    pub catalog: Arc<Catalog>,
    /// What it costs.
    pub prices: Prices,
    /// How the routes to the providers fare.
    pub standings: Standings,
    /// Guesses when jobs end.
    pub estimator: Estimator,
    /// Shows jobs to their owners.
    pub renderer: Renderer,
    /// Where uploads go; signs for what is fetched, and is asked for its health.
    pub storage: Storage,
    /// Knows where providers ring.
    pub doorbell: Doorbell,
    /// Seals what mails say.
    pub sealer: Sealer,
    /// The deployment's secret: what accounts check the webhooks of their jobs with is derived from it.
    pub secret: SecretString,
    /// What receivers check our webhooks with, as Standard Webhooks writes it.
    pub webhook_public_key: String,
    /// Hashes passwords, signs access tokens, knows what new people agree to and get.
    pub people: People,
    /// Base URL of this API as callers reach it, without a slash at its end: links in mails begin with it.
    pub public_url: String,
    /// Told when to stop.
    pub process: Process,
    /// Renders `/metrics`; none where nothing is counted.
    pub metrics: Option<PrometheusHandle>,
    /// How often one address may ask.
    pub limits: Limits,
    /// How much may be sent in, and what is on its way.
    pub uploads: Uploads,
    /// How long a client is waited for, and waits.
    pub waits: Waits,
    /// Which pages of other origins are let in.
    pub cors: Origins,
    /// How much of conversations there may be.
    pub dialogs: config::Dialogs,
    /// How many proxies of ours stand in front: so many entries of X-Forwarded-For are believed.
    pub trusted_proxies: usize,
    /// Whether webhooks may lead into private networks: for development.
    pub allow_private_addresses: bool,
}
