//! The pieces of an erasure: rows are emptied of what is personal, and what nothing refers to is deleted.
//!
//! Each piece may be cut off and repeated, and finds what is left to do by looking. The long ones go in batches, so that no
//! lock is held for long; the last is one commit, which first looks whether the others have left anything. Kept are ids,
//! figures and moments, the ledger as it is, and what a person agreed to and when.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{
    account::audit::{self, By, Who},
    billing::{self, MoveError, Tokens, take_back},
    id::{AccountId, JobId, UserId},
};

/// Jobs emptied in one statement.
const JOBS: i64 = 500;
/// Entries of the audit log emptied in one statement.
const ENTRIES: i64 = 1000;
/// Dialogs deleted in one statement, each with up to ten thousand messages.
pub(super) const DIALOGS: i64 = 20;
/// The name of whatever had one.
const NAMELESS: &str = "erased";

/// Empties jobs of `account`, with what was told of them and what vendors said, a batch that is older than `before`; gives
/// where the next batch begins, or nothing after the last.
///
/// # Errors
/// When the database fails.
pub async fn scrub_jobs(
    db: &PgPool,
    account: AccountId,
    before: Option<JobId>,
    now: DateTime<Utc>,
) -> Result<Option<JobId>, sqlx::Error> {
    // A webhook's address becomes empty and not null: that there was one, and was told once, stays true of the job.
    sqlx::query_scalar!(
        r#"
        with batch as (
            select id from jobs
            where account_id = $1 and id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            order by id desc limit $3
        ), told as (
            update notices n
            set target = '', last_error = null, log = '[]', lease_token = null, lease_until = null,
                status = case when n.status = 'pending' then 'dead' else n.status end,
                settled_at = coalesce(n.settled_at, $4)
            from batch b
            where n.job_id = b.id
              and (n.target <> '' or n.last_error is not null or n.log <> '[]' or n.status = 'pending')
        ), tried as (
            update attempts a set error = null from batch b where a.job_id = b.id and a.error is not null
        ), judged as (
            update feedback f set reason = null from batch b where f.job_id = b.id and f.reason is not null
        ), emptied as (
            update jobs j
            set input = '{}', input_shown = null, output = null, error_message = null, metadata = '{}', traceparent = null,
                request_hash = null, wishes = null, dialog_said = null, webhook_url = case when j.webhook_url is not null then '' end
            from batch b
            where j.id = b.id
              and (j.input <> '{}' or j.input_shown is not null or j.output is not null or j.error_message is not null
                   or j.metadata <> '{}' or j.traceparent is not null or j.request_hash is not null or j.wishes is not null
                   or j.dialog_said is not null
                   or j.webhook_url <> '')
        )
        select b.id as "next: JobId" from batch b order by b.id limit 1
        "#,
        account.0,
        before.map(|job| job.0),
        JOBS,
        now,
    )
    .fetch_optional(db)
    .await
}

/// Deletes dialogs of `account` with all that was said in them, a batch; `false`: none is left.
///
/// # Errors
/// When the database fails.
pub async fn scrub_dialogs(db: &PgPool, account: AccountId) -> Result<bool, sqlx::Error> {
    let deleted = sqlx::query!(
        "delete from dialogs where id in (select id from dialogs where account_id = $1 limit $2)",
        account.0,
        DIALOGS,
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected() > 0)
}

/// Empties entries of `account`'s audit log, a batch; `false`: none is left.
///
/// # Errors
/// When the database fails.
pub async fn scrub_audit_log(db: &PgPool, account: AccountId) -> Result<bool, sqlx::Error> {
    let emptied = sqlx::query!(
        "update audit_log set before = null, after = null, ip = null, request_id = null
         where id in (select id from audit_log
                      where account_id = $1
                        and (before is not null or after is not null or ip is not null or request_id is not null)
                      limit $2)",
        account.0,
        ENTRIES,
    )
    .execute(db)
    .await?;
    Ok(emptied.rows_affected() > 0)
}

/// What came of the last piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erased {
    /// The account names nobody any more.
    Now,
    /// It did not before.
    Before,
    /// Something came up that the other pieces have to do first.
    NotYet,
}

/// The last piece: what is personal in the account itself, in its people and in whatever is left goes in one commit.
///
/// # Errors
/// When the database fails; then nothing changed.
pub async fn complete(db: &PgPool, account: AccountId, now: DateTime<Utc>) -> Result<Erased, MoveError> {
    let mut tx = db.begin().await?;
    // Keys before the account's row, as by every statement that takes both.
    sqlx::query!(
        "update api_keys set name = $2, allowed_ips = null, revoked_at = coalesce(revoked_at, $3) where account_id = $1",
        account.0,
        NAMELESS,
        now,
    )
    .execute(&mut *tx)
    .await?;
    let available = sqlx::query_scalar!(
        "select available_tokens from accounts where id = $1 and status = 'erasing' for no key update",
        account.0
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(available) = available else { return Ok(Erased::Before) };
    if has_more(&mut tx, account).await? {
        return Ok(Erased::NotYet);
    }
    let people = leaving(&mut tx, account).await?;
    forget_people(&mut tx, &people, now).await?;
    forget_rows(&mut tx, account, now).await?;
    if let Some(rest) = Tokens::new(available).filter(|rest| *rest > Tokens::ZERO) {
        let reference = format!("erasure:{account}");
        take_back(&mut *tx, account, rest, &reference, "account erased", now).await?;
    }
    billing::settle(&mut tx, account).await?;
    let by = By::hand(Who::Scheduler);
    audit::record(&mut *tx, &by.did("account.erased", Some(account), account, now)).await?;
    tx.commit().await?;
    Ok(Erased::Now)
}

/// Whether something is left that the other pieces do.
async fn has_more(conn: &mut PgConnection, account: AccountId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (select from jobs
                          where account_id = $1
                            and (status = 'open' or input <> '{}' or output is not null or metadata <> '{}'))
                  or exists (select from jobs j join files f on f.job_id = j.id where j.account_id = $1)
                  or exists (select from dialogs where account_id = $1)
                  or exists (select from uploads where account_id = $1)
                  or exists (select from exports
                             where account_id = $1 and (status = 'pending' or storage_key is not null)) as "more!""#,
        account.0
    )
    .fetch_one(conn)
    .await
}

/// The members who belong to no other account, with their rows locked: whoever is just joining another waits for the end of
/// this and then finds nobody, or was first and is counted.
async fn leaving(conn: &mut PgConnection, account: AccountId) -> Result<Vec<Uuid>, sqlx::Error> {
    let members = sqlx::query_scalar!(
        "select id from users where id in (select user_id from members where account_id = $1) order by id for update",
        account.0
    )
    .fetch_all(&mut *conn)
    .await?;
    sqlx::query_scalar!(
        r#"select id as "id!" from unnest($2::uuid[]) id
           where not exists (select from members m where m.user_id = id and m.account_id <> $1)"#,
        account.0,
        &members,
    )
    .fetch_all(conn)
    .await
}

/// Forgets people wherever they are: also mails and invitations of others to their addresses, what others changed about them,
/// and their dialogs in accounts that they have left, which nobody else sees.
pub(super) async fn forget_people(
    conn: &mut PgConnection,
    people: &[Uuid],
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update mails
         set recipient = null, sealed = null, lease_token = null, lease_until = null, last_error = null,
             status = case when status = 'pending' then 'dead' else status end, settled_at = coalesce(settled_at, $2)
         where recipient in (select email from users where id = any ($1))",
        people,
        now,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "update invitations
         set email = null, name = null, revoked_at = case when accepted_at is null then coalesce(revoked_at, $2) end
         where email in (select email from users where id = any ($1))",
        people,
        now,
    )
    .execute(&mut *conn)
    .await?;
    let names: Vec<_> = people.iter().map(|id| UserId(*id).to_string()).collect();
    // In other accounts' logs, what was done to them and from where they did something; what they did there stays.
    sqlx::query!(
        "update audit_log
         set before = case when target = any ($1) then null else before end,
             after = case when target = any ($1) then null else after end,
             ip = case when actor = any ($1) then null else ip end,
             request_id = case when actor = any ($1) then null else request_id end
         where target = any ($1) or actor = any ($1)",
        &names,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!("delete from mail_links where user_id = any ($1)", people).execute(&mut *conn).await?;
    sqlx::query!("delete from dialogs where user_id = any ($1)", people).execute(&mut *conn).await?;
    sqlx::query!(
        "update users
         set email = null, name = null, password_hash = null, operator_role = null, erased_at = $2
         where id = any ($1)",
        people,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets what rows of the account say, and deletes those that say nothing else.
async fn forget_rows(
    conn: &mut PgConnection,
    account: AccountId,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "with members as (
             delete from members where account_id = $1
         ), sessions as (
             delete from sessions where account_id = $1
         ), invitations as (
             delete from invitations where account_id = $1
         ), idempotency_keys as (
             delete from idempotency_keys where account_id = $1
         ), result_cache as (
             delete from result_cache where account_id = $1
         ), mails as (
             update mails
             set recipient = null, sealed = null, lease_token = null, lease_until = null, last_error = null,
                 status = case when status = 'pending' then 'dead' else status end,
                 settled_at = coalesce(settled_at, $2)
             where account_id = $1 and recipient is not null
         ), webhook_endpoints as (
             delete from webhook_endpoints where account_id = $1
         ), tests as (
             -- The notices of jobs were emptied with them.
             update notices
             set target = '', last_error = null, log = '[]', lease_token = null, lease_until = null,
                 status = case when status = 'pending' then 'dead' else status end,
                 settled_at = coalesce(settled_at, $2)
             where account_id = $1 and job_id = id
         ), grants as (
             update grants set reason = null where account_id = $1 and reason is not null
         ), subscriptions as (
             update subscriptions set status = 'ended' where account_id = $1 and status = 'active'
         ), audit_log as (
             update audit_log set before = null, after = null, ip = null, request_id = null
             where account_id = $1
               and (before is not null or after is not null or ip is not null or request_id is not null)
         )
         update accounts
         set status = 'erased', name = $3, description = null, website = null, phone = null, address = null, routing = null,
             enabled_endpoints = 0
         where id = $1",
        account.0,
        now,
        NAMELESS,
    )
    .execute(conn)
    .await?;
    Ok(())
}
