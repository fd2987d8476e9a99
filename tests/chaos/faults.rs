//! The plan: which fault strikes when, decided by the seed alone.
//!
//! The faults are a deck of cards that is shuffled and dealt, and again, so that a run of a minute sees every kind. Only
//! the plan can be repeated: what a fault hits depends on where the processes are just then.

use std::{fmt, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::{Value, json};

use crate::{
    fleet::{INSTANCES, Role},
    place::{LEASE_SECS, SINKS},
    sinks::Mode,
};

/// Time from one fault to the next, in milliseconds.
const GAP_MILLIS: std::ops::Range<u64> = 250..1050;
/// How long something frozen or away stays so, in milliseconds: within the lease, and well beyond it.
const SHORT_MILLIS: std::ops::Range<u64> = 400..2500;
const LONG_MILLIS: std::ops::Range<u64> = (LEASE_SECS * 1000 + 1000)..(LEASE_SECS * 1000 + 5000);

/// A fault ordered from the vendors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lie {
    /// Its name at the simulator.
    name: &'static str,
    /// Its value there.
    value: Option<&'static str>,
    /// Which kind of request, where not the one it naturally belongs to.
    op: Option<&'static str>,
    /// How many requests it strikes.
    pub times: u8,
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if let Some(value) = self.value {
            write!(f, "={value}")?;
        }
        self.op.map_or(Ok(()), |op| write!(f, " at {op}"))
    }
}

impl Lie {
    const fn new(name: &'static str, times: u8) -> Self {
        Self { name, value: None, op: None, times }
    }

    const fn with(self, value: &'static str) -> Self {
        Self { value: Some(value), ..self }
    }

    const fn at(self, op: &'static str) -> Self {
        Self { op: Some(op), ..self }
    }

    /// As the simulator is told.
    pub fn order(&self) -> Value {
        json!({ "fault": self.name, "value": self.value, "op": self.op, "times": self.times })
    }
}

/// What vendors do. A task is never denied for good: a vendor that takes work and then says for ever that it never saw it
/// will be paid twice by anyone. The one that is slower than any adapter waits for an answer (30 s to a question) keeps
/// one question waiting, for work that is handed over is waited for longer than a run takes.
const LIES: [Lie; 29] = [
    Lie::new("drop", 3),
    Lie::new("drop", 2),
    Lie::new("drop", 2).at("poll"),
    Lie::new("drop_before", 3),
    Lie::new("drop_before", 2).at("download"),
    Lie::new("malformed", 2),
    Lie::new("malformed", 2).at("poll"),
    Lie::new("html", 2),
    Lie::new("html", 2).at("poll"),
    Lie::new("fail", 3),
    Lie::new("fail", 2).with("503"),
    Lie::new("fail", 3).with("500").at("poll"),
    Lie::new("fail", 2).with("500").at("download"),
    Lie::new("rate_limit", 5).with("1"),
    Lie::new("quota", 1),
    Lie::new("auth", 1),
    Lie::new("slow", 4).with("4"),
    Lie::new("slow", 1).with("35").at("poll"),
    Lie::new("stream", 2).with("cut"),
    Lie::new("stream", 2).with("error"),
    Lie::new("refuse", 1),
    Lie::new("task_fail", 1),
    Lie::new("empty", 2),
    Lie::new("corrupt", 2),
    Lie::new("truncated", 2),
    Lie::new("no_result", 1),
    Lie::new("backwards", 2),
    Lie::new("missing", 1),
    Lie::new("expired", 1),
];

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A process is killed, and is dead for a while.
    Kill(Role, usize, Duration),
    /// A process is frozen, and wakes later as if nothing had happened.
    Freeze(Role, usize, Duration),
    /// A process is told to stop.
    Stop(Role, usize),
    /// Postgres is restarted, well or as in a power cut.
    RestartPostgres {
        /// As in a power cut.
        immediate: bool,
    },
    /// Some connections to Postgres are ended.
    Disconnect(i64),
    /// A deliverer is frozen and the clock moved past the leases of all notices, so that others send the same.
    LapseNotices(usize, Duration),
    /// The S3 service is killed, and away for a while.
    StorageAway(Duration),
    /// The vendors are frozen.
    VendorsFrozen(Duration),
    /// The vendors lie.
    Vendors(Lie),
    /// A receiver misbehaves for a while.
    Sink(usize, Mode, Duration),
}

impl Fault {
    /// For the report.
    pub fn kind(self) -> String {
        match self {
            Self::Kill(role, ..) => format!("kill {}", role.word()),
            Self::Freeze(role, _, time) if time.as_secs() >= LEASE_SECS => {
                format!("freeze {} past its lease", role.word())
            }
            Self::Freeze(role, ..) => format!("freeze {}", role.word()),
            Self::Stop(role, _) => format!("stop {}", role.word()),
            Self::RestartPostgres { immediate: true } => "restart postgres as after a power cut".into(),
            Self::RestartPostgres { immediate: false } => "restart postgres".into(),
            Self::Disconnect(_) => "end connections to postgres".into(),
            Self::LapseNotices(..) => "freeze delivery past the leases of notices".into(),
            Self::StorageAway(_) => "kill the storage".into(),
            Self::VendorsFrozen(_) => "freeze the vendors".into(),
            Self::Vendors(lie) => format!("vendors: {lie}"),
            Self::Sink(_, mode, _) => format!("receiver is {}", mode.word()),
        }
    }
}

/// A fault and its time, from the start of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    /// When.
    pub at: Duration,
    /// What.
    pub fault: Fault,
}

/// The faults of a run of that length.
pub fn plan(seed: u64, length: Duration) -> Vec<Strike> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut strikes, mut deck, mut at) = (Vec::new(), Vec::new(), Duration::from_secs(1));
    while at < length {
        let fault = match deck.pop() {
            Some(fault) => fault,
            None => {
                deck = shuffled(&mut rng);
                continue;
            }
        };
        strikes.push(Strike { at, fault });
        at += Duration::from_millis(rng.random_range(GAP_MILLIS));
    }
    strikes
}

/// Every card once, and a hand of lies.
fn shuffled(rng: &mut StdRng) -> Vec<Fault> {
    let mut deck = Vec::new();
    let one = |rng: &mut StdRng| rng.random_range(0..INSTANCES);
    let short = |rng: &mut StdRng| Duration::from_millis(rng.random_range(SHORT_MILLIS));
    let long = |rng: &mut StdRng| Duration::from_millis(rng.random_range(LONG_MILLIS));
    for role in Role::ALL {
        deck.push(Fault::Kill(role, one(rng), short(rng)));
        deck.push(Fault::Freeze(role, one(rng), short(rng)));
        deck.push(Fault::Freeze(role, one(rng), long(rng)));
        deck.push(Fault::Stop(role, one(rng)));
    }
    // Where the money is made.
    for role in [Role::Text, Role::Image, Role::Video, Role::Audio] {
        deck.push(Fault::Kill(role, one(rng), short(rng)));
    }
    deck.push(Fault::RestartPostgres { immediate: true });
    deck.push(Fault::RestartPostgres { immediate: false });
    deck.push(Fault::Disconnect(rng.random_range(1..6)));
    deck.push(Fault::Disconnect(rng.random_range(6..40)));
    deck.push(Fault::LapseNotices(one(rng), long(rng)));
    deck.push(Fault::StorageAway(short(rng)));
    deck.push(Fault::StorageAway(long(rng)));
    deck.push(Fault::VendorsFrozen(short(rng)));
    for mode in [Mode::Broken, Mode::Slow, Mode::Mute, Mode::Away] {
        deck.push(Fault::Sink(rng.random_range(0..SINKS), mode, long(rng)));
    }
    let mut lies = LIES;
    lies.shuffle(rng);
    deck.extend(lies.iter().take(LIES.len() / 2).map(|lie| Fault::Vendors(*lie)));
    deck.shuffle(rng);
    deck
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_plan_each_time_and_another_one_another() {
        let minute = Duration::from_secs(60);
        assert_eq!(plan(7, minute), plan(7, minute));
        assert_ne!(plan(7, minute), plan(8, minute));
    }

    #[test]
    fn a_minute_is_enough_for_every_kind_of_fault_but_some_lies() {
        let plan = plan(1, Duration::from_secs(60));
        let deck = shuffled(&mut StdRng::seed_from_u64(2));
        let seen: Vec<_> = plan.iter().map(|strike| strike.fault.kind()).collect();
        for fault in deck.iter().filter(|fault| !matches!(fault, Fault::Vendors(_))) {
            assert!(seen.contains(&fault.kind()), "{} is missing among {seen:?}", fault.kind());
        }
    }
}
