//! What each step must answer and leave behind, and the map of what was found.

use std::collections::{HashMap, VecDeque};

/// A job's second failure or lost lease is its last.
pub const MAX_TRIES: i16 = 2;

/// One of the two.
pub type Worker = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    Claim(Worker),
    Beat(Worker),
    Begin(Worker),
    /// Parked with the provider's reference.
    Park(Worker),
    /// Paused after a failure, to begin anew.
    Retry(Worker),
    Release(Worker),
    Succeed(Worker),
    Fail(Worker),
    /// Ended as its owner asked.
    GiveIn(Worker),
    Cancel,
    Rescue,
    /// Time passes: leases lapse, and rests are over.
    Wait,
}

/// What a worker believes to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grip {
    Nothing,
    /// The lease that counts.
    Lease,
    /// One that does not count any more.
    Stale,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// In line, or its rest is over.
    Runnable,
    Resting,
    Leased {
        lapsed: bool,
    },
    Ended(&'static str),
}

/// A job and its two workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub place: Place,
    pub cancel: bool,
    pub tries: i16,
    pub attempts: i16,
    /// The word of the checkpoint.
    pub checkpoint: Option<&'static str>,
    pub grips: [Grip; 2],
}

/// What a step answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was done, or nothing was there to do.
    Done(bool),
    /// A beat for a lease that counts: whether the owner asked for an end.
    Alive(bool),
    Canceled,
    Requested,
    AlreadyFinal,
}

pub const START: State = State {
    place: Place::Runnable,
    cancel: false,
    tries: 0,
    attempts: 0,
    checkpoint: None,
    grips: [Grip::Nothing; 2],
};

impl State {
    /// Steps that a worker or a clock could take here.
    pub fn steps(self) -> Vec<Step> {
        let mut steps = vec![Step::Cancel, Step::Rescue, Step::Wait];
        for worker in 0..2 {
            match self.grips[worker] {
                Grip::Nothing => steps.push(Step::Claim(worker)),
                grip => {
                    use Step::{Beat, Begin, Fail, GiveIn, Park, Release, Retry, Succeed};
                    steps.extend([Beat, Park, Release, Succeed, Fail, GiveIn].map(|step| step(worker)));
                    // What a run does: an intent where there is none, and a failure that is not the last.
                    if grip == Grip::Stale || self.checkpoint.is_none() {
                        steps.push(Begin(worker));
                    }
                    if grip == Grip::Stale || self.tries + 1 < MAX_TRIES {
                        steps.push(Retry(worker));
                    }
                    // A worker that fell silent may be given the job once more.
                    if grip == Grip::Stale {
                        steps.push(Step::Claim(worker));
                    }
                }
            }
        }
        steps
    }

    /// What a step must answer, and what it must leave.
    pub fn after(mut self, step: Step) -> (Answer, Self) {
        use Answer::{Alive, AlreadyFinal, Canceled, Done, Requested};
        let holds = |worker: Worker| self.grips[worker] == Grip::Lease;
        match step {
            Step::Claim(worker) => {
                let found = self.place == Place::Runnable;
                if found {
                    self.place = Place::Leased { lapsed: false };
                    self.grips[worker] = Grip::Lease;
                }
                (Done(found), self)
            }
            Step::Beat(worker) if holds(worker) => {
                self.place = Place::Leased { lapsed: false };
                (Alive(self.cancel), self)
            }
            Step::Begin(worker) if holds(worker) => {
                self.attempts += 1;
                self.checkpoint = Some("submitting");
                (Done(true), self)
            }
            Step::Park(worker) if holds(worker) => {
                self.checkpoint = Some("pending");
                (Done(true), self.let_go(worker, !self.cancel))
            }
            Step::Retry(worker) if holds(worker) => {
                self.checkpoint = None;
                self.tries += 1;
                (Done(true), self.let_go(worker, !self.cancel))
            }
            Step::Release(worker) if holds(worker) => (Done(true), self.let_go(worker, false)),
            Step::Succeed(worker) if holds(worker) => (Done(true), self.ended("succeeded")),
            Step::Fail(worker) if holds(worker) => (Done(true), self.ended("failed")),
            Step::GiveIn(worker) if holds(worker) => (Done(true), self.ended("canceled")),
            Step::Cancel => match self.place {
                Place::Ended(_) => (AlreadyFinal, self),
                Place::Runnable | Place::Resting if self.attempts == 0 => (Canceled, self.ended("canceled")),
                place => {
                    let held = matches!(place, Place::Leased { .. });
                    (
                        Requested,
                        Self { cancel: true, place: if held { place } else { Place::Runnable }, ..self },
                    )
                }
            },
            Step::Rescue => match self.place {
                Place::Leased { lapsed: true } if self.tries + 1 < MAX_TRIES => {
                    self.tries += 1;
                    (Done(true), Self { place: Place::Resting, ..self.forgotten() })
                }
                Place::Leased { lapsed: true } => {
                    (Done(true), self.ended(if self.cancel { "canceled" } else { "failed" }))
                }
                _ => (Done(false), self),
            },
            Step::Wait => {
                self.place = match self.place {
                    Place::Resting => Place::Runnable,
                    Place::Leased { .. } => Place::Leased { lapsed: true },
                    place => place,
                };
                (Done(true), self)
            }
            // A stale worker changes nothing.
            _ => (Done(false), self),
        }
    }

    fn let_go(mut self, worker: Worker, rests: bool) -> Self {
        self.place = if rests { Place::Resting } else { Place::Runnable };
        self.grips[worker] = Grip::Nothing;
        self
    }

    fn ended(self, status: &'static str) -> Self {
        // What only the queue knew is gone with its row.
        let State { grips, attempts, .. } = self.forgotten();
        Self { place: Place::Ended(status), grips, attempts, ..START }
    }

    /// Nobody holds it any more, and who did does not know.
    fn forgotten(mut self) -> Self {
        for grip in &mut self.grips {
            if *grip == Grip::Lease {
                *grip = Grip::Stale;
            }
        }
        self
    }
}

/// The states that were found: how each was come to, and the steps not taken from it yet.
pub struct Map {
    pub states: HashMap<State, (Vec<Step>, Vec<Step>)>,
    found: VecDeque<State>,
    pub taken: usize,
}

impl Map {
    pub fn new() -> Self {
        let states = HashMap::from([(START, (Vec::new(), START.steps()))]);
        Self { states, found: VecDeque::from([START]), taken: 0 }
    }

    /// The state that was found first of those with steps to take, and the way to it.
    pub fn unfinished(&mut self) -> Option<(State, Vec<Step>)> {
        while let Some(state) = self.found.front().copied() {
            let (way, untaken) = &self.states[&state];
            if !untaken.is_empty() {
                return Some((state, way.clone()));
            }
            self.found.pop_front();
        }
        None
    }

    /// A step to take from here; those that change nothing come first.
    pub fn untaken(&mut self, state: State) -> Option<Step> {
        let (_, untaken) = self.states.get_mut(&state).expect("a state that was found");
        untaken.sort_by_key(|step| state.after(*step).1 == state);
        let step = untaken.pop();
        self.taken += usize::from(step.is_some());
        step
    }

    pub fn arrive(&mut self, state: State, way: &[Step]) {
        self.states.entry(state).or_insert_with(|| {
            self.found.push_back(state);
            (way.to_vec(), state.steps())
        });
    }
}
