//! The beater: one statement a process and pool keeps every lease alive, also while draining.

use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

use super::Shared;
use crate::{job::beat, wake::Wake};

/// Beats in the life of a lease: two may fail before it lapses.
const BEATS_PER_LEASE: u32 = 3;
/// Wait after a beat that failed, short against any lease.
const RETRY: Duration = Duration::from_millis(500);

pub(super) async fn run(shared: Shared) {
    let every = shared.config.timing.lease / BEATS_PER_LEASE;
    let mut hints = shared.wakes.listen();
    let mut next = every;
    loop {
        let wait = tokio::time::sleep(next);
        tokio::pin!(wait);
        loop {
            tokio::select! {
                () = &mut wait => break,
                () = shared.closed.cancelled() => return,
                // Someone canceled a running job, perhaps one of ours: the beat brings the flag.
                hint = hints.recv() => match hint {
                    Ok(Wake::Cancel) | Err(RecvError::Lagged(_)) => break,
                    Ok(_) => {}
                    Err(RecvError::Closed) => tokio::time::sleep(RETRY).await,
                },
            }
        }
        next = if beat_once(&shared).await { every } else { RETRY.min(every) };
    }
}

/// `false` when the database could not be reached.
async fn beat_once(shared: &Shared) -> bool {
    let leases = shared.leases.all();
    if leases.is_empty() {
        return true;
    }
    match beat(&shared.db, &leases, shared.config.timing.lease, shared.clock.now()).await {
        Ok(beats) => {
            shared.leases.signal(&leases, &beats);
            true
        }
        Err(error) => {
            tracing::warn!(%error, count = leases.len(), "heartbeat failed; trying again");
            false
        }
    }
}
