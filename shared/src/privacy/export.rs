//! The life of an archive: ordered, begun by the clock, ready for a week or failed after three tries, and gone.
//!
//! The row says where the archive is to be before anything is stored there, and until it is gone from there, so a crash at
//! any point leaves no object that nobody knows of. Beginning again writes the same object anew.
//! Deliberately absent: what is in it (`contents.rs`).

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, PgPool};

use crate::{
    account::audit::{self, By, Who},
    db::broken_constraint,
    id::{AccountId, ExportId, UserId},
    mail::{self, Letter, News},
    rate::{self, Quota, Take},
    seal::Sealer,
};

/// How long an archive is kept: a week with its weekend.
const KEPT: TimeDelta = TimeDelta::days(7);
/// Archives that an account may order: each reads all there is of it.
const ORDERS: Quota = Quota { limit: 3, per: TimeDelta::days(1) };
/// Under which name orders are counted.
const BUCKET: &str = "exports";
/// Tries before an archive is given up; one that ended in a crash counts.
const TRIES: i16 = 3;
/// Wait after the first failure; four times as long after the second, for storage that is away is away for a while.
const RETRY: TimeDelta = TimeDelta::minutes(5);

/// An archive as its owner sees it.
#[derive(Debug, Clone)]
pub struct Export {
    /// Its id.
    pub id: ExportId,
    /// `pending`, `ready`, `failed` or `expired`.
    pub status: String,
    /// Where it is, while it is there.
    pub storage_key: Option<String>,
    /// Its length.
    pub size_bytes: Option<i64>,
    /// A word on what went wrong.
    pub error: Option<String>,
    /// When it was ordered.
    pub created_at: DateTime<Utc>,
    /// When it was ready, or given up.
    pub finished_at: Option<DateTime<Utc>>,
    /// When it is deleted.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Why no archive was ordered.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The account waits for one.
    #[error("an archive is being made")]
    Pending,
    /// It ordered as many as it may.
    #[error("more than {} archives a day", ORDERS.limit)]
    TooMany {
        /// When it may order the next.
        retry_after: TimeDelta,
    },
    /// The database failed.
    #[error("order an archive")]
    Db(#[from] sqlx::Error),
}

/// Orders an archive of everything about `account`.
///
/// # Errors
/// See [`ExportError`]; on any of them nothing was ordered.
pub async fn request_export(
    db: &PgPool,
    account: AccountId,
    requested_by: Option<UserId>,
    by: &By,
    now: DateTime<Utc>,
) -> Result<Export, ExportError> {
    let subject = account.to_string();
    if let Take::Refused { retry_after, .. } = rate::take(db, BUCKET, &subject, ORDERS, now).await? {
        return Err(ExportError::TooMany { retry_after });
    }
    let ordered = order(db, account, requested_by, by, now).await;
    match ordered {
        Err(error) if broken_constraint(&error) == Some("exports_one_pending") => {
            rate::give_back(db, BUCKET, &subject, ORDERS).await?;
            Err(ExportError::Pending)
        }
        ordered => Ok(ordered?),
    }
}

async fn order(
    db: &PgPool,
    account: AccountId,
    requested_by: Option<UserId>,
    by: &By,
    now: DateTime<Utc>,
) -> Result<Export, sqlx::Error> {
    let id = ExportId::new();
    let mut tx = db.begin().await?;
    let ordered = sqlx::query_as!(
        Export,
        r#"insert into exports (id, account_id, requested_by, created_at) values ($1, $2, $3, $4)
           returning id as "id: _", status, storage_key, size_bytes, error, created_at, finished_at, expires_at"#,
        id.0,
        account.0,
        requested_by.map(|user| user.0),
        now,
    )
    .fetch_one(&mut *tx)
    .await?;
    audit::record(&mut *tx, &by.did("account.export_requested", Some(account), id, now)).await?;
    tx.commit().await?;
    Ok(ordered)
}

/// An archive of `account`.
///
/// # Errors
/// When the database fails.
pub async fn export(db: &PgPool, account: AccountId, id: ExportId) -> Result<Option<Export>, sqlx::Error> {
    sqlx::query_as!(
        Export,
        r#"select id as "id: _", status, storage_key, size_bytes, error, created_at, finished_at, expires_at
           from exports where account_id = $1 and id = $2"#,
        account.0,
        id.0,
    )
    .fetch_optional(db)
    .await
}

/// Up to `limit` archives of `account`, newest first, older than `after` if given.
///
/// # Errors
/// When the database fails.
pub async fn exports(
    db: &PgPool,
    account: AccountId,
    after: Option<ExportId>,
    limit: i64,
) -> Result<Vec<Export>, sqlx::Error> {
    sqlx::query_as!(
        Export,
        r#"select id as "id: _", status, storage_key, size_bytes, error, created_at, finished_at, expires_at
           from exports where account_id = $1 and id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
           order by id desc limit $3"#,
        account.0,
        after.map(|id| id.0),
        limit,
    )
    .fetch_all(db)
    .await
}

/// Up to `limit` archives to be made now, those that wait longest first.
///
/// # Errors
/// When the database fails.
pub async fn due_exports(db: &PgPool, limit: i64, now: DateTime<Utc>) -> Result<Vec<ExportId>, sqlx::Error> {
    // A try without an error was cut off, and is begun again at once.
    sqlx::query_scalar!(
        r#"select id as "id: ExportId" from exports
           where status = 'pending'
             and (error is null or created_at + tries * tries * $2::bigint * interval '1 second' <= $1)
           order by created_at limit $3"#,
        now,
        RETRY.num_seconds(),
        limit,
    )
    .fetch_all(db)
    .await
}

/// An archive to be made.
#[derive(Debug, Clone)]
pub struct Begun {
    /// Its id.
    pub id: ExportId,
    /// Of which account.
    pub account: AccountId,
    /// Where to store it.
    pub storage_key: String,
}

/// Begins an archive. `None`: it is made or given up, or has now to be: no tries are left, or its account is closing.
///
/// # Errors
/// When the database fails.
pub async fn begin_export(
    db: &PgPool,
    id: ExportId,
    now: DateTime<Utc>,
) -> Result<Option<Begun>, sqlx::Error> {
    sqlx::query!(
        "update exports e
         set status = 'failed', finished_at = $2,
             error = case when a.status in ('erasing', 'erased') then 'account_closed' else 'build_failed' end
         from accounts a
         where e.id = $1 and e.status = 'pending' and a.id = e.account_id
           and (e.tries >= $3 or a.status in ('erasing', 'erased'))",
        id.0,
        now,
        TRIES,
    )
    .execute(db)
    .await?;
    sqlx::query_as!(
        Begun,
        r#"update exports set tries = tries + 1, error = null, storage_key = $2
           where id = $1 and status = 'pending'
           returning id as "id: _", account_id as "account: _", storage_key as "storage_key!""#,
        id.0,
        format!("exports/{id}.zip"),
    )
    .fetch_optional(db)
    .await
}

/// Marks an archive ready that is stored, and tells whoever ordered it: the person, or for a key the account's owners.
/// `false`: meanwhile it was given up, and what is stored is unwanted.
///
/// # Errors
/// When the database fails.
pub async fn finish_export(
    db: &PgPool,
    sealer: &Sealer,
    public_url: &str,
    export: &Begun,
    size_bytes: i64,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let mut tx = db.begin().await?;
    let expires_at = now + KEPT;
    let ready = sqlx::query!(
        "update exports set status = 'ready', size_bytes = $2, error = null, finished_at = $3, expires_at = $4
         where id = $1 and status = 'pending'",
        export.id.0,
        size_bytes,
        now,
        expires_at,
    )
    .execute(&mut *tx)
    .await?;
    if ready.rows_affected() == 0 {
        return Ok(false);
    }
    let by = By::hand(Who::Scheduler);
    audit::record(&mut *tx, &by.did("account.export_ready", Some(export.account), export.id, now)).await?;
    let link = format!("{public_url}/v1/account/exports/{}", export.id);
    tell(&mut tx, sealer, export, &link, expires_at, now).await?;
    tx.commit().await?;
    Ok(true)
}

async fn tell(
    conn: &mut PgConnection,
    sealer: &Sealer,
    export: &Begun,
    link: &str,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let readers = sqlx::query!(
        r#"select u.id as "user: UserId", u.email as "email!", a.name
           from exports e
           join accounts a on a.id = e.account_id and a.status = 'active'
           join members m on m.account_id = e.account_id
           join users u on u.id = m.user_id
           where e.id = $1 and u.email is not null and u.email_verified_at is not null
             and case when e.requested_by is null then m.role = 'owner' else u.id = e.requested_by end"#,
        export.id.0,
    )
    .fetch_all(&mut *conn)
    .await?;
    for reader in readers {
        let news = News::ExportReady { account_name: reader.name, link: link.to_owned(), expires_at };
        let reference = format!("{}:{}", export.id, reader.user);
        let account = Some(export.account);
        let letter = Letter { reference: &reference, account, recipient: &reader.email, news: &news };
        mail::queue(&mut *conn, sealer, &letter, now).await?;
    }
    Ok(())
}

/// Writes down that a try failed; `true` when it was the last and the archive is given up.
///
/// # Errors
/// When the database fails.
pub async fn fail_export(db: &PgPool, id: ExportId, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let given_up = sqlx::query_scalar!(
        r#"update exports
           set error = 'build_failed', status = case when tries >= $2 then 'failed' else status end,
               finished_at = case when tries >= $2 then $3::timestamptz end
           where id = $1 and status = 'pending'
           returning status = 'failed' as "given_up!""#,
        id.0,
        TRIES,
        now,
    )
    .fetch_optional(db)
    .await?;
    Ok(given_up.unwrap_or(false))
}

/// An archive in storage.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its id.
    pub id: ExportId,
    /// Where it is, or would be had it been finished.
    pub storage_key: String,
}

/// Up to `limit` archives after `after` whose time is up or that were given up, to be deleted.
///
/// # Errors
/// When the database fails.
pub async fn unwanted_archives(
    db: &PgPool,
    after: Option<ExportId>,
    limit: i64,
    now: DateTime<Utc>,
) -> Result<Vec<Stored>, sqlx::Error> {
    sqlx::query_as!(
        Stored,
        r#"select id as "id: _", storage_key as "storage_key!" from exports
           where status <> 'pending' and storage_key is not null and (status = 'failed' or expires_at <= $1)
             and id > coalesce($2::uuid, '00000000-0000-0000-0000-000000000000')
           order by id limit $3"#,
        now,
        after.map(|id| id.0),
        limit,
    )
    .fetch_all(db)
    .await
}

/// Every archive of `account` that is or may be in storage; none is being made.
///
/// # Errors
/// When the database fails.
pub async fn archives_of(db: &PgPool, account: AccountId) -> Result<Vec<Stored>, sqlx::Error> {
    sqlx::query_as!(
        Stored,
        r#"select id as "id: _", storage_key as "storage_key!" from exports
           where account_id = $1 and status <> 'pending' and storage_key is not null order by id"#,
        account.0,
    )
    .fetch_all(db)
    .await
}

/// Forgets where an archive was that is gone from there.
///
/// # Errors
/// When the database fails.
pub async fn forget_archive(db: &PgPool, id: ExportId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update exports set storage_key = null, status = case when status = 'ready' then 'expired' else status end
         where id = $1 and status <> 'pending'",
        id.0
    )
    .execute(db)
    .await?;
    Ok(())
}
