//! What all processes know together of the providers: our keys there, which of them rest, and how each route fares.
//!
//! Workers learn it by calling, the API asks it before it chooses a route, operators set it. Everything is in Postgres and read
//! every other second, so a key that rests for one process rests for all. Deliberately absent: how a provider is spoken to,
//! which is the workers', and the keys in the clear, which no table holds.

mod checkup;
mod cooldown;
mod key;
mod manage;
mod place;
mod standing;

pub use checkup::{Change, Due, Finding, ask_soon, mark_due, record, take_due};
pub use cooldown::{Cause, Cooldown, Cooldowns, REFUSALS_MAX, accepted, cool_down, cooldowns, refused};
pub use key::{Key, fingerprint, keys, open_secret, register};
pub use manage::{AddError, Limits, NewKey, Terms, add, alter, disable, enable, find, remove};
pub use place::{Place, give_back, take};
pub use standing::{Pace, Route, Seen, Standing, Standings, observe, release_probe, standings, take_probe};
