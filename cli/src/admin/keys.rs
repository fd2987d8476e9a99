//! API keys of any account at the command line: list, issue, revoke.

use anyhow::{Context, anyhow};
use clap::{Subcommand, value_parser};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use shared::{
    account::{Key, KeyError, KeyRole, hand_out_key, keys_of, revoke_any_key},
    id::{AccountId, KeyId},
};

use super::{
    Ctx,
    answer::{Answer, Table, first_of, minute, or_nothing},
    words::{self, LIST_MAX},
};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// List keys of an account, newest first.
    List {
        /// Id of the account.
        #[arg(value_name = "ACC")]
        account: AccountId,
        /// Also those that were revoked.
        #[arg(long)]
        revoked: bool,
        /// At most so many.
        #[arg(long, default_value_t = 50, value_parser = value_parser!(i64).range(1..=LIST_MAX))]
        limit: i64,
    },
    /// Make a key for an account and print it, this once.
    Issue {
        /// Id of the account.
        #[arg(value_name = "ACC")]
        account: AccountId,
        /// What it is called.
        #[arg(value_parser = words::name)]
        name: String,
        /// Give it a super admin's rights over all accounts.
        #[arg(long)]
        operator: bool,
    },
    /// End a key: it is refused from the next request on.
    Revoke {
        /// Its id, as `keys list` shows it; not the secret.
        key: KeyId,
    },
}

/// Does what was asked.
///
/// # Errors
/// Says what was refused and what would mend it.
pub async fn run(ctx: &Ctx, asked: Keys) -> anyhow::Result<Answer> {
    match asked {
        Keys::List { account, revoked, limit } => list(ctx, account, revoked, limit).await,
        Keys::Issue { account, name, operator } => issue(ctx, account, &name, operator).await,
        Keys::Revoke { key } => {
            let ended = revoke_any_key(&ctx.db, None, key, &ctx.by, ctx.now).await;
            let ended = ended.map_err(|error| match error {
                KeyError::NotFound => anyhow!("there is no key {key}; `kiln admin keys list ACC` lists them"),
                error => error.into(),
            })?;
            let at = or_nothing(ended.revoked_at.map(minute));
            Ok(Answer::new(json_of(&ended), format!("{key} of {} is revoked since {at}", ended.account)))
        }
    }
}

async fn list(ctx: &Ctx, account: AccountId, revoked: bool, limit: i64) -> anyhow::Result<Answer> {
    ctx.account(account).await?;
    let found = keys_of(&ctx.db, account, revoked, limit + 1, ctx.now).await?;
    let (found, more) = first_of(found, limit);
    let mut table = Table::headed(&["id", "begins with", "operator", "made", "used", "ends", "name"]);
    for key in &found {
        let ends = match key.revoked_at {
            Some(at) => format!("revoked {}", minute(at)),
            None => or_nothing(key.terms.expires_at.map(minute)),
        };
        table.row(&[
            key.id.to_string(),
            key.prefix.clone(),
            if key.is_operators() { "yes".into() } else { "no".into() },
            minute(key.created_at),
            or_nothing(key.last_used_at.map(minute)),
            ends,
            key.terms.name.clone(),
        ]);
    }
    Ok(Answer::page(found.iter().map(json_of).collect(), &table, more.then_some("a higher --limit")))
}

async fn issue(ctx: &Ctx, account: AccountId, name: &str, operator: bool) -> anyhow::Result<Answer> {
    let role = if operator { KeyRole::Operator } else { KeyRole::Member };
    let key = hand_out_key(&ctx.db, account, role, name, &ctx.by, ctx.now).await?;
    let key = key.with_context(|| format!("there is no account {account}, or it is erased"))?;
    let secret = key.secret.expose_secret();
    let json =
        json!({ "id": key.id, "object": "api_key", "account": account, "name": name, "api_key": secret });
    Ok(Answer::new(json, format!("key: {}\napi key: {secret}", key.id)))
}

fn json_of(key: &Key) -> Value {
    let spent =
        key.spent.map(|spent| json!({ "day": spent.day, "month": spent.month, "total": spent.total }));
    json!({
        "id": key.id, "object": "api_key", "account": key.account, "name": key.terms.name, "prefix": key.prefix,
        "scopes": key.terms.scopes, "allowed_models": key.terms.allowed_models, "allowed_ips": key.terms.allowed_ips,
        "unit": "tokens", "limits": key.terms.limits, "spent": spent, "expires_at": key.terms.expires_at,
        "last_used_at": key.last_used_at, "previous_secret_until": key.previous_until, "created_by": key.created_by,
        "created_at": key.created_at, "revoked_at": key.revoked_at,
    })
}
