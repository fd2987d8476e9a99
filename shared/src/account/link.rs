//! Single-use links sent by mail: they prove that whoever follows them reads the mail of an address.
//!
//! Only the hash of a link's token is kept; the token is in the sealed mail alone. Using one uses up every other link for
//! the same purpose, so that an old mail opens nothing later.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{PgConnection, PgPool};

use super::{email::Email, token};
use crate::{
    id::{AccountId, UserId},
    mail::{self, Letter, News},
    seal::Sealer,
};

/// How long the link works that proves an address: long enough for a mail that is late, and a night's sleep.
pub const VERIFY_LIFE: TimeDelta = TimeDelta::hours(24);
/// How long the link works that sets a new password (OWASP, Forgot Password Cheat Sheet: an hour or less).
pub const RESET_LIFE: TimeDelta = TimeDelta::hours(1);

/// What writing to people takes.
#[derive(Debug, Clone, Copy)]
pub struct Post<'a> {
    /// Seals what mails say.
    pub sealer: &'a Sealer,
    /// Base URL of the API, which links begin with, without a slash at its end.
    pub public_url: &'a str,
}

impl Post<'_> {
    /// A link to one of the API's own pages.
    pub(super) fn link(&self, path: &str, token: &SecretString) -> String {
        format!("{}{path}?token={}", self.public_url, token.expose_secret())
    }

    /// Queues a letter to a person; told before under the same reference, it is not sent again.
    pub(super) async fn write(
        &self,
        conn: &mut PgConnection,
        to: &str,
        reference: &str,
        account: Option<AccountId>,
        news: &News,
        now: DateTime<Utc>,
    ) -> Result<(), sqlx::Error> {
        let letter = Letter { reference, account, recipient: to, news };
        mail::queue(conn, self.sealer, &letter, now).await?;
        Ok(())
    }
}

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To prove an address.
    VerifyEmail,
    /// To set a new password.
    ResetPassword,
}

impl Purpose {
    const fn word(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
        }
    }

    const fn life(self) -> TimeDelta {
        match self {
            Self::VerifyEmail => VERIFY_LIFE,
            Self::ResetPassword => RESET_LIFE,
        }
    }

    fn news(self, post: &Post<'_>, token: &SecretString) -> News {
        match self {
            Self::VerifyEmail => News::VerifyEmail { link: post.link("/v1/auth/verify", token) },
            Self::ResetPassword => News::ResetPassword { link: post.link("/v1/auth/password/reset", token) },
        }
    }
}

/// Makes a link for `user` and queues the mail that carries it.
pub(super) async fn send_link(
    conn: &mut PgConnection,
    post: &Post<'_>,
    purpose: Purpose,
    user: UserId,
    email: &str,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let minted = token::mint("");
    sqlx::query!(
        "insert into mail_links (token_hash, purpose, user_id, created_at, expires_at) values ($1, $2, $3, $4, $5)",
        minted.hash,
        purpose.word(),
        user.0,
        now,
        now + purpose.life(),
    )
    .execute(&mut *conn)
    .await?;
    post.write(conn, email, &token::name(&minted.hash), None, &purpose.news(post, &minted.token), now).await
}

/// Uses a link up, with all others of its person and purpose. `None`: it is unknown, used or too old.
pub(super) async fn use_link(
    conn: &mut PgConnection,
    purpose: Purpose,
    token: &SecretString,
    now: DateTime<Utc>,
) -> Result<Option<UserId>, sqlx::Error> {
    let hash = token::hash(token);
    // The person before their links, as by everything that takes both.
    sqlx::query!(
        "select u.id from mail_links l join users u on u.id = l.user_id where l.token_hash = $1
         for no key update of u",
        hash,
    )
    .fetch_optional(&mut *conn)
    .await?;
    let used = sqlx::query!(
        r#"update mail_links set used_at = $3
           where used_at is null and purpose = $2 and user_id = (
               select user_id from mail_links
               where token_hash = $1 and purpose = $2 and used_at is null and expires_at > $3)
           returning user_id as "user: UserId", token_hash = $1 as "this!""#,
        hash,
        purpose.word(),
        now,
    )
    .fetch_all(conn)
    .await?;
    // Of two that use the same link at once, the second updates at most other links.
    Ok(used.into_iter().find(|row| row.this).map(|row| row.user))
}

/// Uses up every link of a person for a purpose, so that no old mail opens anything.
pub(super) async fn void_links(
    conn: &mut PgConnection,
    purpose: Purpose,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update mail_links set used_at = $3 where user_id = $1 and purpose = $2 and used_at is null",
        user.0,
        purpose.word(),
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The address that a link which still works was sent to; it is not used up.
///
/// # Errors
/// When the database fails.
pub async fn link_owner(
    db: &PgPool,
    purpose: Purpose,
    token: &SecretString,
    now: DateTime<Utc>,
) -> Result<Option<Email>, sqlx::Error> {
    let email = sqlx::query_scalar!(
        r#"select u.email as "email!" from mail_links l join users u on u.id = l.user_id
           where l.token_hash = $1 and l.purpose = $2 and l.used_at is null and l.expires_at > $3 and u.email is not null"#,
        token::hash(token),
        purpose.word(),
        now,
    )
    .fetch_optional(db)
    .await?;
    Ok(email.and_then(|email| email.parse().ok()))
}
