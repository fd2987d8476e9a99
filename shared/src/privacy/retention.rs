//! What is forgotten when it is old, without anybody asking: traces of logins, of mails and webhooks, of people who never proved an
//! address or belong to no account any more, and dialogs that nobody goes on with.
//!
//! Each verb does a batch and says how much it did, so that no lock is held for long and a run that is cut off goes on the next
//! night. What later rows need to know stays: that news was told, that an invitation was made, what an entry of the audit log
//! says. Deliberately absent: files, results, archives and limits, whose times are theirs and much shorter.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::scrub::{DIALOGS, forget_people};
use crate::{
    account::{
        REFRESH_LIFE,
        audit::{self, By, Who},
    },
    id::{AccountId, NoticeId, UserId},
};

/// Rows forgotten in one statement.
const ROWS: i64 = 1000;
/// People forgotten in one commit, which looks for each of them in several places.
const PEOPLE: i64 = 50;

/// Ended sessions: as long as someone may ask who was logged in, after something happened.
const SESSIONS_KEPT: TimeDelta = TimeDelta::days(90);
/// Mailed links past their time: as long as someone may ask why theirs does not work.
const LINKS_KEPT: TimeDelta = TimeDelta::days(7);
/// Whom an invitation named that came to nothing.
const INVITATIONS_KEPT: TimeDelta = TimeDelta::days(90);
/// Where a mail went that was sent or given up: as long as someone may ask whether it came.
const RECIPIENTS_KEPT: TimeDelta = TimeDelta::days(30);
/// Notices that were delivered or given up: as long as their account may look them up and have them sent again.
const NOTICES_KEPT: TimeDelta = TimeDelta::days(30);
/// From where something was changed: a year, as is usual for looking into what happened.
const ADDRESSES_KEPT: TimeDelta = TimeDelta::days(365);
/// Dialogs in which nothing is said any more: whoever wants one for longer has its messages exported.
const DIALOGS_KEPT: TimeDelta = TimeDelta::days(365);
/// Dialogs of people who have left their account, which nobody sees: as long as they may be asked back.
const LEFT_DIALOGS_KEPT: TimeDelta = TimeDelta::days(30);
/// People who never proved their address.
const UNVERIFIED_KEPT: TimeDelta = TimeDelta::days(30);
/// People who belong to no account: as long as they may be asked back.
const LEAVERS_KEPT: TimeDelta = TimeDelta::days(30);

/// What is forgotten by its age alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Old {
    /// Refresh tokens that nothing can be got with any more.
    RefreshTokens,
    /// Sessions that ended, with their refresh tokens.
    Sessions,
    /// Mailed links.
    MailLinks,
    /// Address and name in invitations that came to nothing.
    Invitations,
    /// Recipients of mails.
    Recipients,
    /// Notices, of jobs and tests.
    Notices,
    /// Network addresses in the audit log.
    Addresses,
    /// Dialogs, with what was said in them.
    Dialogs,
}

impl Old {
    /// All of it.
    pub const ALL: [Self; 8] = [
        Self::RefreshTokens,
        Self::Sessions,
        Self::MailLinks,
        Self::Invitations,
        Self::Recipients,
        Self::Notices,
        Self::Addresses,
        Self::Dialogs,
    ];

    /// Most rows of it in one statement. Of a dialog all of its messages go with it.
    fn batch(self) -> i64 {
        if self == Self::Dialogs { DIALOGS } else { ROWS }
    }
}

/// How much of something was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgotten {
    /// Rows.
    pub rows: u64,
    /// Whether there may be more.
    pub more: bool,
}

/// Forgets a batch of what is old.
///
/// # Errors
/// When the database fails.
pub async fn forget_old(db: &PgPool, what: Old, now: DateTime<Utc>) -> Result<Forgotten, sqlx::Error> {
    let done = match what {
        Old::RefreshTokens => refresh_tokens(db, now).await,
        Old::Sessions => sessions(db, now).await,
        Old::MailLinks => mail_links(db, now).await,
        Old::Invitations => invitations(db, now).await,
        Old::Recipients => recipients(db, now).await,
        Old::Notices => notices(db, now).await,
        Old::Addresses => addresses(db, now).await,
        Old::Dialogs => dialogs(db, now).await,
    };
    let rows = done?.rows_affected();
    Ok(Forgotten { rows, more: i64::try_from(rows).is_ok_and(|rows| rows >= what.batch()) })
}

type Done = Result<sqlx::postgres::PgQueryResult, sqlx::Error>;

/// Those older than they live are unknown to whoever shows them, used or not, so forgetting them hides no thief.
async fn refresh_tokens(db: &PgPool, now: DateTime<Utc>) -> Done {
    sqlx::query!(
        "delete from refresh_tokens where token_hash in (
             select r.token_hash from refresh_tokens r join sessions s on s.id = r.session_id
             where r.created_at <= $1 and (r.used_at is not null or s.revoked_at is not null or s.expires_at <= $2)
             limit $3 for update of r skip locked)",
        now - REFRESH_LIFE,
        now,
        ROWS,
    )
    .execute(db)
    .await
}

async fn sessions(db: &PgPool, now: DateTime<Utc>) -> Done {
    sqlx::query!(
        "delete from sessions where id in (
             select id from sessions where least(revoked_at, expires_at) <= $1 limit $2 for update skip locked)",
        now - SESSIONS_KEPT,
        ROWS,
    )
    .execute(db)
    .await
}

async fn mail_links(db: &PgPool, now: DateTime<Utc>) -> Done {
    sqlx::query!(
        "delete from mail_links where token_hash in (
             select token_hash from mail_links where expires_at <= $1 limit $2 for update skip locked)",
        now - LINKS_KEPT,
        ROWS,
    )
    .execute(db)
    .await
}

/// One that nobody took back is taken back by this: it names nobody who could accept it.
async fn invitations(db: &PgPool, now: DateTime<Utc>) -> Done {
    sqlx::query!(
        "update invitations set email = null, name = null, revoked_at = coalesce(revoked_at, expires_at) where id in (
             select id from invitations
             where email is not null and accepted_at is null and least(revoked_at, expires_at) <= $1
             limit $2 for update skip locked)",
        now - INVITATIONS_KEPT,
        ROWS,
    )
    .execute(db)
    .await
}

/// What the other side answered may repeat the address.
async fn recipients(db: &PgPool, now: DateTime<Utc>) -> Done {
    sqlx::query!(
        "update mails set recipient = null, last_error = null where id in (
             select id from mails where recipient is not null and settled_at <= $1 limit $2 for update skip locked)",
        now - RECIPIENTS_KEPT,
        ROWS,
    )
    .execute(db)
    .await
}

/// Their ids begin with the time they were made at, so no other index is needed: it is a look at the oldest.
async fn notices(db: &PgPool, now: DateTime<Utc>) -> Done {
    let before = now - NOTICES_KEPT;
    sqlx::query!(
        "delete from notices where id in (
             select id from notices where id < $1 and created_at <= $2 and status <> 'pending'
             order by id limit $3 for update skip locked)",
        NoticeId::earliest(before).0,
        before,
        ROWS,
    )
    .execute(db)
    .await
}

async fn addresses(db: &PgPool, now: DateTime<Utc>) -> Done {
    sqlx::query!(
        "update audit_log set ip = null where id in (
             select id from audit_log where ip is not null and created_at <= $1 limit $2 for update skip locked)",
        now - ADDRESSES_KEPT,
        ROWS,
    )
    .execute(db)
    .await
}

/// Their jobs stay as they are.
async fn dialogs(db: &PgPool, now: DateTime<Utc>) -> Done {
    sqlx::query!(
        "delete from dialogs where id in (
             select d.id from dialogs d
             where d.updated_at <= $1
                or d.updated_at <= $2 and d.user_id is not null
                   and not exists (select from members m where m.account_id = d.account_id and m.user_id = d.user_id)
             limit $3 for update of d skip locked)",
        now - DIALOGS_KEPT,
        now - LEFT_DIALOGS_KEPT,
        DIALOGS,
    )
    .execute(db)
    .await
}

/// Begins to erase a batch of accounts whose one person registered and never proved their address, and in which nothing ever
/// happened; gives their ids. Whoever still has a link that works is waited for.
///
/// # Errors
/// When the database fails; then none of them is touched.
pub async fn close_unverified(db: &PgPool, now: DateTime<Utc>) -> Result<Vec<AccountId>, sqlx::Error> {
    let mut tx = db.begin().await?;
    let closed = sqlx::query_scalar!(
        r#"with stale as (
               select m.account_id
               from users u
               join members m on m.user_id = u.id
               join accounts a on a.id = m.account_id and a.status in ('active', 'suspended')
               where u.email_verified_at is null and u.erased_at is null and u.created_at <= $1
                 and not exists (select from mail_links l where l.user_id = u.id and l.used_at is null and l.expires_at > $2)
                 and not exists (select from members o where o.account_id = a.id and o.user_id <> u.id)
                 and not exists (select from ledger l where l.account_id = a.id)
                 and not exists (select from jobs j where j.account_id = a.id)
               limit $3 for no key update of u skip locked
           )
           update accounts set status = 'erasing', erase_requested_at = $2
           from stale where id = stale.account_id
           returning id as "id: AccountId""#,
        now - UNVERIFIED_KEPT,
        now,
        PEOPLE,
    )
    .fetch_all(&mut *tx)
    .await?;
    let by = By::hand(Who::Scheduler);
    for account in &closed {
        let entry = by.did("account.erasure_requested", Some(*account), account, now);
        let entry = entry.changed(None, Some(json!({ "reason": "the address was never verified" })));
        audit::record(&mut *tx, &entry).await?;
    }
    tx.commit().await?;
    Ok(closed)
}

/// Forgets a batch of people who have belonged to no account for long; gives their ids.
///
/// # Errors
/// When the database fails; then none of them is touched.
pub async fn forget_leavers(db: &PgPool, now: DateTime<Utc>) -> Result<Vec<UserId>, sqlx::Error> {
    let mut tx = db.begin().await?;
    let stale = sqlx::query_scalar!(
        "select id from users
         where erased_at is null and left_at <= $1 and not exists (select from members where user_id = id)
         limit $2 for update skip locked",
        now - LEAVERS_KEPT,
        PEOPLE,
    )
    .fetch_all(&mut *tx)
    .await?;
    // Looked up once more now that they are locked: whoever joined at this moment stays.
    let people: Vec<Uuid> = sqlx::query_scalar!(
        r#"select id as "id!" from unnest($1::uuid[]) id where not exists (select from members m where m.user_id = id)"#,
        &stale,
    )
    .fetch_all(&mut *tx)
    .await?;
    forget_people(&mut tx, &people, now).await?;
    tx.commit().await?;
    Ok(people.into_iter().map(UserId).collect())
}
