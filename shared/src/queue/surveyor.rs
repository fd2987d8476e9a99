//! The surveyor: looks for the floors that claims begin at, so that what has been claimed is not passed over again.

use std::{sync::PoisonError, time::Duration};

use super::Shared;

/// How far two looks are apart; also how late a job may be found whose submit took that long.
const EVERY: Duration = Duration::from_secs(10);

pub(super) async fn run(shared: Shared) {
    while shared.process.sleep(EVERY).await {
        let known = shared.floors.read().unwrap_or_else(PoisonError::into_inner).clone();
        match known.look(&shared.db, shared.config.pool, shared.clock.now()).await {
            Ok(found) => *shared.floors.write().unwrap_or_else(PoisonError::into_inner) = found,
            Err(error) => {
                tracing::warn!(%error, pool = shared.config.pool.word(), "floors not looked for; the old ones stand")
            }
        }
    }
}
