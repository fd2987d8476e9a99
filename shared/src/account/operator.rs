//! The platform's own people: who they are, and who becomes or stops being one.
//!
//! A role takes effect at the next request of the person and of the keys they made, for both are looked up each time. Each
//! change is one transaction with its entry in the audit log. Deliberately absent: what a role may do (`access.rs`).

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgPool;

use super::{
    access::OperatorRole,
    audit::{By, Who, record},
    email::Email,
    user::User,
};
use crate::id::UserId;

/// Why a person's role among operators was not set.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// There is no such person, or they are erased.
    #[error("no such person")]
    UnknownUser,
    /// They have not proved that the address is theirs, so whoever registered with it may be anybody.
    #[error("the person has not verified their address")]
    Unverified,
    /// Nobody would be left who says who is an operator.
    #[error("the platform keeps a super admin")]
    LastSuperAdmin,
    /// The database failed.
    #[error("set an operator's role")]
    Db(#[from] sqlx::Error),
}

/// Everyone with a role among operators, those who came first first.
///
/// # Errors
/// When the database fails.
pub async fn operators(db: &PgPool) -> Result<Vec<User>, sqlx::Error> {
    sqlx::query_as!(
        User,
        r#"select id as "id: _", email, name, operator_role, created_at from users
           where operator_role is not null order by id"#
    )
    .fetch_all(db)
    .await
}

/// The person with an address.
///
/// # Errors
/// When the database fails.
pub async fn find_user(db: &PgPool, email: &Email) -> Result<Option<UserId>, sqlx::Error> {
    sqlx::query_scalar!(r#"select id as "id: UserId" from users where email = $1"#, email.as_str())
        .fetch_optional(db)
        .await
}

/// Makes a person an operator, an operator of another kind, or none again. The last super admin is taken away only at the
/// command line, which can make another.
///
/// # Errors
/// See [`OperatorError`]; on any of them nothing changed.
pub async fn set_operator_role(
    db: &PgPool,
    user: UserId,
    role: Option<OperatorRole>,
    by: &By,
    now: DateTime<Utc>,
) -> Result<User, OperatorError> {
    let mut tx = db.begin().await?;
    // With every super admin, so that of two who take each other away the second sees what the first did.
    let people = sqlx::query!(
        r#"select id as "id: UserId", operator_role, email_verified_at is not null as "verified!" from users
           where (id = $1 or operator_role = 'super_admin') and erased_at is null
           order by id for no key update"#,
        user.0,
    )
    .fetch_all(&mut *tx)
    .await?;
    let person = people.iter().find(|person| person.id == user).ok_or(OperatorError::UnknownUser)?;
    let is_last =
        people.len() == 1 && person.operator_role.as_deref() == Some(OperatorRole::SuperAdmin.word());
    if is_last && role != Some(OperatorRole::SuperAdmin) && by.who != Who::CommandLine {
        return Err(OperatorError::LastSuperAdmin);
    }
    if role.is_some() && !person.verified {
        return Err(OperatorError::Unverified);
    }
    let word = role.map(OperatorRole::word);
    let changed = sqlx::query_as!(
        User,
        r#"update users set operator_role = $2 where id = $1
           returning id as "id: _", email, name, operator_role, created_at"#,
        user.0,
        word,
    )
    .fetch_one(&mut *tx)
    .await?;
    if person.operator_role.as_deref() != word {
        let before = json!({ "operator_role": person.operator_role });
        let entry = by.did("user.operator_role_set", None, user, now);
        record(&mut *tx, &entry.changed(Some(before), Some(json!({ "operator_role": word })))).await?;
    }
    tx.commit().await?;
    Ok(changed)
}
