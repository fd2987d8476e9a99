//! `kiln`: one program for people who run Kiln.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use shared::{
    catalog::Catalog,
    clock::{Clock, SystemClock},
    config, db, price,
};

#[derive(Parser)]
#[command(name = "kiln", version, about = "A durable job platform for long-running AI generation")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything in one process: private Postgres, S3, provider simulator, API, workers, scheduler.
    Dev {
        /// Port of the API; 0 takes a free one.
        #[arg(long, default_value_t = 8080)]
        port: u16,
        /// Folder for everything that lasts.
        #[arg(long, default_value = "./.kiln")]
        data: PathBuf,
    },
    /// Bring the database's schema up to this version, and publish what changed in the catalogue.
    Migrate,
    /// Check database, storage, providers and clock, and say how to mend what is wrong.
    Doctor,
    /// What operators do, at the database itself: accounts, tokens, keys, prices, people, reports.
    Admin(cli::admin::Admin),
}

#[global_allocator]
static ALLOCATOR: shared::Allocator = shared::Allocator;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Dev { port, data } => cli::dev::run(port, &data).await?,
        Command::Migrate => {
            let db = db::connect(&config::Database::from_env()?, "migrate").await?;
            db::migrate(&db).await?;
            let changed = price::publish(&db, &Catalog::load()?, SystemClock.now()).await?;
            println!("the database is up to date; {changed} entries of the catalogue were published");
        }
        Command::Doctor => {
            let well = cli::doctor::run().await?;
            return Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Admin(asked) => {
            return Ok(Box::pin(cli::admin::run(asked)).await);
        }
    }
    Ok(ExitCode::SUCCESS)
}
