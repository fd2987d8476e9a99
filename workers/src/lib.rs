//! The hands of Kiln: pools of workers that call providers, verify and store results, and tell the callers.
//!
//! `run.rs` is a job's way through one claim, `moderation` the judgement before it is paid for, `outcome.rs` the one place
//! where a failure becomes a decision, `runtime.rs` the glue to apalis. Deliberately absent: SQL and HTTP servers. Everything
//! durable goes through the verbs of `shared`.

mod acceptance;
mod bill;
mod blame;
pub mod checkup;
pub mod config;
mod fetch;
pub mod health;
pub mod keychain;
pub mod mail;
pub mod media;
pub mod moderation;
mod net;
pub mod notify;
mod outbox;
pub mod outcome;
pub mod providers;
mod result;
pub mod run;
pub mod runtime;
mod trace;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use health::Health;
use keychain::Keychain;
use moderation::Moderators;
use providers::Providers;
use shared::{
    catalog::Catalog,
    clock::SharedClock,
    config::Queue,
    job::{Doorbell, Writes},
    seal::Sealer,
    storage::Storage,
    text::Teller,
    wake::Wakes,
};

pub use net::{Web, vendor_client};
pub use run::{Probe, Station};

/// Set from the moment a paid submit begins until its run ends: such a run is not given up at a stop, for what it waits for
/// would be paid again.
#[derive(Debug, Clone, Default)]
pub struct Paying(Arc<AtomicBool>);

impl Paying {
    fn begin(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// What a running job needs; built once, cloned for each job.
#[derive(Debug, Clone)]
pub struct Ctx {
    /// Postgres.
    pub db: PgPool,
    /// What runs write in crowds.
    pub writes: Writes,
    /// The time.
    pub clock: SharedClock,
    /// Hints to other processes.
    pub wakes: Wakes,
    /// Tells texts while they are written.
    pub teller: Teller,
    /// Which fields of an input are files.
    pub catalog: Arc<Catalog>,
    /// Where results go.
    pub storage: Storage,
    /// Who makes them.
    pub providers: Providers,
    /// Our keys there.
    pub keychain: Keychain,
    /// How they fare.
    pub health: Health,
    /// Who judges beforehand what is asked for.
    pub moderators: Moderators,
    /// The network beyond the providers: inputs by URL, downloads, webhooks.
    pub web: Web,
    /// Seals what mails say.
    pub sealer: Sealer,
    /// Address of whoever is told by mail what only an operator can mend.
    pub operator_email: Option<String>,
    /// Where providers may ring, if they are told.
    pub doorbell: Option<Doorbell>,
    /// Leases and tries.
    pub timing: Queue,
    /// Tripped when a stopping process has waited long enough: jobs still running are given back.
    pub drained: CancellationToken,
    /// Whether this run has begun a submit that a vendor may bill; one of its own for each run.
    pub paying: Paying,
    /// Told which station a job has reached; deaf outside tests.
    pub probe: Probe,
}
