//! The claimer: one a process and pool, leasing jobs for the slots that are free and for no more.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{Shared, Work};
use crate::{
    job::{Claim, claim, promote, release},
    wake::{Wake, rest},
};

/// Most jobs of one claim.
const BATCH: usize = 512;
/// How often the pool's virtual time follows the claims of a busy worker.
const CLOCK_STEP: Duration = Duration::from_millis(100);

pub(super) async fn run(shared: Shared, outgoing: mpsc::Sender<Work>) {
    // Subscribed before the first look, so that a hint in between is not lost.
    let mut hints = shared.wakes.listen();
    let mut promoted_at = Instant::now();
    let mut clock_moved_at: Option<Instant> = None;
    promote_due(&shared).await;
    loop {
        if promoted_at.elapsed() >= shared.config.timing.poll {
            promoted_at = Instant::now();
            promote_due(&shared).await;
        }
        let Some(slots) = shared.process.free_slots(&shared.slots, BATCH).await else { return };
        let wanted = slots.len();
        let moves_clock = clock_moved_at.is_none_or(|at| at.elapsed() >= CLOCK_STEP);
        if moves_clock {
            clock_moved_at = Some(Instant::now());
        }
        let found = match claim_for(&shared, slots, moves_clock, &outgoing).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, pool = shared.config.pool.word(), "claim failed; trying again");
                0
            }
        };
        let ours = |wake| wake == Wake::Pool(shared.config.pool);
        if found == wanted {
            continue;
        }
        tokio::select! {
            goes_on = rest(&mut hints, shared.config.timing.poll, &shared.process, ours) => if !goes_on { return },
            () = shared.leases.dues.come(shared.clock.as_ref()) => {}
        }
    }
}

/// Lets jobs that were to start later stand in line. Once a poll is often enough.
async fn promote_due(shared: &Shared) {
    if let Err(error) = promote(&shared.db, shared.config.pool, shared.clock.now()).await {
        tracing::warn!(%error, pool = shared.config.pool.word(), "scheduled jobs not looked at; trying again");
    }
}

/// Claims at most as many jobs as there are slots and sends them on; gives how many there were.
async fn claim_for(
    shared: &Shared,
    slots: Vec<OwnedSemaphorePermit>,
    moves_clock: bool,
    outgoing: &mpsc::Sender<Work>,
) -> Result<usize, sqlx::Error> {
    let config = &shared.config;
    let wanted = Claim {
        pool: config.pool,
        worker: &config.worker,
        limit: i64::try_from(slots.len()).unwrap_or(i64::MAX),
        lease: config.timing.lease,
        floors: shared.floors.read().unwrap_or_else(PoisonError::into_inner).clone(),
        moves_clock,
    };
    let claimed = claim(&shared.db, &wanted, shared.clock.now()).await?;
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
        release(&shared.db, &unsent, shared.clock.now()).await?;
    }
    Ok(found)
}
