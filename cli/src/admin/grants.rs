//! Tokens at the command line: given, taken back, and what is left of what was given.

use anyhow::{Context, anyhow, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand, value_parser};
use serde_json::json;
use shared::{
    billing::{self, ADJUST_MAX, Adjustment, MoveError},
    id::{AccountId, EntryId},
};

use super::{
    Ctx,
    answer::{Answer, Table, first_of, minute, or_nothing},
    unknown_account,
    words::{self, LIST_MAX},
};

/// Most days in which a grant can be spent: ten years.
const DAYS_MAX: i64 = 3660;

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum Grants {
    /// Give tokens to an account.
    Give {
        #[command(flatten)]
        movement: Movement,
        /// Days in which they can be spent; without, and without --until: for ever.
        #[arg(long, conflicts_with = "until", value_parser = value_parser!(i64).range(1..=DAYS_MAX))]
        days: Option<i64>,
        /// Until when they can be spent, such as 2027-01-31T12:00:00Z.
        #[arg(long, value_name = "RFC3339", value_parser = words::moment)]
        until: Option<DateTime<Utc>>,
    },
    /// Take tokens back from an account, those that expire first first.
    Take {
        #[command(flatten)]
        movement: Movement,
    },
    /// List what an account was given, newest first, with what is left of what expires.
    List {
        /// Id of the account.
        #[arg(value_name = "ACC")]
        account: AccountId,
        /// At most so many.
        #[arg(long, default_value_t = 50, value_parser = value_parser!(i64).range(1..=LIST_MAX))]
        limit: i64,
    },
}

/// A movement of tokens.
#[derive(Debug, Args)]
pub struct Movement {
    /// Id of the account.
    #[arg(value_name = "ACC")]
    account: AccountId,
    /// How many.
    #[arg(allow_negative_numbers = true, value_parser = value_parser!(i64).range(1..=ADJUST_MAX))]
    tokens: i64,
    /// Why, for the books.
    #[arg(long, value_parser = words::reason)]
    reason: String,
    /// Your own name for this movement, such as a ticket's; the same name moves nothing twice.
    #[arg(long, value_parser = words::reference)]
    reference: Option<String>,
}

/// Does what was asked.
///
/// # Errors
/// Says what was refused and what would mend it.
pub async fn run(ctx: &Ctx, asked: Grants) -> anyhow::Result<Answer> {
    match asked {
        Grants::Give { movement, days, until } => {
            let expires_at = until.or(days.map(|days| ctx.now + TimeDelta::days(days)));
            ensure!(expires_at.is_none_or(|at| at > ctx.now), "--until is a time to come");
            let tokens = movement.tokens;
            adjust(ctx, movement, tokens, expires_at).await
        }
        Grants::Take { movement } => {
            let tokens = movement.tokens;
            adjust(ctx, movement, -tokens, None).await
        }
        Grants::List { account, limit } => list(ctx, account, limit).await,
    }
}

async fn adjust(
    ctx: &Ctx,
    movement: Movement,
    amount: i64,
    expires_at: Option<DateTime<Utc>>,
) -> anyhow::Result<Answer> {
    let Movement { account, reason, reference, .. } = movement;
    let reference = reference.unwrap_or_else(|| EntryId::new().to_string());
    let adjustment = Adjustment { account, amount, expires_at, reference: reference.clone(), reason };
    let moved = billing::adjust(&ctx.db, &adjustment, &ctx.by, ctx.now).await;
    moved.map_err(|error| refusal(error, account, &reference))?;
    let balance = billing::balance(&ctx.db, account).await?.context("read the balance")?;
    let json = json!({
        "object": "balance", "account": account, "unit": "tokens", "reference": reference,
        "available": balance.available, "held": balance.held, "expiring": balance.expiring,
        "next_expiry": balance.next_expiry,
        "credit": { "limit": balance.credit_limit, "owed": balance.owed },
    });
    let fields = Table::fields(&[
        ("account", account.to_string()),
        ("reference", reference),
        ("moved", amount.to_string()),
        ("available", balance.available.to_string()),
        ("of it expiring", balance.expiring.to_string()),
        ("held", balance.held.to_string()),
        ("owed", balance.owed.to_string()),
    ]);
    Ok(Answer::new(json, fields))
}

/// Why nothing was moved, and what would mend it.
pub fn refusal(error: MoveError, account: AccountId, reference: &str) -> anyhow::Error {
    match error {
        MoveError::UnknownAccount => unknown_account(account),
        MoveError::Insufficient => anyhow!(
            "{account} has fewer tokens available than that; `kiln admin accounts show {account}` says how many"
        ),
        MoveError::AlreadyMoved => anyhow!(
            "the reference {reference:?} was used before and nothing was moved again; what is new needs another"
        ),
        error @ MoveError::Db(_) => error.into(),
    }
}

async fn list(ctx: &Ctx, account: AccountId, limit: i64) -> anyhow::Result<Answer> {
    ctx.account(account).await?;
    let (grants, more) = first_of(billing::grants(&ctx.db, account, None, limit + 1).await?, limit);
    let mut table = Table::headed(&["id", "source", "tokens", "left", "expires", "given", "reason"]);
    for grant in &grants {
        table.row(&[
            grant.id.to_string(),
            grant.source.clone(),
            grant.tokens.to_string(),
            or_nothing(grant.remaining),
            or_nothing(grant.expires_at.map(minute)),
            minute(grant.created_at),
            or_nothing(grant.reason.as_deref()),
        ]);
    }
    let json = grants.iter().map(|grant| {
        json!({
            "id": grant.id, "object": "grant", "unit": "tokens", "source": grant.source, "tokens": grant.tokens,
            "remaining": grant.remaining, "expires_at": grant.expires_at, "reason": grant.reason,
            "created_at": grant.created_at,
        })
    });
    Ok(Answer::page(json.collect(), &table, more.then_some("a higher --limit")))
}
