//! Tokens: the platform's money, and the book they are written in.
//!
//! Tokens are whole numbers; nothing here is a float. Balances move only by guarded updates inside the statement that
//! also writes the reason into the ledger. Holding, charging and releasing belong to the job's own statements
//! (`job/submit.sql`, `job/close.sql`), because they have to commit together with the job.
//! Deliberately absent: prices (see [`crate::catalog`]) and payments.

#![deny(clippy::float_arithmetic)]

mod adjust;
mod audit;
mod balance;
mod expire;
mod grant;
mod ledger;
mod notices;
mod subscription;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use adjust::{ADJUST_MAX, Adjustment, REFERENCE_LEN, adjust};
pub use audit::{Drift, Stray, audit, strays};
pub use balance::{Balance, MoveError, balance, take_back};
pub use expire::{expire_grants, expire_of};
pub use grant::{Gift, Grant, Source, give, grants};
pub use ledger::{Entry, EntryFilter, EntryKind, entries};
pub use notices::{tell_ending, tell_expiring, tell_low_balance};
pub use subscription::{
    BeginError, Ended, Plan, Subscription, begin, end_due, plans, settle, subscribe, subscriptions,
};

/// A number of tokens, the platform's unit of charge; never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tokens(i64);

impl Tokens {
    /// No tokens.
    pub const ZERO: Self = Self(0);

    /// `count` tokens, or `None` when it is negative.
    pub const fn new(count: i64) -> Option<Self> {
        if count >= 0 { Some(Self(count)) } else { None }
    }

    /// The plain number, for SQL and JSON.
    pub const fn count(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0)
    }
}
