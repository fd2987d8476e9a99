//! The claimer: one a process and pool, leasing jobs for the slots that are free and for no more.

use rand::RngExt;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};

use super::{Shared, Work};
use crate::{
    job::{claim, promote, release},
    wake::Wake,
};

/// Most jobs of one claim.
const BATCH: usize = 256;

pub(super) async fn run(shared: Shared, outgoing: mpsc::Sender<Work>) {
    // Subscribed before the first look, so that a hint in between is not lost.
    let mut hints = shared.wakes.listen();
    let mut promoted_at = Instant::now();
    promote_due(&shared).await;
    loop {
        if promoted_at.elapsed() >= shared.config.timing.poll {
            promoted_at = Instant::now();
            promote_due(&shared).await;
        }
        let Some(slots) = free_slots(&shared).await else { return };
        let wanted = slots.len();
        let found = match claim_for(&shared, slots, &outgoing).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, pool = shared.config.pool.word(), "claim failed; trying again");
                0
            }
        };
        if found < wanted && !rest(&shared, &mut hints).await {
            return;
        }
    }
}

/// Lets jobs that were to start later stand in line. Once a poll is often enough.
async fn promote_due(shared: &Shared) {
    if let Err(error) = promote(&shared.db, shared.config.pool, shared.clock.now()).await {
        tracing::warn!(%error, pool = shared.config.pool.word(), "scheduled jobs not looked at; trying again");
    }
}

/// Waits for one free slot, then takes all that are. `None`: the process is stopping.
async fn free_slots(shared: &Shared) -> Option<Vec<OwnedSemaphorePermit>> {
    let first = tokio::select! {
        slot = shared.slots.clone().acquire_owned() => slot.ok()?,
        () = shared.process.stopping() => return None,
    };
    let mut slots = vec![first];
    while slots.len() < BATCH
        && let Ok(slot) = shared.slots.clone().try_acquire_owned()
    {
        slots.push(slot);
    }
    Some(slots)
}

/// Claims at most as many jobs as there are slots and sends them on; gives how many there were.
async fn claim_for(
    shared: &Shared,
    slots: Vec<OwnedSemaphorePermit>,
    outgoing: &mpsc::Sender<Work>,
) -> Result<usize, sqlx::Error> {
    let config = &shared.config;
    let limit = i64::try_from(slots.len()).unwrap_or(i64::MAX);
    let now = shared.clock.now();
    let claimed = claim(&shared.db, config.pool, &config.worker, limit, config.timing.lease, now).await?;
    let found = claimed.len();
    metrics::counter!("kiln_jobs_claimed_total", "pool" => config.pool.word())
        .increment(u64::try_from(found).unwrap_or(0));
    let mut unsent = Vec::new();
    for (claimed, slot) in claimed.into_iter().zip(slots) {
        let held = shared.leases.keep(claimed.lease, Some(slot));
        // Sending cannot wait: the channel has room for every slot. It fails only when the worker is stopping.
        if let Err(refused) = outgoing.send(Work { claimed, held }).await {
            unsent.push(refused.0.claimed.lease);
        }
    }
    if !unsent.is_empty() {
        release(&shared.db, &unsent).await?;
    }
    Ok(found)
}

/// Waits for a hint about this pool or for the next look, whichever is first. `false`: the process is stopping.
async fn rest(shared: &Shared, hints: &mut broadcast::Receiver<Wake>) -> bool {
    // Jitter keeps many workers from looking all at once.
    let poll = shared.config.timing.poll.mul_f64(rand::rng().random_range(0.5..1.5));
    let wait = tokio::time::sleep(poll);
    tokio::pin!(wait);
    loop {
        tokio::select! {
            () = &mut wait => return true,
            () = shared.process.stopping() => return false,
            hint = hints.recv() => match hint {
                Ok(Wake::Pool(pool)) if pool == shared.config.pool => return true,
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return true,
                Err(broadcast::error::RecvError::Closed) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
        }
    }
}
