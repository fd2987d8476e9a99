//! The clock of Kiln: what must happen by itself, at its time, once.
//!
//! `tasks` lists everything on one page; `tick.rs` decides what is due. Any number of schedulers may run: each tick is done
//! by one of them. Deliberately absent: any state of its own; what is done is in the database.

pub mod tasks;
pub mod tick;

use sqlx::PgPool;

use shared::{clock::SharedClock, config::Queue, storage::Storage, wake::Wakes};

/// What tasks need; built once.
#[derive(Debug, Clone)]
pub struct Ctx {
    /// Postgres.
    pub db: PgPool,
    /// The time.
    pub clock: SharedClock,
    /// Hints to other processes.
    pub wakes: Wakes,
    /// Where files are deleted.
    pub storage: Storage,
    /// How many tries a job has.
    pub timing: Queue,
}
