//! Our keys at the providers, at the command line: put in, set terms, switch off and on, take out; and how the routes fare.

use std::io;

use anyhow::{Context, anyhow, bail, ensure};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, value_parser};
use rust_decimal::Decimal;
use secrecy::SecretString;
use serde_json::{Value, json};
use shared::{
    config,
    id::ProviderKeyId,
    provider::{self, AddError, Cooldown, Key, Limits, NewKey, Terms},
    seal::Sealer,
    wake::{self, Wake},
};
use workers::providers::VENDORS;

use super::{
    Ctx,
    answer::{Answer, Table, minute, or_nothing},
    words,
};

/// What to do with keys at providers.
#[derive(Debug, Subcommand)]
pub enum ProviderKeys {
    /// List every key, and how it fares.
    List,
    /// Put a key in; it is read from standard input, and kept sealed.
    Add {
        /// The provider, such as kling.
        provider: String,
        /// What it is called; one key of the provider.
        #[arg(value_parser = words::name)]
        name: String,
        #[command(flatten)]
        terms: TermsArgs,
    },
    /// Set how a key is used; what is not said is as if it were new.
    Set {
        /// Its id, as `provider-keys list` shows it.
        key: ProviderKeyId,
        #[command(flatten)]
        terms: TermsArgs,
    },
    /// Use a key for no new work.
    Disable {
        /// Its id.
        key: ProviderKeyId,
    },
    /// Use a key again, and end its rests.
    Enable {
        /// Its id.
        key: ProviderKeyId,
    },
    /// Take a key out: switch it off first, and wait for its work to end.
    Remove {
        /// Its id.
        key: ProviderKeyId,
    },
    /// Show how every route fares that was ever used.
    Routes,
}

/// How a key is used.
#[derive(Debug, Args)]
pub struct TermsArgs {
    /// Its share of the work beside the provider's other keys.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(i32).range(1..=1000))]
    weight: i32,
    /// Most submits a minute, over all processes.
    #[arg(long, value_name = "N", value_parser = value_parser!(i32).range(1..=1_000_000))]
    per_minute: Option<i32>,
    /// Most submits under way at once, over all processes.
    #[arg(long, value_name = "N", value_parser = value_parser!(i32).range(1..=10_000))]
    concurrency: Option<i32>,
    /// Tell operators when its account has less left, in the provider's unit.
    #[arg(long, value_name = "AMOUNT")]
    credit_floor: Option<Decimal>,
}

impl From<TermsArgs> for Terms {
    fn from(said: TermsArgs) -> Self {
        Self {
            weight: said.weight,
            limits: Limits { per_minute: said.per_minute, concurrency: said.concurrency },
            credit_floor: said.credit_floor,
        }
    }
}

/// Does what was asked.
///
/// # Errors
/// Says what was refused and what would mend it.
pub async fn run(ctx: &Ctx, asked: ProviderKeys) -> anyhow::Result<Answer> {
    let key = match asked {
        ProviderKeys::List => return list(ctx).await,
        ProviderKeys::Routes => return routes(ctx).await,
        ProviderKeys::Add { provider, name, terms } => add(ctx, provider, name, terms.into()).await?,
        ProviderKeys::Set { key, terms } => {
            let found = provider::alter(&ctx.db, key, &terms.into(), &ctx.by, ctx.now).await;
            known(key, found.map_err(|error| anyhow!("{error}"))?)?
        }
        ProviderKeys::Disable { key } => {
            known(key, provider::disable(&ctx.db, key, &ctx.by, ctx.now).await?)?
        }
        ProviderKeys::Enable { key } => known(key, provider::enable(&ctx.db, key, &ctx.by, ctx.now).await?)?,
        ProviderKeys::Remove { key } => {
            known(key, provider::remove(&ctx.db, key, &ctx.by, ctx.now).await?)?;
            tell(ctx).await;
            return Ok(Answer::new(json!({ "id": key, "removed": true }), format!("{key} is taken out")));
        }
    };
    tell(ctx).await;
    let found = provider::find(&ctx.db, key).await?.context("the key was taken out meanwhile")?;
    let mut table = headed();
    add_row(&mut table, &found, &[], ctx.now);
    Ok(Answer::new(json_of(&found, &[]), table))
}

async fn add(ctx: &Ctx, provider: String, name: String, terms: Terms) -> anyhow::Result<ProviderKeyId> {
    let Some(vendor) = VENDORS.iter().find(|vendor| vendor.name == provider) else {
        let known: Vec<_> = VENDORS.iter().map(|vendor| vendor.name).collect();
        bail!("there is no provider {provider:?}; there are {}", known.join(", "));
    };
    let sealer = Sealer::new(&config::Sealing::from_env()?);
    let secret = io::read_to_string(io::stdin()).context("read the key from standard input")?;
    let secret = secret.trim();
    ensure!(!secret.is_empty(), "the key is read from standard input, and nothing came");
    let parts = vendor.key_variables.len();
    ensure!(
        secret.split(':').count() >= parts && !secret.contains(char::is_whitespace),
        "a key of {provider} is {} in one line",
        vendor.key_variables.join(":")
    );
    let new = NewKey { provider, name, secret: SecretString::from(secret), terms };
    provider::add(&ctx.db, &sealer, new, &ctx.by, ctx.now).await.map_err(|error| match error {
        AddError::Db(error) => error.into(),
        refused => anyhow!("{refused}"),
    })
}

fn known(key: ProviderKeyId, found: bool) -> anyhow::Result<ProviderKeyId> {
    ensure!(found, "there is no key {key}; `kiln admin provider-keys list` lists them");
    Ok(key)
}

/// The change counts already; without the hint the running workers find it some seconds later.
async fn tell(ctx: &Ctx) {
    if let Err(error) = wake::send_now(&ctx.db, Wake::Providers).await {
        eprintln!("it is done, but running workers were not told and find it soon: {error}");
    }
}

async fn list(ctx: &Ctx) -> anyhow::Result<Answer> {
    let rests = provider::cooldowns(&ctx.db, ctx.now).await?.rests;
    let mut table = headed();
    let mut data = Vec::new();
    for key in provider::keys(&ctx.db).await? {
        let rests: Vec<_> = rests.iter().filter(|rest| rest.key == key.id).cloned().collect();
        add_row(&mut table, &key, &rests, ctx.now);
        data.push(json_of(&key, &rests));
    }
    Ok(Answer::list(data, &table))
}

fn headed() -> Table {
    Table::headed(&[
        "id", "provider", "name", "kept", "weight", "a minute", "at once", "state", "credit", "asked",
    ])
}

fn add_row(table: &mut Table, key: &Key, rests: &[Cooldown], now: DateTime<Utc>) {
    let credit = key.credit.zip(key.credit_unit.as_deref()).map(|(amount, unit)| format!("{amount} {unit}"));
    let kept = if key.secret.is_some() { "database" } else { "environment" };
    table.row(&[
        key.id.to_string(),
        key.provider.clone(),
        key.name.clone(),
        kept.into(),
        key.weight.to_string(),
        or_nothing(key.per_minute.map(|limit| limit.to_string())),
        or_nothing(key.concurrency.map(|limit| limit.to_string())),
        state(key, rests, now),
        or_nothing(credit),
        or_nothing(key.checked_at.map(minute)),
    ]);
}

fn state(key: &Key, rests: &[Cooldown], now: DateTime<Utc>) -> String {
    if let Some(why) = key.disabled_at.and(key.disabled_why.as_deref()) {
        return format!("off: {why}");
    }
    match rests.iter().max_by_key(|rest| rest.until) {
        Some(rest) => {
            let seconds = (rest.until - now).num_seconds().max(0);
            let model = if rest.upstream_model.is_empty() { "all models" } else { &rest.upstream_model };
            format!("rests {seconds} s for {model}: {}", rest.cause.word())
        }
        None => "works".into(),
    }
}

fn json_of(key: &Key, rests: &[Cooldown]) -> Value {
    let rest = |rest: &Cooldown| json!({ "upstream_model": rest.upstream_model, "until": rest.until, "why": rest.cause.word() });
    json!({
        "id": key.id, "object": "provider_key", "provider": key.provider, "name": key.name, "fingerprint": key.fingerprint,
        "kept": if key.secret.is_some() { "database" } else { "environment" }, "weight": key.weight,
        "per_minute": key.per_minute, "concurrency": key.concurrency, "disabled_at": key.disabled_at,
        "disabled_why": key.disabled_why, "rests": rests.iter().map(rest).collect::<Vec<_>>(),
        "checked_at": key.checked_at, "check_error": key.check_error, "credit": key.credit, "credit_unit": key.credit_unit,
        "credit_floor": key.credit_floor,
    })
}

async fn routes(ctx: &Ctx) -> anyhow::Result<Answer> {
    let mut routes: Vec<_> = provider::standings(&ctx.db).await?.into_iter().collect();
    routes.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut table = Table::headed(&["provider", "model", "succeed", "take", "state"]);
    let mut data = Vec::new();
    for (route, standing) in routes {
        let state =
            standing.open_until.map_or("takes work".to_owned(), |at| format!("rests until {}", minute(at)));
        table.row(&[
            route.provider.clone(),
            route.upstream_model.clone(),
            format!("{:.0} %", standing.reliability * 100.0),
            or_nothing(standing.latency.map(|latency| format!("{:.1} s", latency.as_secs_f64()))),
            state,
        ]);
        data.push(json!({
            "object": "provider_route", "provider": route.provider, "upstream_model": route.upstream_model,
            "reliability": standing.reliability, "latency_seconds": standing.latency.map(|latency| latency.as_secs_f64()),
            "open_until": standing.open_until,
        }));
    }
    Ok(Answer::list(data, &table))
}
