//! Proving an address: by a mailed link, together with the password that was chosen at registration.
//!
//! The link alone is not enough. Anyone can register with an address of somebody else, whose owner may then follow the link
//! in good faith; what they confirm must be their own registration, with a password that they know. Whoever does not know it
//! sets another by mail, which proves the address as well.

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use sqlx::{PgConnection, PgPool};

use super::{
    audit,
    email::Email,
    link::{Post, Purpose, send_link, use_link},
    origin::Origin,
    password::{Checked, HashError, Passwords},
    token,
};
use crate::{
    billing::{Gift, MoveError, Source, Tokens, give},
    id::{AccountId, UserId},
};

/// Why an address was not proved.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The link is unknown, used or too old, or somebody registered anew meanwhile.
    #[error("no such link")]
    Unknown,
    /// Not the password of the registration; the link stays good.
    #[error("wrong password")]
    WrongPassword,
    /// The password could not be checked.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// A start balance could not be given.
    #[error(transparent)]
    Start(#[from] MoveError),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] sqlx::Error),
}

/// Sends the link that proves an address once more, where there is a person who has not proved it.
///
/// # Errors
/// When the database fails.
pub async fn send_verification(
    db: &PgPool,
    post: &Post<'_>,
    email: &Email,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let mut tx = db.begin().await?;
    let user = sqlx::query_scalar!(
        r#"select id as "id: UserId" from users where email = $1 and email_verified_at is null"#,
        email.as_str()
    )
    .fetch_optional(&mut *tx)
    .await?;
    if let Some(user) = user {
        send_link(&mut tx, post, Purpose::VerifyEmail, user, email.as_str(), now).await?;
    }
    tx.commit().await
}

/// Takes the proof of an address: its person may log in from now on, and their account gets what new accounts start with.
///
/// # Errors
/// [`VerifyError`]; on any of them nothing is proved and the link is not used up.
pub async fn verify_email(
    db: &PgPool,
    passwords: &Passwords,
    link: &SecretString,
    password: &SecretString,
    start: Tokens,
    origin: &Origin,
    now: DateTime<Utc>,
) -> Result<UserId, VerifyError> {
    let kept = sqlx::query_scalar!(
        "select u.password_hash from mail_links l join users u on u.id = l.user_id where l.token_hash = $1",
        token::hash(link),
    )
    .fetch_optional(db)
    .await?
    .flatten();
    if passwords.check(password, kept.as_deref()).await? == Checked::Wrong {
        return Err(VerifyError::WrongPassword);
    }
    let mut tx = db.begin().await?;
    let user = use_link(&mut tx, Purpose::VerifyEmail, link, now).await?.ok_or(VerifyError::Unknown)?;
    // Whoever registers anew uses up the link, so only a password set by mail, which proves as much, can be another by now.
    mark_verified(&mut tx, user, start, origin, now).await?;
    tx.commit().await?;
    Ok(user)
}

/// Marks an address as proved, by whichever mail its owner has shown to read. The first time gives the account its start.
pub(super) async fn mark_verified(
    conn: &mut PgConnection,
    user: UserId,
    start: Tokens,
    origin: &Origin,
    now: DateTime<Utc>,
) -> Result<(), MoveError> {
    let first = sqlx::query!(
        "update users set email_verified_at = $2 where id = $1 and email_verified_at is null and erased_at is null",
        user.0,
        now,
    )
    .execute(&mut *conn)
    .await?;
    if first.rows_affected() == 0 {
        return Ok(());
    }
    record_of_person(conn, "user.verified", user, origin, now).await?;
    if start == Tokens::ZERO {
        return Ok(());
    }
    let accounts = sqlx::query_scalar!(
        r#"select m.account_id as "account: AccountId" from members m
           where m.user_id = $1 and m.role = 'owner'
             and not exists (select from grants g where g.account_id = m.account_id and g.source = 'start')"#,
        user.0
    )
    .fetch_all(&mut *conn)
    .await?;
    for account in accounts {
        let gift = Gift {
            account,
            tokens: start,
            expires_at: None,
            source: Source::Start,
            reference: &format!("start:{account}"),
            reason: Some("start balance"),
        };
        give(&mut *conn, &gift, now).await?;
    }
    Ok(())
}

/// Writes into the audit log of each of a person's accounts what they did to themselves.
pub(super) async fn record_of_person(
    conn: &mut PgConnection,
    action: &'static str,
    user: UserId,
    origin: &Origin,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let by = origin.person(user);
    let accounts = sqlx::query_scalar!(
        r#"select account_id as "account: AccountId" from members where user_id = $1"#,
        user.0
    )
    .fetch_all(&mut *conn)
    .await?;
    for account in accounts {
        audit::record(&mut *conn, &by.did(action, Some(account), user, now)).await?;
    }
    Ok(())
}
