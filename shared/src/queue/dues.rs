//! When the jobs that this worker has let go of are due again, so that its claimer looks for them on time and not at its next poll.
//!
//! It is a hint like the others: what other processes let go of they know themselves, and whatever gets lost is found by a poll.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use crate::clock::Clock;

/// How far two looks are apart that are made for this: a worker with many parked jobs finds several at each.
const APART: Duration = Duration::from_millis(20);

/// Moments at which something is due. Clones share.
#[derive(Debug, Clone, Default)]
pub struct Dues(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    times: Mutex<BinaryHeap<Reverse<DateTime<Utc>>>>,
    /// Rung when something is due sooner than all else.
    bell: Notify,
}

impl Dues {
    /// Something is due at a moment.
    pub fn add(&self, at: DateTime<Utc>) {
        let mut times = self.times();
        let is_next = times.peek().is_none_or(|Reverse(next)| at < *next);
        times.push(Reverse(at));
        drop(times);
        if is_next {
            self.0.bell.notify_one();
        }
    }

    /// Waits until something is due, and forgets all that is. Safe to give up.
    pub async fn come(&self, clock: &dyn Clock) {
        tokio::time::sleep(APART).await;
        loop {
            let now = clock.now();
            let next = self.times().peek().map(|Reverse(next)| *next);
            match next {
                Some(next) if next <= now => return self.forget(now),
                Some(next) => {
                    let left = (next - now).to_std().unwrap_or_default();
                    drop(tokio::time::timeout(left, self.0.bell.notified()).await);
                }
                None => self.0.bell.notified().await,
            }
        }
    }

    fn forget(&self, now: DateTime<Utc>) {
        let mut times = self.times();
        while times.peek().is_some_and(|Reverse(next)| *next <= now) {
            times.pop();
        }
    }

    fn times(&self) -> MutexGuard<'_, BinaryHeap<Reverse<DateTime<Utc>>>> {
        self.0.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test]
    async fn what_is_due_is_waited_for_and_told_once() {
        let (dues, clock) = (Dues::default(), SystemClock);
        dues.add(clock.now() + TimeDelta::hours(1));
        let told = async {
            tokio::time::sleep(APART * 2).await;
            dues.add(clock.now());
            dues.add(clock.now() - TimeDelta::seconds(1));
        };
        tokio::join!(dues.come(&clock), told);
        assert_eq!(dues.times().len(), 1, "what is due later stays");
    }
}
