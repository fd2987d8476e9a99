//! The life of an erasure: asked for by an owner, access over at once, and then finished by the clock.
//!
//! Asking is one commit: from it on nothing speaks for the account, nothing new begins, and everyone in it has been written
//! to. What is under way ends by the usual rules, so no job is charged or given up otherwise than ever. An account that owes
//! is not erased before it has paid: who owed would be nobody. Deliberately absent: the pieces of the work (`scrub.rs`).

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, PgPool};

use crate::{
    account::audit::{self, By},
    id::{AccountId, JobId, UserId},
    job::{self, Cancel},
    mail::{self, Letter, News},
    seal::Sealer,
};

/// Longest wait for the mails that tell of an erasure: as long as a mail is tried. Then the addresses go all the same.
const MAILS_WAIT: TimeDelta = TimeDelta::hours(12);

/// What an owner asks for.
#[derive(Debug)]
pub struct Demand<'a> {
    /// Which account.
    pub account: AccountId,
    /// Who asks.
    pub user: UserId,
    /// Hash of the password that they have just shown.
    pub password_hash: &'a str,
    /// The account's name as they typed it.
    pub confirm: &'a str,
}

/// Why nothing is erased.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// What they typed is not the account's name.
    #[error("not the account's name")]
    OtherName,
    /// The account owes tokens.
    #[error("the account owes {0} tokens")]
    Owes(i64),
    /// The password changed at this moment, or the account is not active any more.
    #[error("changed by another request")]
    Raced,
    /// The database failed.
    #[error("ask for an erasure")]
    Db(#[from] sqlx::Error),
}

/// Closes an account for good: its keys, sessions and invitations end, and everyone in it is written to. Cancel its open jobs
/// afterwards with [`cancel_open`].
///
/// # Errors
/// See [`EraseError`]; on any of them nothing changed.
pub async fn request_erasure(
    db: &PgPool,
    sealer: &Sealer,
    demand: &Demand<'_>,
    by: &By,
    now: DateTime<Utc>,
) -> Result<(), EraseError> {
    let account = demand.account;
    let mut tx = db.begin().await?;
    // What could be answered from the cache is forgotten, so that nothing is. Then keys, then the account's row: in the
    // order in which a job's end takes them.
    sqlx::query!("delete from result_cache where account_id = $1", account.0).execute(&mut *tx).await?;
    sqlx::query!(
        "update api_keys set revoked_at = $2 where account_id = $1 and revoked_at is null",
        account.0,
        now
    )
    .execute(&mut *tx)
    .await?;
    let known = sqlx::query!(
        "select name, owed_tokens from accounts where id = $1 and status = 'active' for no key update",
        account.0
    )
    .fetch_optional(&mut *tx)
    .await?
    .ok_or(EraseError::Raced)?;
    let shown = sqlx::query_scalar!(
        r#"select exists (select from users where id = $1 and password_hash = $2) as "shown!""#,
        demand.user.0,
        demand.password_hash,
    )
    .fetch_one(&mut *tx)
    .await?;
    match known.owed_tokens {
        _ if !shown => return Err(EraseError::Raced),
        _ if known.name != demand.confirm => return Err(EraseError::OtherName),
        0 => {}
        owed => return Err(EraseError::Owes(owed)),
    }
    close(&mut tx, account, now).await?;
    tell(&mut tx, sealer, account, &known.name, now).await?;
    audit::record(&mut *tx, &by.did("account.erasure_requested", Some(account), account, now)).await?;
    Ok(tx.commit().await?)
}

/// Ends every way in.
async fn close(conn: &mut PgConnection, account: AccountId, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "with account as (
             update accounts set status = 'erasing', erase_requested_at = $2 where id = $1
         ), sessions as (
             update sessions set revoked_at = $2, revoked_why = 'erased' where account_id = $1 and revoked_at is null
         )
         update invitations set revoked_at = $2
         where account_id = $1 and accepted_at is null and revoked_at is null",
        account.0,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Everyone in the account, for all of them lose something; while their addresses are known.
async fn tell(
    conn: &mut PgConnection,
    sealer: &Sealer,
    account: AccountId,
    name: &str,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let members = sqlx::query!(
        r#"select u.id as "user: UserId", u.email as "email!"
           from members m join users u on u.id = m.user_id
           where m.account_id = $1 and u.email is not null and u.email_verified_at is not null"#,
        account.0
    )
    .fetch_all(&mut *conn)
    .await?;
    let news = News::AccountErased { account_name: name.to_owned() };
    for member in members {
        let reference = format!("{account}:{}", member.user);
        let letter =
            Letter { reference: &reference, account: Some(account), recipient: &member.email, news: &news };
        mail::queue(&mut *conn, sealer, &letter, now).await?;
    }
    Ok(())
}

/// Cancels up to `limit` open jobs of an account that is closing, those that were not told to stop; says what came of each.
///
/// # Errors
/// When the database fails; what was canceled stays so.
pub async fn cancel_open(
    db: &PgPool,
    account: AccountId,
    limit: i64,
    now: DateTime<Utc>,
) -> Result<Vec<(JobId, Cancel)>, sqlx::Error> {
    let open = sqlx::query_scalar!(
        r#"select j.id as "job: JobId"
           from jobs j join queue q on q.job_id = j.id
           where j.account_id = $1 and j.status = 'open' and not q.cancel_requested
           order by j.id limit $2"#,
        account.0,
        limit,
    )
    .fetch_all(db)
    .await?;
    let mut canceled = Vec::with_capacity(open.len());
    for job in open {
        if let Some(came) = job::cancel(db, account, job, now).await? {
            canceled.push((job, came));
        }
    }
    Ok(canceled)
}

/// Up to `limit` accounts that are closing, those that wait longest first.
///
/// # Errors
/// When the database fails.
pub async fn erasing(db: &PgPool, limit: i64) -> Result<Vec<AccountId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select id as "id: AccountId" from accounts where status = 'erasing' order by erase_requested_at limit $1"#,
        limit
    )
    .fetch_all(db)
    .await
}

/// Whether nothing of a closing account is under way any more: no job, no archive, and no mail that tells of its end.
///
/// # Errors
/// When the database fails.
pub async fn is_quiet(db: &PgPool, account: AccountId, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select not exists (select from jobs where account_id = $1 and status = 'open')
                  and not exists (select from exports where account_id = $1 and status = 'pending')
                  and (erase_requested_at <= $2
                       or not exists (select from mails where account_id = $1 and recipient is not null
                                      and kind = 'account_erased' and status = 'pending')) as "quiet!"
           from accounts where id = $1"#,
        account.0,
        now - MAILS_WAIT,
    )
    .fetch_one(db)
    .await
}
