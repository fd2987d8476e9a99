//! Who pays and who speaks for them: accounts and API keys.
//!
//! Deliberately absent: registration, users, roles and plans; an account here is made by an operator or by the
//! development seed.

mod key;
mod secret;

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::id::AccountId;

pub use key::{Caller, KeyRole, NewKey, authenticate, issue_key, revoke_key};
pub use secret::{webhook_key, webhook_secret};

/// Makes an account with no tokens; give it some with [`crate::billing::move_tokens`].
///
/// # Errors
/// When the database fails.
pub async fn open_account(db: &PgPool, name: &str, now: DateTime<Utc>) -> Result<AccountId, sqlx::Error> {
    let id = AccountId::new();
    sqlx::query!("insert into accounts (id, name, created_at) values ($1, $2, $3)", id.0, name, now)
        .execute(db)
        .await?;
    Ok(id)
}

/// The oldest account called `name`, for seeds that must find again what they made.
///
/// # Errors
/// When the database fails.
pub async fn find_account(db: &PgPool, name: &str) -> Result<Option<AccountId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select id as "id: AccountId" from accounts where name = $1 order by id limit 1"#,
        name
    )
    .fetch_optional(db)
    .await
}
