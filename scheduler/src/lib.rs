//! The clock of Kiln: what must happen by itself, at its time, once.
//!
//! `tasks` lists everything on one page; `tick.rs` decides what is due. Any number of schedulers may run: each tick is done
//! by one of them. Deliberately absent: any state of its own; what is done is in the database.

pub mod archive;
pub mod tasks;
pub mod tick;

use sqlx::PgPool;

use shared::{clock::SharedClock, config::Queue, seal::Sealer, storage::Storage, wake::Wakes};

/// What tasks need; built once.
#[derive(Debug, Clone)]
pub struct Ctx {
    /// Postgres.
    pub db: PgPool,
    /// The time.
    pub clock: SharedClock,
    /// Hints to other processes.
    pub wakes: Wakes,
    /// Where files are deleted and archives are put.
    pub storage: Storage,
    /// Seals what mails say.
    pub sealer: Sealer,
    /// Base URL of the API, without a slash at its end: links in mails begin with it.
    pub public_url: String,
    /// Address of whoever is told by mail what only an operator can mend.
    pub operator_email: Option<String>,
    /// Balance below which an account is told, unless it has a threshold of its own.
    pub low_balance_tokens: i64,
    /// How many tries a job has.
    pub timing: Queue,
}
