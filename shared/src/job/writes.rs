//! What the runs of a worker write in crowds, brought together: intents, pauses and ends.
//!
//! A thousand runs that end at once are a few commits and not a thousand. Each still has its own fence and its own answer.
//! Deliberately absent: what is rare, such as retries, which go alone.

use futures::FutureExt;
use sqlx::PgPool;

use super::{Closing, Intent, Parking, begin_all, close_all, park_all};
use crate::{batch::Batch, process::Process};

/// Most rows of one statement.
const BATCH: usize = 512;
/// Statements at once that touch nothing but their own jobs: one is under way while the next gathers.
const LANES: usize = 2;
/// Statements at once that end jobs: a second one would only wait for the accounts of the first.
const CLOSING_LANES: usize = 1;

/// The writes of a worker process; clones share.
#[derive(Debug, Clone)]
pub struct Writes {
    intents: Batch<Intent, bool>,
    parkings: Batch<Parking, bool>,
    closings: Batch<Closing, bool>,
}

impl Writes {
    /// Writes to `db`; what was handed in is carried through before `process` ends.
    pub fn new(db: &PgPool, process: &Process) -> Self {
        Self {
            intents: Batch::new(db, process, BATCH, LANES, |db, list| begin_all(db, list).boxed()),
            parkings: Batch::new(db, process, BATCH, LANES, |db, list| park_all(db, list).boxed()),
            closings: Batch::new(db, process, BATCH, CLOSING_LANES, |db, list| close_all(db, list).boxed()),
        }
    }

    /// Writes the intent of a provider submit; `false`: the lease is lost, and nothing may be submitted.
    ///
    /// # Errors
    /// When the database fails; nothing may be submitted then.
    pub async fn begin(&self, intent: Intent) -> Result<bool, sqlx::Error> {
        self.intents.ask(intent).await
    }

    /// Lets go of a job until a moment; `false`: the lease is lost.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn park(&self, parking: Parking) -> Result<bool, sqlx::Error> {
        self.parkings.ask(parking).await
    }

    /// Ends a job; `false`: the fence did not hold.
    ///
    /// # Errors
    /// When the database fails. The commit's fate is then unknown, and calling again is safe.
    pub async fn close(&self, closing: Closing) -> Result<bool, sqlx::Error> {
        self.closings.ask(closing).await
    }
}
