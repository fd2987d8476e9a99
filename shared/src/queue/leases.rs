//! The leases of this process, and the two signals that can arrive on each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::dues::Dues;
use crate::{
    id::{JobId, LeaseToken},
    job::{Beat, Lease},
};

/// Every lease that this process keeps alive.
#[derive(Debug, Clone, Default)]
pub struct Leases {
    kept: Arc<Mutex<HashMap<LeaseToken, Kept>>>,
    /// When jobs are due that were let go of.
    pub(super) dues: Dues,
}

#[derive(Debug)]
struct Kept {
    job: JobId,
    canceled: CancellationToken,
    lost: CancellationToken,
}

/// One lease kept alive, until dropped; it also takes up a slot.
#[derive(Debug)]
pub struct Held {
    /// Tripped when the owner asks for an end.
    pub canceled: CancellationToken,
    /// Tripped when the lease is lost: whatever is done now is in vain.
    pub lost: CancellationToken,
    token: LeaseToken,
    leases: Leases,
    /// The slot; free again when this is dropped. None when run by hand, outside a pool.
    _slot: Option<OwnedSemaphorePermit>,
}

impl Leases {
    /// Keeps a lease alive from now on.
    pub fn keep(&self, lease: Lease, slot: Option<OwnedSemaphorePermit>) -> Held {
        let kept =
            Kept { job: lease.job, canceled: CancellationToken::new(), lost: CancellationToken::new() };
        let (canceled, lost) = (kept.canceled.clone(), kept.lost.clone());
        self.lock().insert(lease.token, kept);
        Held { canceled, lost, token: lease.token, leases: self.clone(), _slot: slot }
    }

    /// The leases to beat for.
    pub(super) fn all(&self) -> Vec<Lease> {
        self.lock().iter().map(|(token, kept)| Lease { job: kept.job, token: *token }).collect()
    }

    /// Passes on what a beat for `asked` brought back.
    pub(super) fn signal(&self, asked: &[Lease], beats: &[Beat]) {
        let answers: HashMap<_, _> = beats.iter().map(|beat| (beat.job, beat.cancel_requested)).collect();
        let kept = self.lock();
        for lease in asked {
            // Dropped since it was asked for: the job has ended, which is no loss.
            let Some(entry) = kept.get(&lease.token) else { continue };
            match answers.get(&lease.job) {
                Some(true) => entry.canceled.cancel(),
                Some(_) => {}
                None => entry.lost.cancel(),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseToken, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// The job was let go of until a moment.
    pub fn comes_back_at(&self, until: DateTime<Utc>) {
        self.leases.dues.add(until);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.leases.lock().remove(&self.token);
    }
}
