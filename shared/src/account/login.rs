//! Proving who one is by a password: logging in, changing the password, setting one that was forgotten.
//!
//! An unknown address and a wrong password cost the same time and get the same answer. Whatever follows a check is guarded
//! by the very hash that was checked, so a password that changes in between lets nobody in. Deliberately absent: counting
//! tries, which the front door does before it comes here.

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use sqlx::PgPool;

use super::{
    access::Caller,
    audit::{self, By},
    email::Email,
    link::{Post, Purpose, send_link, use_link, void_links},
    logout::{Ending, Which, end},
    origin::Origin,
    password::{Checked, HashError, Passwords},
    session::{self, Opened},
    token,
    verify::{mark_verified, record_of_person},
};
use crate::{
    billing::{MoveError, Tokens},
    id::{AccountId, SessionId, UserId},
    mail::News,
};

/// Why someone is not let in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Address or password; nobody is told which.
    #[error("wrong e-mail address or password")]
    Wrong,
    /// The right password, of an address that was never proved.
    #[error("the e-mail address is not verified")]
    NotVerified,
    /// The right password, but they belong to no account that is active, or not to the one they named.
    #[error("not a member of the account")]
    NoAccount,
    /// The password could not be checked.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] sqlx::Error),
}

/// Lets a person in: opens a session for the account they name, or else for the one they joined first.
///
/// # Errors
/// [`LoginError`].
pub async fn log_in(
    db: &PgPool,
    passwords: &Passwords,
    email: &Email,
    password: &SecretString,
    account: Option<AccountId>,
    now: DateTime<Utc>,
) -> Result<Opened, LoginError> {
    let known = sqlx::query!(
        r#"select id as "id: UserId", password_hash, email_verified_at is not null as "verified!"
           from users where email = $1 and erased_at is null"#,
        email.as_str()
    )
    .fetch_optional(db)
    .await?;
    let kept = known.as_ref().and_then(|user| user.password_hash.clone());
    let checked = passwords.check(password, kept.as_deref()).await?;
    let (Some(user), Some(kept)) = (known, kept) else { return Err(LoginError::Wrong) };
    let kept = match checked {
        Checked::Wrong => return Err(LoginError::Wrong),
        Checked::Right => kept,
        Checked::Outdated => rehash(db, passwords, user.id, password, kept).await?,
    };
    if !user.verified {
        return Err(LoginError::NotVerified);
    }
    let account = sqlx::query_scalar!(
        r#"select m.account_id as "account: AccountId" from members m
           join accounts a on a.id = m.account_id and a.status = 'active'
           where m.user_id = $1 and ($2::uuid is null or m.account_id = $2)
           order by m.created_at, m.account_id limit 1"#,
        user.id.0,
        account.map(|account| account.0),
    )
    .fetch_optional(db)
    .await?
    .ok_or(LoginError::NoAccount)?;
    session::open(db, user.id, account, &kept, now).await?.ok_or(LoginError::Wrong)
}

/// Keeps the same password by the parameters of today; the hash that is kept from now on.
async fn rehash(
    db: &PgPool,
    passwords: &Passwords,
    user: UserId,
    password: &SecretString,
    old: String,
) -> Result<String, LoginError> {
    let new = passwords.hash(password).await?;
    let kept = sqlx::query!(
        "update users set password_hash = $2 where id = $1 and password_hash = $3",
        user.0,
        new,
        old,
    )
    .execute(db)
    .await?;
    // Changed meanwhile: the old hash lets nobody in either.
    Ok(if kept.rows_affected() == 1 { new } else { old })
}

/// A person as far as their own password is concerned. Not to be shown in logs, so there is no `Debug`.
pub struct Owner {
    /// Their address.
    pub email: Email,
    /// What is kept of their password.
    pub password_hash: String,
}

/// The person behind a login; none when they were erased meanwhile.
///
/// # Errors
/// When the database fails.
pub async fn password_owner(db: &PgPool, user: UserId) -> Result<Option<Owner>, sqlx::Error> {
    let row = sqlx::query!("select email, password_hash from users where id = $1", user.0)
        .fetch_optional(db)
        .await?;
    Ok(row.and_then(|row| Some(Owner { email: row.email?.parse().ok()?, password_hash: row.password_hash? })))
}

/// A password to be put in place of the one that was just checked.
pub struct PasswordChange<'a> {
    /// Whose.
    pub user: UserId,
    /// The session that asks, which goes on.
    pub session: SessionId,
    /// The person as found when the password was checked.
    pub owner: &'a Owner,
    /// Hash of the new password.
    pub hash: &'a str,
}

/// Changes a password, and ends every other session and every mailed link to set one of its person. `false`: it was changed by another request meanwhile.
///
/// # Errors
/// When the database fails.
pub async fn change_password(
    db: &PgPool,
    post: &Post<'_>,
    change: &PasswordChange<'_>,
    caller: &Caller,
    by: &By,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let mut tx = db.begin().await?;
    let changed = sqlx::query!(
        "update users set password_hash = $2 where id = $1 and password_hash = $3",
        change.user.0,
        change.hash,
        change.owner.password_hash,
    )
    .execute(&mut *tx)
    .await?;
    if changed.rows_affected() == 0 {
        return Ok(false);
    }
    end(&mut tx, change.user, Which::AllBut(change.session), Ending::Password, now).await?;
    void_links(&mut tx, Purpose::ResetPassword, change.user, now).await?;
    let reference = format!("{}:{}", change.session, now.timestamp_micros());
    post.write(&mut tx, change.owner.email.as_str(), &reference, None, &News::PasswordChanged, now).await?;
    audit::record(&mut *tx, &by.did("user.password_changed", Some(caller.account), change.user, now)).await?;
    tx.commit().await?;
    Ok(true)
}

/// Sends a link to set a new password, where there is a person with that address.
///
/// # Errors
/// When the database fails.
pub async fn forgot_password(
    db: &PgPool,
    post: &Post<'_>,
    email: &Email,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let mut tx = db.begin().await?;
    let user =
        sqlx::query_scalar!(r#"select id as "id: UserId" from users where email = $1"#, email.as_str())
            .fetch_optional(&mut *tx)
            .await?;
    if let Some(user) = user {
        send_link(&mut tx, post, Purpose::ResetPassword, user, email.as_str(), now).await?;
    }
    tx.commit().await
}

/// Sets a new password by a mailed link, which proves the address as well, and ends every session of its person. `None`: the
/// link is unknown, used or too old.
///
/// # Errors
/// When the database fails.
pub async fn reset_password(
    db: &PgPool,
    post: &Post<'_>,
    token: &SecretString,
    hash: &str,
    start: Tokens,
    origin: &Origin,
    now: DateTime<Utc>,
) -> Result<Option<UserId>, MoveError> {
    let mut tx = db.begin().await?;
    let Some(user) = use_link(&mut tx, Purpose::ResetPassword, token, now).await? else { return Ok(None) };
    let email = sqlx::query_scalar!(
        r#"update users set password_hash = $2 where id = $1 and email is not null returning email as "email!""#,
        user.0,
        hash
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(email) = email else { return Ok(None) };
    mark_verified(&mut tx, user, start, origin, now).await?;
    end(&mut tx, user, Which::All, Ending::Password, now).await?;
    let reference = token::name(&token::hash(token));
    post.write(&mut tx, &email, &reference, None, &News::PasswordChanged, now).await?;
    record_of_person(&mut tx, "user.password_reset", user, origin, now).await?;
    tx.commit().await?;
    Ok(Some(user))
}
