//! What the runs of a worker write in crowds, brought together: intents, pauses and ends.
//!
//! A thousand runs that end at once are a few commits and not a thousand. Each still has its own fence and its own answer.
//! Deliberately absent: what is rare, such as retries, which go alone.

use std::array::from_fn;

use futures::FutureExt;
use sqlx::PgPool;

use super::{Closing, Intent, Parking, begin_all, close_all, park_all};
use crate::{batch::Batch, id::AccountId, process::Process};

/// Most rows of one statement.
const BATCH: usize = 512;
/// Statements at once that touch nothing but their own jobs: one is under way while the next gathers.
const LANES: usize = 2;
/// Statements at once that end jobs. Each has accounts of its own, for a second one would only wait for those of the first.
const CLOSING_LANES: usize = 2;

/// The writes of a worker process; clones share.
#[derive(Debug, Clone)]
pub struct Writes {
    intents: Batch<Intent, bool>,
    parkings: Batch<Parking, bool>,
    closings: [Batch<Closing, bool>; CLOSING_LANES],
}

impl Writes {
    /// Writes to `db`; what was handed in is carried through before `process` ends.
    pub fn new(db: &PgPool, process: &Process) -> Self {
        Self {
            intents: Batch::new(db, process, BATCH, LANES, |db, list| begin_all(db, list).boxed()),
            parkings: Batch::new(db, process, BATCH, LANES, |db, list| park_all(db, list).boxed()),
            closings: from_fn(|_| Batch::new(db, process, BATCH, 1, |db, list| close_all(db, list).boxed())),
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

    /// Ends a job of `account`; `false`: the fence did not hold.
    ///
    /// # Errors
    /// When the database fails. The commit's fate is then unknown, and calling again is safe.
    pub async fn close(&self, account: AccountId, closing: Closing) -> Result<bool, sqlx::Error> {
        self.closings[lane_of(account)].ask(closing).await
    }
}

/// Ids end in random bits, so accounts are spread evenly.
fn lane_of(account: AccountId) -> usize {
    usize::from(account.0.as_bytes()[15]) % CLOSING_LANES
}
