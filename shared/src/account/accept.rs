//! Accepting an invitation: the person is made or found, proved by the mail, and joins the account.
//!
//! Passwords are hashed and checked before the transaction, so the person is looked up twice; whatever changed in between is
//! refused by guards and tried again by the caller.

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde_json::json;
use sqlx::{PgConnection, PgPool};

use super::{
    access::Role,
    audit, consent,
    email::Email,
    member::lock,
    origin::Origin,
    password::{Checked, HashError, Passwords, WeakPassword, check_password},
    token,
    verify::mark_verified,
};
use crate::{
    billing::{MoveError, Tokens},
    id::{AccountId, InvitationId, UserId},
};

/// How an invitation is accepted. Not to be shown in logs, so there is no `Debug`.
pub struct Acceptance {
    /// The token of the mailed link.
    pub token: SecretString,
    /// What they want to be called; else what the invitation says.
    pub name: Option<String>,
    /// Their password, or the one they want.
    pub password: SecretString,
    /// The version they agreed to of how we treat personal data.
    pub consent_version: String,
    /// What their own account gets, should they have registered without proving their address.
    pub start: Tokens,
}

/// Who joined.
#[derive(Debug, Clone, Copy)]
pub struct Joined {
    /// The account.
    pub account: AccountId,
    /// The person.
    pub user: UserId,
    /// Their role.
    pub role: Role,
}

/// Why an invitation was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// Unknown, used, taken back or too old.
    #[error("no such invitation")]
    Unknown,
    /// The person has a password, and it is another.
    #[error("wrong password")]
    WrongPassword,
    /// The new password is not good enough.
    #[error(transparent)]
    Weak(#[from] WeakPassword),
    /// Something changed meanwhile; trying again helps.
    #[error("changed by another request")]
    Raced,
    /// The password could not be hashed or checked.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// A start balance could not be given.
    #[error(transparent)]
    Start(#[from] MoveError),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] sqlx::Error),
}

/// An invitation that can be accepted.
struct Open {
    id: InvitationId,
    account: AccountId,
    email: Email,
    name: Option<String>,
    role: Role,
}

/// Who accepts: someone new or someone unproved, with the hash of their password, or someone proved, whose hash was checked.
enum Joiner {
    New(String),
    Unproved { user: UserId, hash: String },
    Known { user: UserId, checked: String },
}

/// The address an open invitation was sent to, for counting tries by it.
///
/// # Errors
/// When the database fails.
pub async fn invited_email(
    db: &PgPool,
    token: &SecretString,
    now: DateTime<Utc>,
) -> Result<Option<Email>, sqlx::Error> {
    Ok(find(db, token, now).await?.map(|open| open.email))
}

/// Lets a person join.
///
/// # Errors
/// [`AcceptError`]; on any of them nobody joined and the invitation stays open.
pub async fn accept_invitation(
    db: &PgPool,
    passwords: &Passwords,
    acceptance: &Acceptance,
    origin: &Origin,
    now: DateTime<Utc>,
) -> Result<Joined, AcceptError> {
    let open = find(db, &acceptance.token, now).await?.ok_or(AcceptError::Unknown)?;
    let joiner = identify(db, passwords, &open.email, &acceptance.password).await?;
    let mut tx = db.begin().await?;
    lock(&mut tx, open.account).await?;
    let used = sqlx::query!(
        "update invitations set accepted_at = $2
         where id = $1 and accepted_at is null and revoked_at is null and expires_at > $2",
        open.id.0,
        now
    )
    .execute(&mut *tx)
    .await?;
    if used.rows_affected() == 0 {
        return Err(AcceptError::Unknown);
    }
    let name = acceptance.name.as_ref().or(open.name.as_ref());
    let user = settle(&mut tx, &joiner, &open.email, name, now).await?.ok_or(AcceptError::Raced)?;
    mark_verified(&mut tx, user, acceptance.start, origin, now).await?;
    consent::record(&mut tx, user, &acceptance.consent_version, now).await?;
    sqlx::query!(
        "insert into members (account_id, user_id, role, created_at) values ($1, $2, $3, $4) on conflict do nothing",
        open.account.0,
        user.0,
        open.role.word(),
        now
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!("update users set left_at = null where id = $1 and left_at is not null", user.0)
        .execute(&mut *tx)
        .await?;
    let entry = origin.person(user).did("member.joined", Some(open.account), user, now);
    audit::record(&mut *tx, &entry.changed(None, Some(json!({ "role": open.role })))).await?;
    tx.commit().await?;
    Ok(Joined { account: open.account, user, role: open.role })
}

async fn find(db: &PgPool, token: &SecretString, now: DateTime<Utc>) -> Result<Option<Open>, sqlx::Error> {
    let row = sqlx::query!(
        r#"select i.id as "id: InvitationId", i.account_id as "account: AccountId", i.email, i.name, i.role
           from invitations i join accounts a on a.id = i.account_id and a.status = 'active'
           where i.token_hash = $1 and i.accepted_at is null and i.revoked_at is null and i.expires_at > $2"#,
        token::hash(token),
        now
    )
    .fetch_optional(db)
    .await?;
    Ok(row.and_then(|row| {
        Some(Open {
            id: row.id,
            account: row.account,
            email: row.email?.parse().ok()?,
            name: row.name,
            role: Role::from_word(&row.role)?,
        })
    }))
}

/// Finds out who accepts, and does with their password what takes long.
async fn identify(
    db: &PgPool,
    passwords: &Passwords,
    email: &Email,
    password: &SecretString,
) -> Result<Joiner, AcceptError> {
    let known = sqlx::query!(
        r#"select id as "id: UserId", password_hash, email_verified_at is not null as "verified!"
           from users where email = $1"#,
        email.as_str()
    )
    .fetch_optional(db)
    .await?;
    let proved = known.as_ref().filter(|user| user.verified).and_then(|user| user.password_hash.clone());
    if let (Some(user), Some(kept)) = (&known, proved) {
        return match passwords.check(password, Some(&kept)).await? {
            Checked::Wrong => Err(AcceptError::WrongPassword),
            Checked::Right | Checked::Outdated => Ok(Joiner::Known { user: user.id, checked: kept }),
        };
    }
    check_password(password, email)?;
    let hash = passwords.hash(password).await?;
    // Whoever registered with this address never proved it was theirs; who reads its mail chooses the password.
    Ok(known.map_or(Joiner::New(hash.clone()), |user| Joiner::Unproved { user: user.id, hash }))
}

/// Makes the person or holds them to what was found. `None`: they are not what they were.
async fn settle(
    conn: &mut PgConnection,
    joiner: &Joiner,
    email: &Email,
    name: Option<&String>,
    now: DateTime<Utc>,
) -> Result<Option<UserId>, sqlx::Error> {
    match joiner {
        Joiner::New(hash) => {
            sqlx::query_scalar!(
                r#"insert into users (id, email, name, password_hash, created_at) values ($1, $2, $3, $4, $5)
                   on conflict (email) do nothing
                   returning id as "id: UserId""#,
                UserId::new().0,
                email.as_str(),
                name,
                hash,
                now
            )
            .fetch_optional(conn)
            .await
        }
        Joiner::Unproved { user, hash } => {
            sqlx::query_scalar!(
                r#"update users set password_hash = $2
                   where id = $1 and email_verified_at is null and email is not null
                   returning id as "id: UserId""#,
                user.0,
                hash
            )
            .fetch_optional(conn)
            .await
        }
        Joiner::Known { user, checked } => sqlx::query_scalar!(
            r#"select id as "id: UserId" from users where id = $1 and password_hash = $2 for no key update"#,
            user.0,
            checked
        )
        .fetch_optional(conn)
        .await,
    }
}
