//! A person: what they are called, and which accounts they belong to.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgPool;

use super::{
    access::Caller,
    audit::{self, By},
};
use crate::id::{AccountId, UserId};

/// A person as they see themselves. Not to be shown in logs, so there is no `Debug`.
pub struct User {
    /// Their id.
    pub id: UserId,
    /// Their address.
    pub email: Option<String>,
    /// What they are called.
    pub name: Option<String>,
    /// What they are among the platform's own people, if they are.
    pub operator_role: Option<String>,
    /// When they came to us.
    pub created_at: DateTime<Utc>,
}

/// An account that a person belongs to.
#[derive(Debug)]
pub struct Membership {
    /// The account.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// The person's role in it.
    pub role: String,
    /// Whether it is active: one that is not cannot be logged in to.
    pub status: String,
}

/// A person.
///
/// # Errors
/// When the database fails.
pub async fn user(db: &PgPool, user: UserId) -> Result<Option<User>, sqlx::Error> {
    sqlx::query_as!(
        User,
        r#"select id as "id: _", email, name, operator_role, created_at from users where id = $1"#,
        user.0
    )
    .fetch_optional(db)
    .await
}

/// The accounts a person belongs to, in the order they joined.
///
/// # Errors
/// When the database fails.
pub async fn memberships(db: &PgPool, user: UserId) -> Result<Vec<Membership>, sqlx::Error> {
    sqlx::query_as!(
        Membership,
        r#"select a.id as "account: _", a.name, m.role, a.status
           from members m join accounts a on a.id = m.account_id
           where m.user_id = $1
           order by m.created_at, a.id"#,
        user.0
    )
    .fetch_all(db)
    .await
}

/// Calls a person by another name.
///
/// # Errors
/// When the database fails.
pub async fn rename_user(
    db: &PgPool,
    caller: &Caller,
    user: UserId,
    name: &str,
    by: &By,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let mut tx = db.begin().await?;
    let old = sqlx::query_scalar!("select name from users where id = $1 for no key update", user.0)
        .fetch_one(&mut *tx)
        .await?;
    if old.as_deref() != Some(name) {
        sqlx::query!("update users set name = $2 where id = $1", user.0, name).execute(&mut *tx).await?;
        let (before, after) = (json!({ "name": old }), json!({ "name": name }));
        let entry = by.did("user.renamed", Some(caller.account), user, now);
        audit::record(&mut *tx, &entry.changed(Some(before), Some(after))).await?;
    }
    tx.commit().await
}
