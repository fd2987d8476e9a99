//! Mails: the duty to write to someone, made in the commit that gave the reason.
//!
//! The same news of the same cause is told once. A mail is sent at least once, always under its own id, and leased to a
//! deliverer like a notice. What it says is sealed while it waits, for a link in it opens an account, and gone once it has
//! been sent or given up. Deliberately absent: how it is sent, and a hint: a deliverer looks every second by itself.

mod news;
mod owners;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgExecutor, PgPool};
use std::{fmt, time::Duration};

use crate::{
    id::{AccountId, LeaseToken, MailId},
    seal::{CannotOpen, Sealer},
};

pub use crate::notice::Sent;
pub use news::News;
pub(crate) use owners::tell_owners;

/// A mail to be written down.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    /// Natural key of the cause among mails of this kind, such as the id of a link. A second letter with the same is not
    /// sent, so where several people are told of one cause, it holds the person's id too. Never an address.
    pub reference: &'a str,
    /// The account it is about, where there is one.
    pub account: Option<AccountId>,
    /// Address of who is told.
    pub recipient: &'a str,
    /// What they are told.
    pub news: &'a News,
}

/// What a mail says: the form in which it is sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// The link in the text, where there is one.
    pub link: Option<String>,
}

/// Shows the subject only: the rest is nobody's business.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// A mail under lease, ready to be sent.
#[derive(Debug, Clone)]
pub struct Due {
    /// Its id, the same at every try.
    pub id: MailId,
    /// The fence of this try.
    pub token: LeaseToken,
    /// `verify_email` and its like.
    pub kind: String,
    /// Where to; none when it was erased meanwhile.
    pub recipient: Option<String>,
    /// What it says, sealed.
    pub sealed: Option<Vec<u8>>,
    /// Tries made before this one.
    pub tries: i16,
}

/// Why a mail that is due cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The seal holds; another process may have the key.
    #[error("not opened: {0}")]
    Sealed(#[from] CannotOpen),
    /// There is nothing in it, or nothing that this version knows.
    #[error("its content is gone or not of this version")]
    Gone,
}

impl Due {
    /// What it says.
    ///
    /// # Errors
    /// When the seal does not open, or what is under it is no mail.
    pub fn open(&self, sealer: &Sealer) -> Result<Content, Unreadable> {
        let sealed = self.sealed.as_deref().ok_or(Unreadable::Gone)?;
        let plain = sealer.open(&context(self.id), sealed)?;
        serde_json::from_slice(&plain).map_err(|_| Unreadable::Gone)
    }
}

/// Writes a mail down to be sent soon, in the caller's transaction if that is what `db` is. `false`: this was told before.
///
/// # Errors
/// When the database fails.
pub async fn queue(
    db: impl PgExecutor<'_>,
    sealer: &Sealer,
    letter: &Letter<'_>,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let id = MailId::new();
    let plain = serde_json::to_vec(&letter.news.render()).expect("text is JSON");
    let queued = sqlx::query!(
        "insert into mails (id, kind, reference, account_id, recipient, sealed, run_at, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $7)
         on conflict (kind, reference) do nothing",
        id.0,
        letter.news.kind(),
        letter.reference,
        letter.account.map(|account| account.0),
        letter.recipient,
        sealer.seal(&context(id), &plain),
        now,
    )
    .execute(db)
    .await?;
    Ok(queued.rows_affected() == 1)
}

/// Leases up to `limit` due mails until `now + lease`, those that wait longest first.
///
/// # Errors
/// When the database fails.
pub async fn claim(
    db: &PgPool,
    limit: i64,
    lease: Duration,
    now: DateTime<Utc>,
) -> Result<Vec<Due>, sqlx::Error> {
    sqlx::query_file_as!(Due, "src/mail/claim.sql", now, limit, now + lease, LeaseToken::new().0)
        .fetch_all(db)
        .await
}

/// Writes down what came of a try; what a mail said is gone when it was the last. `false`: the lease was lost, someone else
/// is at it.
///
/// # Errors
/// When the database fails; the mail is then sent again under the same id.
pub async fn record(db: &PgPool, due: &Due, sent: &Sent, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let (status, run_at, error) = sent.columns("sent");
    let recorded = sqlx::query!(
        "update mails
         set status = $3, tries = tries + 1, run_at = coalesce($4, run_at), last_error = $5, lease_token = null,
             lease_until = null, sealed = case when $3 = 'pending' then sealed end,
             settled_at = case when $3 = 'pending' then null else $6::timestamptz end
         where id = $1 and lease_token = $2 and status = 'pending'",
        due.id.0,
        due.token.0,
        status,
        run_at,
        error,
        now,
    )
    .execute(db)
    .await?;
    Ok(recorded.rows_affected() == 1)
}

/// What a mail is sealed for: itself.
fn context(id: MailId) -> String {
    format!("mail:{id}")
}
