//! Reading the book: the entries of an account, newest first.
//!
//! Entries are written by the statements that move the tokens; the database refuses to change one afterwards.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::id::{AccountId, EntryId, JobId};

/// What kind of movement an entry records; the words of the database and the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// Tokens given to the account.
    Grant,
    /// Tokens taken back by an operator.
    Debit,
    /// What was left of a grant when its time was over.
    Expire,
    /// Drawn on the credit limit for a hold.
    Borrow,
    /// Paid back of what was drawn.
    Repay,
    /// Set aside for a job at submit.
    Hold,
    /// Earned by a job that succeeded.
    Charge,
    /// Given back when a job ended for less than its hold.
    Release,
}

impl EntryKind {
    /// Every kind with its word.
    pub const ALL: [(Self, &str); 8] = [
        (Self::Grant, "grant"),
        (Self::Debit, "debit"),
        (Self::Expire, "expire"),
        (Self::Borrow, "borrow"),
        (Self::Repay, "repay"),
        (Self::Hold, "hold"),
        (Self::Charge, "charge"),
        (Self::Release, "release"),
    ];

    /// Its word in SQL and JSON.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }

    /// Whether jobs cause such movements; the entry's reference is then the job's UUID.
    pub fn is_of_job(self) -> bool {
        matches!(self, Self::Hold | Self::Charge | Self::Release | Self::Borrow | Self::Repay)
    }

    /// The kind a word stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(kind, _)| *kind)
    }
}

/// One movement of tokens.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its id, later entries later.
    pub id: EntryId,
    /// The kind's word.
    pub kind: String,
    /// What caused it: a job's UUID, or a grant's own reference.
    pub reference: String,
    /// How many tokens moved, always positive.
    pub amount: i64,
    /// Pot they left.
    pub debit: String,
    /// Pot they entered.
    pub credit: String,
    /// Why, for movements made by people.
    pub reason: Option<String>,
    /// When.
    pub created_at: DateTime<Utc>,
}

impl Entry {
    /// The job that caused it, if one did.
    pub fn job(&self) -> Option<JobId> {
        let kind = EntryKind::from_word(&self.kind)?;
        kind.is_of_job().then(|| self.reference.parse().ok().map(JobId)).flatten()
    }
}

/// What a list of entries is narrowed by.
#[derive(Debug, Clone, Default)]
pub struct EntryFilter {
    /// Only movements of this kind.
    pub kind: Option<EntryKind>,
    /// Only this job's.
    pub job: Option<JobId>,
    /// Only those made after this.
    pub created_after: Option<DateTime<Utc>>,
    /// Only those made before this.
    pub created_before: Option<DateTime<Utc>>,
    /// Only those older than this entry: the last one of the page before.
    pub after: Option<EntryId>,
}

/// Up to `limit` entries of `account`, newest first.
///
/// # Errors
/// When the database fails.
pub async fn entries(
    db: &PgPool,
    account: AccountId,
    filter: &EntryFilter,
    limit: i64,
) -> Result<Vec<Entry>, sqlx::Error> {
    if let Some(job) = filter.job {
        return entries_of_job(db, account, job, filter, limit).await;
    }
    sqlx::query_as!(
        Entry,
        r#"
        select id as "id: _", kind, reference, amount_tokens as amount, debit, credit, reason, created_at
        from ledger
        where account_id = $1 and ($2::text is null or kind = $2)
          and created_at > coalesce($3::timestamptz, '-infinity') and created_at < coalesce($4::timestamptz, 'infinity')
          and id < coalesce($5::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        order by id desc
        limit $6
        "#,
        account.0,
        filter.kind.map(EntryKind::word),
        filter.created_after,
        filter.created_before,
        filter.after.map(|id| id.0),
        limit,
    )
    .fetch_all(db)
    .await
}

/// The same of one job: a handful of entries, found by what caused them, however many others the account has.
async fn entries_of_job(
    db: &PgPool,
    account: AccountId,
    job: JobId,
    filter: &EntryFilter,
    limit: i64,
) -> Result<Vec<Entry>, sqlx::Error> {
    let kinds: Vec<_> = EntryKind::ALL
        .iter()
        .filter(|(kind, _)| kind.is_of_job() && filter.kind.is_none_or(|wanted| wanted == *kind))
        .map(|(_, word)| (*word).to_owned())
        .collect();
    sqlx::query_as!(
        Entry,
        r#"
        select id as "id: _", kind, reference, amount_tokens as amount, debit, credit, reason, created_at
        from ledger
        where kind = any ($2) and reference = $3 and account_id = $1
          and created_at > coalesce($4::timestamptz, '-infinity') and created_at < coalesce($5::timestamptz, 'infinity')
          and id < coalesce($6::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        order by id desc
        limit $7
        "#,
        account.0,
        &kinds,
        job.0.to_string(),
        filter.created_after,
        filter.created_before,
        filter.after.map(|id| id.0),
        limit,
    )
    .fetch_all(db)
    .await
}
