//! What every test stands on: an application of its own, accounts in it, and the invariants checked at its end.

mod account;
mod app;
mod breaches;
mod database;
mod document;
mod invariants;
mod mails;
mod people;
mod postbox;
mod receiver;
mod simulator;
mod stack;
mod stream;

pub use account::{Account, Answer, read};
pub use app::{Settings, TestApp};
pub use database::{Database, execute, scalar};
pub use mails::Mail;
pub use people::PASSWORD;
pub use postbox::Postbox;
pub use receiver::Receiver;
pub use simulator::Simulator;
pub use stack::{Child, Stack, binary, eventually};
pub use stream::{Events, Heard};
