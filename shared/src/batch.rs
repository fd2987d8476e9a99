//! Statements that many callers share: whatever gathers while one is under way goes with the next.
//!
//! A commit costs a flush of the log however many rows it has, and a statement costs its start however many it moves. A
//! [`Batch`] waits for nothing: whoever finds a free lane starts at once, alone if need be, and only under load do callers
//! share. Nobody's fate depends on strangers: a statement that fails is taken apart, and each caller gets an answer of
//! its own. Once asked for, an item is carried through even when its caller is gone.
//! Deliberately absent: timers, and tasks that outlive their work.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use sqlx::PgPool;
use tokio::sync::oneshot;

use crate::process::Process;

/// A statement over several items; answers one for each, in their order.
pub type Statement<T, R> = for<'a> fn(&'a PgPool, &'a [T]) -> BoxFuture<'a, Result<Vec<R>, sqlx::Error>>;

/// Callers of one statement, brought together. Clones share.
#[derive(Debug)]
pub struct Batch<T, R>(Arc<Inner<T, R>>);

struct Inner<T, R> {
    db: PgPool,
    process: Process,
    statement: Statement<T, R>,
    size: usize,
    lanes: usize,
    line: Mutex<Line<T, R>>,
}

/// Who waits, and how many statements are under way.
struct Line<T, R> {
    waiting: VecDeque<(T, Caller<R>)>,
    busy: usize,
}

type Caller<R> = oneshot::Sender<Result<R, sqlx::Error>>;

impl<T, R> Clone for Batch<T, R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T, R> std::fmt::Debug for Inner<T, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("size", &self.size).field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static, R: Send + 'static> Batch<T, R> {
    /// Brings together at most `size` items a statement, and at most `lanes` statements at once, each on a connection of `db`.
    pub fn new(
        db: &PgPool,
        process: &Process,
        size: usize,
        lanes: usize,
        statement: Statement<T, R>,
    ) -> Self {
        let line = Mutex::new(Line { waiting: VecDeque::new(), busy: 0 });
        let (db, process) = (db.clone(), process.clone());
        Self(Arc::new(Inner { db, process, statement, size, lanes, line }))
    }

    /// Has `item` carried through, together with whoever else asks now.
    ///
    /// # Errors
    /// What the statement failed with for this item alone.
    pub async fn ask(&self, item: T) -> Result<R, sqlx::Error> {
        let (caller, answer) = oneshot::channel();
        let starts = {
            let mut line = self.0.line();
            line.waiting.push_back((item, caller));
            let starts = line.busy < self.0.lanes;
            line.busy += usize::from(starts);
            starts
        };
        if starts {
            self.0.process.spawn(run(self.0.clone()));
        }
        // A lane that panicked has dropped its callers.
        answer.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }
}

impl<T, R> Inner<T, R> {
    fn line(&self) -> MutexGuard<'_, Line<T, R>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those who are next. Empty: nobody waits, and the lane is free again.
    fn next(&self) -> (Vec<T>, Vec<Caller<R>>) {
        let mut line = self.line();
        let count = line.waiting.len().min(self.size);
        if count == 0 {
            line.busy -= 1;
        }
        line.waiting.drain(..count).unzip()
    }
}

/// One lane, until nobody waits.
async fn run<T: Send + Sync, R: Send>(batch: Arc<Inner<T, R>>) {
    loop {
        // Whoever is ready now joins, without waiting for anybody.
        tokio::task::yield_now().await;
        let (items, callers) = batch.next();
        if items.is_empty() {
            return;
        }
        // A lane outlives a defect in its statement; the callers are dropped with their answers.
        match AssertUnwindSafe(answer(&batch, &items)).catch_unwind().await {
            Ok(answers) => {
                for (caller, answer) in callers.into_iter().zip(answers) {
                    // Nobody there: the caller did not wait for the answer.
                    drop(caller.send(answer));
                }
            }
            Err(_) => tracing::error!(count = items.len(), "a statement of a batch panicked"),
        }
    }
}

async fn answer<T, R>(batch: &Inner<T, R>, items: &[T]) -> Vec<Result<R, sqlx::Error>> {
    match (batch.statement)(&batch.db, items).await {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(error) if items.len() == 1 => vec![Err(error)],
        Err(error) => {
            tracing::debug!(%error, count = items.len(), "a batch failed and is taken apart");
            join_all(items.iter().map(|item| alone(batch, item))).await
        }
    }
}

async fn alone<T, R>(batch: &Inner<T, R>, item: &T) -> Result<R, sqlx::Error> {
    let answers = (batch.statement)(&batch.db, std::slice::from_ref(item)).await?;
    answers.into_iter().next().ok_or(sqlx::Error::RowNotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an item does to the statement it is in.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Item {
        Good(usize),
        Refused,
        Panics,
    }

    fn batch(size: usize) -> Batch<Item, (usize, usize)> {
        // Never connected: the statement of the test asks nobody.
        let db = PgPool::connect_lazy("postgres://localhost/none").expect("a URL");
        Batch::new(&db, &Process::new(), size, 1, |_, items| {
            async move {
                tokio::task::yield_now().await;
                assert!(!items.contains(&Item::Panics), "a defect");
                if items.contains(&Item::Refused) {
                    return Err(sqlx::Error::RowNotFound);
                }
                let numbers =
                    items.iter().map(|item| if let Item::Good(number) = item { *number } else { 0 });
                Ok(numbers.map(|number| (number, items.len())).collect())
            }
            .boxed()
        })
    }

    #[tokio::test]
    async fn those_who_come_at_the_same_time_share_and_each_gets_an_answer_of_its_own() {
        let batch = batch(10);
        let answers = join_all((0..25).map(|number| batch.ask(Item::Good(number)))).await;
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("an answer")).collect();
        assert_eq!(
            answers.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
            (0..25).collect::<Vec<_>>()
        );
        assert_eq!(answers.iter().map(|(_, shared)| *shared).max(), Some(10), "never more than its size");
    }

    #[tokio::test]
    async fn one_that_is_refused_is_refused_alone() {
        let batch = batch(10);
        let asked = [Item::Good(1), Item::Refused, Item::Good(2)].map(|item| batch.ask(item));
        let answers: Vec<_> = join_all(asked).await.into_iter().map(|answer| answer.ok()).collect();
        assert_eq!(answers, [Some((1, 1)), None, Some((2, 1))]);
    }

    #[tokio::test]
    async fn a_statement_that_panics_leaves_nobody_waiting_and_the_next_one_runs() {
        let batch = batch(10);
        let answers = join_all([Item::Good(1), Item::Panics].map(|item| batch.ask(item))).await;
        assert!(answers.iter().all(|answer| matches!(answer, Err(sqlx::Error::WorkerCrashed))));
        assert_eq!(batch.ask(Item::Good(3)).await.expect("an answer"), (3, 1));
    }
}
