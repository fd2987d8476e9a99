//! `kiln`: one program for people who run Kiln.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand};
use secrecy::ExposeSecret;
use shared::{
    account::{self, KeyRole},
    billing,
    clock::{Clock, SystemClock},
    config, db,
    id::EntryId,
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
    /// Bring the database's schema up to this version.
    Migrate,
    /// Check database, storage, providers and clock, and say how to mend what is wrong.
    Doctor,
    /// Open an account and print an API key for it.
    OpenAccount {
        /// Name for people.
        name: String,
        /// Tokens to begin with.
        #[arg(long, default_value_t = 0)]
        tokens: i64,
        /// Give the key an operator's rights: it may move tokens of any account.
        #[arg(long)]
        operator: bool,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Dev { port, data } => cli::dev::run(port, &data).await?,
        Command::Migrate => {
            let db = db::connect(&config::Database::from_env()?, "migrate").await?;
            db::migrate(&db).await?;
            println!("the database is up to date");
        }
        Command::Doctor => {
            let well = cli::doctor::run().await?;
            return Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::OpenAccount { name, tokens, operator } => open_account(&name, tokens, operator).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn open_account(name: &str, tokens: i64, operator: bool) -> anyhow::Result<()> {
    let db = db::connect(&config::Database::from_env()?, "open-account").await?;
    let now = SystemClock.now();
    let account = account::open_account(&db, name, now).await?;
    if tokens != 0 {
        let reference = EntryId::new().to_string();
        billing::move_tokens(&db, account, tokens, &reference, "opening balance", now)
            .await
            .context("give the opening balance")?;
    }
    let role = if operator { KeyRole::Operator } else { KeyRole::Member };
    let key = account::issue_key(&db, account, role, "made by kiln open-account", now).await?;
    println!("account: {account}\napi key: {}", key.secret.expose_secret());
    match config::Identity::from_env() {
        Ok(identity) => {
            let secret = account::webhook_secret(&identity.secret, account);
            println!("webhook secret: {}", secret.expose_secret());
        }
        Err(error) => println!("webhook secret: not shown, {error:#}"),
    }
    Ok(())
}
