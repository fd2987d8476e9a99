//! The development stack: a private Postgres and an S3 service, without containers or accounts.
//!
//! Owns what `kiln dev` needs beside the platform itself. Both servers listen on loopback only, ask for a secret,
//! and keep their data in a folder that one run at a time may use. The platform talks to them by `postgres://` and
//! `http://` like to any other server, so development takes the same path through SQL and S3 as production.
//! Deliberately absent: anything the platform needs to know about them. They are addresses to it, nothing more.

mod binaries;
mod home;
mod lock;
mod postgres;
mod resident;
mod s3;
mod server;

pub use postgres::{Postgres, PostgresOptions};
pub use s3::S3Server;
