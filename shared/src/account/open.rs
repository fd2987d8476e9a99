//! Opening an account by an operator's hand: account, first tokens and first key, all of it or nothing.
//!
//! Deliberately absent: people who register by themselves (`register.rs`).

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgPool;

use super::{
    audit::{self, By},
    key::{KeyRole, NewKey, issue_key},
    open_account,
};
use crate::{
    billing::{Gift, MoveError, Source, Tokens, give},
    id::AccountId,
};

/// An account to be opened.
#[derive(Debug, Clone)]
pub struct Opening<'a> {
    /// Name for people.
    pub name: &'a str,
    /// What it may do in an hour.
    pub tier: &'a str,
    /// Tokens to begin with, which stay.
    pub tokens: Tokens,
    /// What its first key may do.
    pub role: KeyRole,
    /// What that key is called.
    pub key_name: &'a str,
}

/// Why an account was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such tier.
    #[error("there is no such tier")]
    UnknownTier,
    /// The tokens could not be given.
    #[error(transparent)]
    Move(#[from] MoveError),
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        Self::Move(MoveError::Db(error))
    }
}

/// Opens an account with its first tokens and its first key.
///
/// # Errors
/// See [`OpenError`]; on any of them nothing is there.
pub async fn open(
    db: &PgPool,
    opening: &Opening<'_>,
    by: &By,
    now: DateTime<Utc>,
) -> Result<(AccountId, NewKey), OpenError> {
    let Opening { name, tier, tokens, role, key_name } = *opening;
    let mut tx = db.begin().await?;
    let known = sqlx::query_scalar!("select tier from tiers where tier = $1", tier);
    known.fetch_optional(&mut *tx).await?.ok_or(OpenError::UnknownTier)?;
    let account = open_account(&mut *tx, name, tier, now).await?;
    if tokens > Tokens::ZERO {
        let reference = format!("open:{account}");
        let (source, reason) = (Source::Operator, Some("opening balance"));
        let gift = Gift { account, tokens, expires_at: None, source, reference: &reference, reason };
        give(&mut *tx, &gift, now).await?;
    }
    let key = issue_key(&mut *tx, account, role, key_name, now).await?;
    let after = json!({
        "name": name, "tier": tier, "tokens": tokens, "key": key.id, "key_role": role.word(),
    });
    let entry = by.did("account.opened", Some(account), account, now);
    audit::record(&mut *tx, &entry.changed(None, Some(after))).await?;
    tx.commit().await?;
    Ok((account, key))
}
