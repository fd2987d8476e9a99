//! The audit: are the balances still the fold of the book, the holds those of the open jobs, and the lots of grants parts of
//! what is available or held?
//!
//! Run by the scheduler every night, by `kiln doctor`, and by the tests after each test. It only reads.

use sqlx::PgPool;

use crate::id::AccountId;

/// An account whose balances are not what the ledger and the open jobs say. Any such account is a defect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Whose balances are off.
    pub account: AccountId,
    /// `available` on the account's row.
    pub available: i64,
    /// `available` as the ledger adds up.
    pub available_by_ledger: i64,
    /// `held` on the account's row.
    pub held: i64,
    /// `held` as the ledger adds up.
    pub held_by_ledger: i64,
    /// Sum of the holds of the account's open jobs.
    pub held_by_jobs: i64,
    /// `owed` on the account's row.
    pub owed: i64,
    /// `owed` as the ledger adds up.
    pub owed_by_ledger: i64,
    /// Part of `available` that expires, as its lots add up; never more than that.
    pub expiring: i64,
    /// Whether each of these lots has tokens, and `next_expiry` is when the first of them expires.
    pub are_lots_right: bool,
    /// Open jobs with lots that are more than they hold.
    pub jobs_with_more_lots_than_hold: i64,
}

/// Every account that has drifted; empty when the books are right. One snapshot, so running jobs do not disturb it.
///
/// # Errors
/// When the database fails.
pub async fn audit(db: &PgPool) -> Result<Vec<Drift>, sqlx::Error> {
    sqlx::query_as!(
        Drift,
        r#"
        with book as (
            select account_id,
                   sum(case when credit = 'available' then amount_tokens when debit = 'available' then -amount_tokens
                       else 0 end)::bigint as available,
                   sum(case when credit = 'held' then amount_tokens when debit = 'held' then -amount_tokens
                       else 0 end)::bigint as held,
                   sum(case when debit = 'credit' then amount_tokens when credit = 'credit' then -amount_tokens
                       else 0 end)::bigint as owed
            from ledger group by account_id
        ), open as (
            select account_id, sum(held_tokens)::bigint as held,
                   count(*) filter (where lots_total(held_lots) > held_tokens) as with_more_lots
            from jobs where status = 'open' group by account_id
        ), lots as (
            select a.id, coalesce(sum(l.tokens), 0)::bigint as tokens, min(l.expires_at) as first,
                   coalesce(bool_and(l.tokens > 0), true) as are_some
            from accounts a left join unnest(a.expiring) l on true
            group by a.id
        )
        select a.id as "account!: _", a.available_tokens as "available!", a.held_tokens as "held!",
               coalesce(book.available, 0) as "available_by_ledger!", coalesce(book.held, 0) as "held_by_ledger!",
               coalesce(open.held, 0) as "held_by_jobs!", a.owed_tokens as "owed!",
               coalesce(book.owed, 0) as "owed_by_ledger!", lots.tokens as "expiring!",
               lots.are_some and a.next_expiry is not distinct from lots.first as "are_lots_right!",
               coalesce(open.with_more_lots, 0) as "jobs_with_more_lots_than_hold!"
        from accounts a
        join lots on lots.id = a.id
        left join book on book.account_id = a.id
        left join open on open.account_id = a.id
        where a.available_tokens <> coalesce(book.available, 0)
           or a.held_tokens <> coalesce(book.held, 0)
           or a.held_tokens <> coalesce(open.held, 0)
           or a.owed_tokens <> coalesce(book.owed, 0)
           or lots.tokens > a.available_tokens
           or not lots.are_some
           or a.next_expiry is distinct from lots.first
           or open.with_more_lots > 0
        order by a.id
        "#
    )
    .fetch_all(db)
    .await
}

/// A row that refers to one that is not there. Any such row is a defect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Its table.
    pub table: String,
    /// What it refers to.
    pub refers_to: String,
}

/// Most strays that are looked for at once: the first says what is wrong.
const STRAYS_MAX: i64 = 100;

/// Rows of the hot tables whose job, account or price does not exist: their statements lock or read what they refer to, and
/// no foreign key looks it up once more.
///
/// # Errors
/// When the database fails.
pub async fn strays(db: &PgPool) -> Result<Vec<Stray>, sqlx::Error> {
    sqlx::query_as!(
        Stray,
        r#"
        select s.of as "table!", s.refers_to as "refers_to!" from (
            select 'jobs' as of, 'account ' || r.account_id as refers_to from jobs r
            where not exists (select from accounts where id = r.account_id)
            union all
            select 'jobs', format('version %s of the price of %s', r.price_version, r.model) from jobs r
            where r.price_version is not null
              and not exists (select from prices p where p.model = r.model and p.version = r.price_version)
            union all
            select 'ledger', 'account ' || r.account_id from ledger r
            where not exists (select from accounts where id = r.account_id)
            union all
            select 'attempts', 'job ' || r.job_id from attempts r where not exists (select from jobs where id = r.job_id)
            union all
            select 'files', 'job ' || r.job_id from files r where not exists (select from jobs where id = r.job_id)
            union all
            -- A test is of no job.
            select 'notices', 'job ' || r.job_id from notices r
            where r.job_id <> r.id and not exists (select from jobs where id = r.job_id)
        ) s
        limit $1
        "#,
        STRAYS_MAX,
    )
    .fetch_all(db)
    .await
}
