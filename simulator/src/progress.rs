//! How a task looks to whoever polls it: its pace, and the faults that make it look otherwise.
//!
//! An ending is for ever: once a poll has shown success or failure, neither a new pace nor a new fault takes it
//! back. Not being found, being gone and an empty success are tricks of the view, not endings.

use crate::{
    Pace, Simulator, clock,
    fault::{Fault, Kind},
    interference::lock,
    ledger::Visit,
    task::{Ending, Task},
};

/// What a poll gets to see.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Sight {
    /// No such task.
    Missing,
    /// Accepted, not begun.
    Waiting,
    /// Begun.
    Working,
    /// A status from the future.
    Unknown,
    /// The vendor could not do it, and perhaps says why.
    Failed(Option<String>),
    /// The vendor would not do it.
    Refused,
    /// Done, with a file under the download URL of this number.
    Succeeded { issue: u32 },
    /// Done, but without a file.
    Hollow,
}

impl Simulator {
    /// When tasks become finished.
    pub fn pace(&self) -> Pace {
        *lock(&self.pace)
    }

    /// Changes when tasks become finished.
    pub fn set_pace(&self, pace: Pace) {
        *lock(&self.pace) = pace;
    }

    /// Polls a task: counts the poll, moves the task on, and says what is to be seen.
    pub async fn look(&self, visit: &Visit, id: &str) -> Sight {
        let pace = self.pace();
        let sight = self.tasks.update(id, |task| self.view(visit, task, pace)).await;
        sight.unwrap_or(Sight::Missing)
    }

    fn view(&self, visit: &Visit, task: &mut Task, pace: Pace) -> Sight {
        if self.strike(visit, Kind::Purged).is_some() || self.strikes(visit, task, Kind::Missing, Some(1)) {
            return Sight::Missing;
        }
        task.polls += 1;
        if task.ending.is_none() {
            if let Some(sight) = self.view_unfinished(visit, task, pace) {
                return sight;
            }
            task.ending = Some(self.end(visit, task));
            task.updated_ms = clock::now_ms();
        }
        match task.ending {
            Some(Ending::Failed) => Sight::Failed(task.failure.clone()),
            Some(Ending::Refused) => Sight::Refused,
            Some(Ending::Succeeded) | None => {
                if self.strike(visit, Kind::NoResult).is_some() {
                    return Sight::Hollow;
                }
                task.issued += 1;
                Sight::Succeeded { issue: task.issued }
            }
        }
    }

    /// What a task that has no ending yet looks like; `None` when this poll ends it.
    fn view_unfinished(&self, visit: &Visit, task: &mut Task, pace: Pace) -> Option<Sight> {
        if self.strikes(visit, task, Kind::UnknownStatus, None) {
            return Some(Sight::Unknown);
        }
        if self.strikes(visit, task, Kind::NeverFinish, None) {
            return Some(Sight::Working);
        }
        // Two polls show it: working first, then waiting again; after that the task goes its way.
        if self.strikes(visit, task, Kind::Backwards, Some(2)) {
            let shown = task.strikes.get(&Kind::Backwards).copied().unwrap_or_default();
            return Some(if shown == 1 { Sight::Working } else { Sight::Waiting });
        }
        let (gone, whole) = match pace {
            Pace::AfterPolls(polls) => (f64::from(task.polls), f64::from(polls)),
            Pace::AfterSeconds(seconds) => (elapsed_secs(task), seconds),
        };
        // A third of the way is spent waiting, as vendors do when they are busy.
        (gone < whole).then_some(if gone * 3.0 <= whole { Sight::Waiting } else { Sight::Working })
    }

    fn end(&self, visit: &Visit, task: &mut Task) -> Ending {
        if let Some(fault) = self.strike(visit, Kind::TaskFail) {
            task.failure = fault.value;
            return Ending::Failed;
        }
        if self.faults().take(visit, Kind::Refuse, |fault| !fault.says("submit")).is_some() {
            return Ending::Refused;
        }
        Ending::Succeeded
    }

    /// Whether a fault strikes this task once more; its value, or else `limit`, says how often it may.
    pub fn strikes(&self, visit: &Visit, task: &mut Task, kind: Kind, limit: Option<u32>) -> bool {
        let before = task.strikes.get(&kind).copied().unwrap_or_default();
        let fits = |fault: &Fault| fault.count().or(limit).is_none_or(|limit| before < limit);
        let hit = self.faults().take(visit, kind, fits).is_some();
        if hit {
            task.strikes.insert(kind, before + 1);
        }
        hit
    }
}

fn elapsed_secs(task: &Task) -> f64 {
    let millis = clock::now_ms().saturating_sub(task.created_ms);
    std::time::Duration::from_millis(u64::try_from(millis).unwrap_or_default()).as_secs_f64()
}
