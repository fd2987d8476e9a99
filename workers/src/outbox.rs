//! One round of whatever is delivered from a table of duties, webhooks and mails alike: lease as many as there are free
//! slots, and deliver each by itself. Deliberately absent: how long to rest when nothing more is due.

use std::sync::Arc;

use shared::process::Process;
use tokio::sync::Semaphore;

/// Leases duties by `claim`, which is told how many, and delivers them in the background. Says whether fewer were due than
/// there was room for; `None`: the process is stopping.
pub async fn round<D, C, F>(
    what: &'static str,
    free: &Arc<Semaphore>,
    slots: usize,
    process: &Process,
    claim: impl FnOnce(i64) -> C,
    deliver: impl Fn(D) -> F,
) -> Option<bool>
where
    C: Future<Output = Result<Vec<D>, sqlx::Error>>,
    F: Future<Output = ()> + Send + 'static,
{
    if process.is_stopping() {
        return None;
    }
    let taken = process.free_slots(free, slots).await?;
    let wanted = taken.len();
    let due = match claim(i64::try_from(wanted).unwrap_or(i64::MAX)).await {
        Ok(due) => due,
        Err(error) => {
            tracing::warn!(%error, "due {what} not claimed; trying again");
            Vec::new()
        }
    };
    let found = due.len();
    for (due, slot) in due.into_iter().zip(taken) {
        let delivery = deliver(due);
        process.spawn(async move {
            delivery.await;
            drop(slot);
        });
    }
    Some(found < wanted)
}
