//! Accounts at the command line: find, open, set terms, suspend, give plans.

use anyhow::anyhow;
use clap::{Args, Subcommand, value_parser};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use shared::{
    account::{
        self, CREDIT_MAX, KeyRole, NewTerms, OpenError, Opening, Terms, TermsError, search, set_terms,
    },
    billing::{self, ADJUST_MAX, BeginError, Subscription, Tokens},
    catalog::Catalog,
    config,
    id::AccountId,
};

use super::{
    Ctx,
    answer::{Answer, Table, first_of, minute, or_nothing},
    grants,
    words::{self, LIST_MAX, PerHour},
};

/// Most plans of an account that are shown with it, the newest.
const PLANS_MAX: i64 = 100;

/// What to do with accounts.
#[derive(Debug, Subcommand)]
pub enum Accounts {
    /// List accounts, newest first.
    List {
        /// Only those whose name or a member's e-mail address holds this.
        #[arg(long)]
        query: Option<String>,
        /// Only those older than this one: the last one listed before.
        #[arg(long, value_name = "ACC")]
        after: Option<AccountId>,
        /// At most so many.
        #[arg(long, default_value_t = 50, value_parser = value_parser!(i64).range(1..=LIST_MAX))]
        limit: i64,
    },
    /// Show an account and its plans.
    Show {
        /// Id of the account.
        #[arg(value_name = "ACC")]
        account: AccountId,
    },
    /// Open an account and print its first API key.
    Open {
        /// Name for people.
        #[arg(value_parser = words::name)]
        name: String,
        /// What it may do in an hour: free, basic, premium, unlimited.
        #[arg(long, default_value = "premium")]
        tier: String,
        /// Tokens to begin with.
        #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
        #[arg(value_parser = value_parser!(i64).range(0..=ADJUST_MAX))]
        tokens: i64,
        /// Give the key a super admin's rights over all accounts.
        #[arg(long)]
        operator: bool,
    },
    /// Set terms of an account; what is not named stays.
    Set {
        /// Id of the account.
        #[arg(value_name = "ACC")]
        account: AccountId,
        #[command(flatten)]
        terms: SetTerms,
    },
    /// Refuse every key of an account and end every login, from now on.
    Suspend {
        /// Id of the account.
        #[arg(value_name = "ACC")]
        account: AccountId,
    },
    /// Bring a suspended account back.
    Activate {
        /// Id of the account.
        #[arg(value_name = "ACC")]
        account: AccountId,
    },
    /// Begin a plan for an account.
    Plan {
        /// Id of the account.
        #[arg(value_name = "ACC")]
        account: AccountId,
        /// The plan, such as month.
        plan: String,
        /// Your own name for it, such as the payment's number; the same name begins nothing twice.
        #[arg(long, value_parser = words::reference)]
        reference: String,
    },
}

/// Terms to be set.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct SetTerms {
    /// Tier without any plan: free, basic, premium, unlimited.
    #[arg(long)]
    tier: Option<String>,
    /// Requests it may make in an hour, in place of its tier's; none: its tier's again.
    #[arg(long, value_name = "N|none", allow_negative_numbers = true, value_parser = words::per_hour)]
    per_hour: Option<PerHour>,
    /// Which discount it has.
    #[arg(long, value_name = "GROUP")]
    price_group: Option<String>,
    /// How many tokens it may owe.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = value_parser!(i64).range(0..=CREDIT_MAX))]
    credit: Option<i64>,
}

/// Does what was asked.
///
/// # Errors
/// Says what was refused and what would mend it.
pub async fn run(ctx: &Ctx, asked: Accounts) -> anyhow::Result<Answer> {
    match asked {
        Accounts::List { query, after, limit } => list(ctx, query.as_deref(), after, limit).await,
        Accounts::Show { account } => show_with_plans(ctx, &ctx.account(account).await?).await,
        Accounts::Open { name, tier, tokens, operator } => open(ctx, &name, &tier, tokens, operator).await,
        Accounts::Set { account, terms } => {
            let new = NewTerms {
                status: None,
                base_tier: terms.tier,
                requests_per_hour: terms.per_hour.map(|PerHour(limit)| limit),
                price_group: terms.price_group,
                credit_limit_tokens: terms.credit,
            };
            set(ctx, account, &new).await
        }
        Accounts::Suspend { account } => set(ctx, account, &status("suspended")).await,
        Accounts::Activate { account } => set(ctx, account, &status("active")).await,
        Accounts::Plan { account, plan, reference } => begin(ctx, account, &plan, &reference).await,
    }
}

async fn list(
    ctx: &Ctx,
    query: Option<&str>,
    after: Option<AccountId>,
    limit: i64,
) -> anyhow::Result<Answer> {
    let (found, more) = first_of(search(&ctx.db, query, after, limit + 1).await?, limit);
    let mut table = Table::headed(&["id", "name", "status", "tier", "available", "held", "owed", "opened"]);
    for terms in &found {
        table.row(&[
            terms.id.to_string(),
            terms.name.clone(),
            terms.status.clone(),
            terms.tier.clone(),
            terms.available_tokens.to_string(),
            terms.held_tokens.to_string(),
            terms.owed_tokens.to_string(),
            minute(terms.created_at),
        ]);
    }
    let next = found.last().filter(|_| more).map(|last| format!("--after {}", last.id));
    Ok(Answer::page(found.iter().map(json_of).collect(), &table, next.as_deref()))
}

async fn open(ctx: &Ctx, name: &str, tier: &str, tokens: i64, operator: bool) -> anyhow::Result<Answer> {
    let opening = Opening {
        name,
        tier,
        tokens: Tokens::new(tokens).unwrap_or_default(),
        role: if operator { KeyRole::Operator } else { KeyRole::Member },
        key_name: "made with the account",
    };
    let (account, key) =
        account::open(&ctx.db, &opening, &ctx.by, ctx.now).await.map_err(|error| match error {
            OpenError::UnknownTier => unknown_tier(tier),
            OpenError::Move(error) => error.into(),
        })?;
    // The secret belongs to the API; where it is not at hand, the account is opened all the same.
    let webhook_secret =
        config::Identity::from_env().map(|identity| account::webhook_secret(&identity.secret, account));
    let shown = match &webhook_secret {
        Ok(secret) => secret.expose_secret().to_owned(),
        Err(error) => format!("not shown, {error:#}"),
    };
    let api_key = key.secret.expose_secret();
    let json = json!({
        "object": "account", "id": account, "name": name, "api_key": api_key,
        "webhook_secret": webhook_secret.ok().map(|secret| secret.expose_secret().to_owned()),
    });
    Ok(Answer::new(json, format!("account: {account}\napi key: {api_key}\nwebhook secret: {shown}")))
}

fn status(word: &str) -> NewTerms {
    NewTerms { status: Some(word.to_owned()), ..NewTerms::default() }
}

async fn set(ctx: &Ctx, account: AccountId, new: &NewTerms) -> anyhow::Result<Answer> {
    let set = set_terms(&ctx.db, None, account, new, &ctx.by, ctx.now).await;
    let terms = set.map_err(|error| match error {
        TermsError::UnknownAccount => anyhow!("there is no account {account}, or it is erased"),
        TermsError::UnknownTier => unknown_tier(new.base_tier.as_deref().unwrap_or_default()),
        TermsError::UnknownPriceGroup => unknown_price_group(new.price_group.as_deref().unwrap_or_default()),
        error @ (TermsError::Operators | TermsError::Db(_)) => error.into(),
    })?;
    show_with_plans(ctx, &terms).await
}

async fn begin(ctx: &Ctx, account: AccountId, plan: &str, reference: &str) -> anyhow::Result<Answer> {
    let begun = billing::subscribe(&ctx.db, account, plan, reference, &ctx.by, ctx.now).await;
    if let Err(error) = begun {
        return Err(match error {
            BeginError::UnknownPlan => {
                let known = billing::plans(&ctx.db).await?;
                let known: Vec<_> = known.iter().map(|plan| plan.plan.as_str()).collect();
                anyhow!("there is no plan {plan:?}; there are {}", known.join(", "))
            }
            BeginError::Move(error) => grants::refusal(error, account, reference),
        });
    }
    show_with_plans(ctx, &ctx.account(account).await?).await
}

async fn show_with_plans(ctx: &Ctx, terms: &Terms) -> anyhow::Result<Answer> {
    let plans = billing::subscriptions(&ctx.db, terms.id, None, PLANS_MAX).await?;
    Ok(show(terms, &plans))
}

fn show(terms: &Terms, plans: &[Subscription]) -> Answer {
    let mut json = json_of(terms);
    json["subscriptions"] = plans.iter().map(json_of_plan).collect();
    let fields = Table::fields(&[
        ("id", terms.id.to_string()),
        ("name", terms.name.clone()),
        ("status", terms.status.clone()),
        ("tier", terms.tier.clone()),
        ("tier without plans", terms.base_tier.clone()),
        ("requests per hour", terms.requests_per_hour.map_or("as its tier".into(), |own| own.to_string())),
        ("price group", terms.price_group.clone()),
        ("available", terms.available_tokens.to_string()),
        ("held", terms.held_tokens.to_string()),
        ("owed", terms.owed_tokens.to_string()),
        ("may owe", terms.credit_limit_tokens.to_string()),
        ("has a plan until", or_nothing(terms.subscribed_until.map(minute))),
        ("all is free until", or_nothing(terms.unlimited_until.map(minute))),
        ("opened", minute(terms.created_at)),
    ]);
    if plans.is_empty() {
        return Answer::new(json, fields);
    }
    let mut table = Table::headed(&["subscription", "plan", "status", "from", "until"]);
    for plan in plans {
        table.row(&[
            plan.id.to_string(),
            plan.plan.clone(),
            plan.status.clone(),
            minute(plan.starts_at),
            minute(plan.ends_at),
        ]);
    }
    Answer::new(json, format!("{fields}\n{table}"))
}

fn json_of(terms: &Terms) -> Value {
    let mut json = json!(terms);
    json["object"] = json!("account");
    json
}

fn json_of_plan(plan: &Subscription) -> Value {
    json!({
        "id": plan.id, "object": "subscription", "plan": plan.plan, "status": plan.status,
        "starts_at": plan.starts_at, "ends_at": plan.ends_at,
    })
}

fn unknown_tier(word: &str) -> anyhow::Error {
    known(|catalog| catalog.tiers().iter().map(|tier| tier.id.clone()).collect())
        .map_or_else(|error| error, |known| anyhow!("there is no tier {word:?}; there are {known}"))
}

fn unknown_price_group(word: &str) -> anyhow::Error {
    known(|catalog| catalog.price_groups().iter().map(|group| group.id.clone()).collect())
        .map_or_else(|error| error, |known| anyhow!("there is no price group {word:?}; there are {known}"))
}

fn known(words: fn(&Catalog) -> Vec<String>) -> anyhow::Result<String> {
    Ok(words(&Catalog::load()?).join(", "))
}
