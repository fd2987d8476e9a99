//! A proof under fire: nothing is lost and nothing charged twice, whatever is killed, frozen, cut off or lied to.
//!
//! The real programs run as processes of their own on a real Postgres and a real S3 service. Customers order jobs through
//! the API while the plan of a seed kills, freezes and stops them; then all is mended, everything under way comes to its
//! end, and what customers, vendors, receivers, storage and database each know is compared. `README.md` beside this file
//! says what that proves. Deliberately absent: any look inside a process, and any repair of the data.

mod accounts;
mod book;
mod child;
mod customer;
mod evidence;
mod faults;
mod fleet;
mod ground;
mod kept;
mod orders;
mod place;
mod report;
mod run;
mod said;
mod settle;
mod sinks;
mod strike;
mod told;
mod vendors;
mod verdict;

#[path = "../it/support/breaches.rs"]
mod breaches;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::{Parser, Subcommand};

/// How long faults strike where nobody says otherwise.
const SECONDS: u64 = 60;

/// Breaks everything that can break while jobs run, and checks that nothing is lost or charged twice.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Arguments {
    /// How many minutes the faults last.
    #[arg(long, conflicts_with = "seconds")]
    minutes: Option<u64>,
    /// How many seconds the faults last (60).
    #[arg(long)]
    seconds: Option<u64>,
    /// Decides the faults and the orders; any if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Keeps the folder with logs and data even when all is well.
    #[arg(long)]
    keep: bool,
    #[command(subcommand)]
    errand: Option<Errand>,
}

/// What this program does when it is started by itself.
#[derive(Debug, Subcommand)]
enum Errand {
    /// Becomes another program, which is killed when whoever started it ends.
    #[command(hide = true, trailing_var_arg = true)]
    Leash {
        /// The process that started this one.
        parent: u32,
        /// Program and arguments.
        #[arg(required = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Serves S3 from a folder, on a port of loopback.
    #[command(hide = true)]
    S3 {
        /// Where the objects are.
        folder: PathBuf,
        /// Where to listen.
        port: u16,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match perform(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does what was asked for; `false` when something was found.
fn perform(arguments: Arguments) -> anyhow::Result<bool> {
    if let Some(Errand::Leash { parent, command }) = &arguments.errand {
        return child::leashed(*parent, command);
    }
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let done = runtime.block_on(async {
        match arguments.errand {
            Some(Errand::S3 { folder, port }) => ground::serve_s3(&folder, port).await.map(|()| true),
            _ => {
                let seconds = arguments.minutes.map(|minutes| minutes * 60).or(arguments.seconds);
                let length = Duration::from_secs(seconds.unwrap_or(SECONDS).max(1));
                let seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u16>()));
                run::run(seed, length, arguments.keep).await
            }
        }
    });
    // What still hangs, such as a receiver that was told to, is not waited for.
    runtime.shutdown_background();
    done
}
