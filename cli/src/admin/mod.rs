//! `kiln admin`: what operators do, at the database itself: for the first operator, and for when the API is away.
//!
//! Each command is words, one verb of `shared` as the API uses it, and an answer; every change is written down in the audit
//! log as made at the command line. Secrets are shown only where they are made. Deliberately absent: SQL, and any way
//! around what the verbs refuse.

mod accounts;
mod answer;
mod audit;
mod grants;
mod keys;
mod operators;
mod prices;
mod provider_keys;
mod reports;
mod words;

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use shared::{
    account::{
        Terms,
        audit::{By, Who},
        terms,
    },
    clock::{Clock, SystemClock},
    config, db,
    id::AccountId,
};
use sqlx::PgPool;
use std::process::ExitCode;

use answer::Answer;

/// A command for operators.
#[derive(Debug, Args)]
pub struct Admin {
    /// Print one JSON value, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    about: About,
}

/// What it is about.
#[derive(Debug, Subcommand)]
enum About {
    /// Accounts: find, open, set terms, suspend, give plans.
    #[command(subcommand)]
    Accounts(accounts::Accounts),
    /// Tokens given and taken back.
    #[command(subcommand)]
    Grants(grants::Grants),
    /// API keys of any account.
    #[command(subcommand)]
    Keys(keys::Keys),
    /// What models cost, and how that came to be.
    #[command(subcommand)]
    Prices(prices::Prices),
    /// Our keys at the providers, and how their routes fare.
    #[command(subcommand)]
    ProviderKeys(provider_keys::ProviderKeys),
    /// The platform's own people.
    #[command(subcommand)]
    Operators(operators::Operators),
    /// Who changed what, and whether the books are right.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// What an account used.
    Usage(reports::Usage),
    /// What the platform earned and what that cost it.
    Margin(reports::Margin),
}

/// What every command stands on.
struct Ctx {
    db: PgPool,
    by: By,
    now: DateTime<Utc>,
}

impl Ctx {
    async fn from_env() -> anyhow::Result<Self> {
        let db = db::connect(&config::Database::from_env()?, "admin").await?;
        ensure!(
            db::is_migrated(&db).await.context("look at the schema")?,
            "the database's schema is older than this program: run `kiln migrate`"
        );
        Ok(Self { db, by: By::hand(Who::CommandLine), now: SystemClock.now() })
    }

    /// An account that must be there.
    async fn account(&self, id: AccountId) -> anyhow::Result<Terms> {
        terms(&self.db, id).await?.ok_or_else(|| unknown_account(id))
    }
}

/// Does what was asked and prints the answer, or what was refused and what would mend it. The code says failure as well
/// where what was found is not well.
pub async fn run(admin: Admin) -> ExitCode {
    let json = admin.json;
    match answer(admin.about).await.and_then(|answer| answer.print(json)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // A slip of the finger is no defect: one line, without a backtrace.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn answer(about: About) -> anyhow::Result<Answer> {
    let ctx = Ctx::from_env().await?;
    let answer = match about {
        About::Accounts(asked) => Box::pin(accounts::run(&ctx, asked)).await,
        About::Grants(asked) => grants::run(&ctx, asked).await,
        About::Keys(asked) => keys::run(&ctx, asked).await,
        About::Prices(asked) => prices::run(&ctx, asked).await,
        About::ProviderKeys(asked) => provider_keys::run(&ctx, asked).await,
        About::Operators(asked) => operators::run(&ctx, asked).await,
        About::Audit(asked) => audit::run(&ctx, asked).await,
        About::Usage(asked) => reports::usage(&ctx, asked).await,
        About::Margin(asked) => reports::margin(&ctx, asked).await,
    };
    ctx.db.close().await;
    answer
}

fn unknown_account(id: AccountId) -> anyhow::Error {
    anyhow::anyhow!("there is no account {id}; `kiln admin accounts list` lists them")
}
