//! What is in an archive: its files on one page, and the rows they are made of, read a page at a time.
//!
//! A row becomes one JSON text with the ids that the API shows. Hashes and secrets are nowhere in it, and neither is what is
//! ours alone: vendors, what they cost us, and which operator did something. Every query names the account, so that nothing
//! of another's gets in, a member's other accounts included.

use serde::Serialize;
use sqlx::PgPool;

use super::rows;
use crate::id::{AccountId, FileId, JobId};

/// A file of the archive.
#[derive(Debug)]
pub struct Part {
    /// Its name.
    pub path: &'static str,
    /// What it holds, for people.
    pub about: &'static str,
    /// How it is written.
    pub form: Form,
}

/// How a file of the archive is written.
#[derive(Debug)]
pub enum Form {
    /// One JSON object.
    Object(Section),
    /// A JSON object of lists, each with its name.
    Lists(&'static [(&'static str, Section)]),
    /// A JSON object a line.
    Lines(Section),
}

/// Rows of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// The account itself.
    Account,
    /// Who belongs to it.
    Members,
    /// Who was asked to.
    Invitations,
    /// What its members agreed to.
    Consents,
    /// Logins to it.
    Sessions,
    /// Its API keys.
    Keys,
    /// Its jobs.
    Jobs,
    /// Its jobs, with files inside their inputs named and not repeated.
    JobsInShort,
    /// Files it sent in.
    Uploads,
    /// What its members thought of results.
    Feedback,
    /// Its entries in the ledger.
    Transactions,
    /// Tokens it was given.
    Grants,
    /// Its plans.
    Subscriptions,
    /// Changes made in it.
    AuditLog,
    /// Where it is told of its jobs.
    WebhookEndpoints,
    /// Webhooks that told of its jobs.
    Notices,
    /// Mails to its members.
    Mails,
    /// What it used, a day at a time.
    Usage,
    /// Archives it ordered.
    Exports,
}

/// Every file but the results of jobs, what was sent in, and the one that explains the others.
pub const PARTS: &[Part] = &[
    Part {
        path: "account.json",
        about: "the account: what it says of itself and wishes for its jobs, its terms and its balances",
        form: Form::Object(Section::Account),
    },
    Part {
        path: "users.json",
        about: "the people in it: members, invitations, what members agreed to, and logins to this account",
        form: Form::Lists(&[
            ("members", Section::Members),
            ("invitations", Section::Invitations),
            ("consents", Section::Consents),
            ("sessions", Section::Sessions),
        ]),
    },
    Part {
        path: "api_keys.json",
        about: "API keys, without their secrets, which we do not have",
        form: Form::Lists(&[("api_keys", Section::Keys)]),
    },
    Part {
        path: "webhook_endpoints.json",
        about: "where the account is told of the ends of its jobs, without the secrets",
        form: Form::Lists(&[("webhook_endpoints", Section::WebhookEndpoints)]),
    },
    Part {
        path: "jobs.jsonl",
        about: "every job with its input, output and metadata, one a line",
        form: Form::Lines(Section::Jobs),
    },
    Part {
        path: "uploads.jsonl",
        about: "every file that was sent in and is still kept, with its name, one a line",
        form: Form::Lines(Section::Uploads),
    },
    Part {
        path: "feedback.jsonl",
        about: "what was said of results, one a line",
        form: Form::Lines(Section::Feedback),
    },
    Part {
        path: "transactions.jsonl",
        about: "every movement of tokens, one a line; a reference is the id of a job or of what else caused it",
        form: Form::Lines(Section::Transactions),
    },
    Part {
        path: "grants.json",
        about: "tokens that were given to the account",
        form: Form::Lists(&[("grants", Section::Grants)]),
    },
    Part {
        path: "subscriptions.json",
        about: "plans that the account has or had",
        form: Form::Lists(&[("subscriptions", Section::Subscriptions)]),
    },
    Part {
        path: "audit_log.jsonl",
        about: "every change made in the account: who, what, when and from where, one a line",
        form: Form::Lines(Section::AuditLog),
    },
    Part {
        path: "notices.jsonl",
        about: "webhooks of the last 30 days that told of the ends of jobs, with their last tries, one a line",
        form: Form::Lines(Section::Notices),
    },
    Part {
        path: "mails.jsonl",
        about: "mails that were sent to the members, without what they said, which we do not keep, one a line",
        form: Form::Lines(Section::Mails),
    },
    Part {
        path: "usage.jsonl",
        about: "what was used on each day that is over, by model, key and person, one a line; jobs since are in jobs.jsonl",
        form: Form::Lines(Section::Usage),
    },
    Part {
        path: "exports.json",
        about: "archives like this one that were ordered",
        form: Form::Lists(&[("exports", Section::Exports)]),
    },
];

/// Some rows in a row.
#[derive(Debug, Default)]
pub struct Page {
    /// Each as JSON.
    pub rows: Vec<String>,
    /// Where the next page begins; none after the last.
    pub next: Option<String>,
}

impl Page {
    /// A page of rows that were asked for `limit` at a time, each with its place in the order.
    pub(super) fn of<T: Serialize>(found: Vec<T>, limit: i64, place: impl Fn(&T) -> String) -> Self {
        let whole = i64::try_from(found.len()).unwrap_or(i64::MAX) >= limit;
        let next = found.last().filter(|_| whole).map(place);
        let json = |row: &T| serde_json::to_string(row).expect("rows are plain data");
        Self { rows: found.iter().map(json).collect(), next }
    }
}

impl Section {
    /// The page of `account`'s rows that begins after the place `after`; the oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn page(
        self,
        db: &PgPool,
        account: AccountId,
        after: Option<&str>,
    ) -> Result<Page, sqlx::Error> {
        match self {
            Self::Account => rows::account(db, account).await,
            Self::Members => rows::members(db, account, after).await,
            Self::Invitations => rows::invitations(db, account, after).await,
            Self::Consents => rows::consents(db, account, after).await,
            Self::Sessions => rows::sessions(db, account, after).await,
            Self::Keys => rows::keys(db, account, after).await,
            Self::Jobs => rows::jobs(db, account, after, true).await,
            Self::JobsInShort => rows::jobs(db, account, after, false).await,
            Self::Uploads => rows::uploads(db, account, after).await,
            Self::Feedback => rows::feedback(db, account, after).await,
            Self::Transactions => rows::transactions(db, account, after).await,
            Self::Grants => rows::grants(db, account, after).await,
            Self::Subscriptions => rows::subscriptions(db, account, after).await,
            Self::AuditLog => rows::audit_log(db, account, after).await,
            Self::WebhookEndpoints => rows::webhook_endpoints(db, account, after).await,
            Self::Notices => rows::notices(db, account, after).await,
            Self::Mails => rows::mails(db, account, after).await,
            Self::Usage => rows::usage(db, account, after).await,
            Self::Exports => rows::exports(db, account, after).await,
        }
    }
}

/// A result of a job, in storage.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its id.
    pub id: FileId,
    /// The job that made it.
    pub job: JobId,
    /// Its place among the job's files, from 0.
    pub position: i16,
    /// Where it is.
    pub storage_key: String,
    /// Where its preview is.
    pub preview_key: Option<String>,
    /// Its length.
    pub size_bytes: i64,
}

/// Files of up to `limit` jobs of `account` that have some, older than the job `before` if given; newest job first.
///
/// # Errors
/// When the database fails.
pub async fn kept_files(
    db: &PgPool,
    account: AccountId,
    before: Option<JobId>,
    limit: i64,
) -> Result<Vec<Kept>, sqlx::Error> {
    // By way of the jobs, which have an index on the account.
    sqlx::query_as!(
        Kept,
        r#"
        with batch as (
            select j.id from jobs j
            where j.account_id = $1 and j.id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
              and exists (select from files f where f.job_id = j.id)
            order by j.id desc
            limit $3
        )
        select f.id as "id: _", f.job_id as "job: _", f.position, f.storage_key, f.preview_key, f.size_bytes
        from batch join files f on f.job_id = batch.id
        order by f.job_id desc, f.position
        "#,
        account.0,
        before.map(|job| job.0),
        limit,
    )
    .fetch_all(db)
    .await
}

/// A file that was sent in, in storage.
#[derive(Debug, Clone)]
pub struct KeptUpload {
    /// Its id.
    pub id: FileId,
    /// Where it is.
    pub storage_key: String,
    /// Its length.
    pub size_bytes: i64,
}

/// Up to `limit` files that `account` sent in, later than `after` if given; the oldest first. Those whose time is up and that
/// are not deleted yet are among them.
///
/// # Errors
/// When the database fails.
pub async fn kept_uploads(
    db: &PgPool,
    account: AccountId,
    after: Option<FileId>,
    limit: i64,
) -> Result<Vec<KeptUpload>, sqlx::Error> {
    sqlx::query_as!(
        KeptUpload,
        r#"select id as "id: _", storage_key, size_bytes from uploads
           where account_id = $1 and id > coalesce($2::uuid, '00000000-0000-0000-0000-000000000000')
           order by id limit $3"#,
        account.0,
        after.map(|id| id.0),
        limit,
    )
    .fetch_all(db)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_files_share_a_name_and_no_two_a_section() {
        let mut paths: Vec<_> = PARTS.iter().map(|part| part.path).collect();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), PARTS.len());
        let mut sections: Vec<_> = PARTS
            .iter()
            .flat_map(|part| match &part.form {
                Form::Object(section) | Form::Lines(section) => vec![*section],
                Form::Lists(lists) => lists.iter().map(|(_, section)| *section).collect(),
            })
            .collect();
        let all = sections.len();
        sections.dedup();
        assert_eq!((sections.len(), all), (18, 18), "each section is somewhere, once");
    }

    #[test]
    fn a_page_that_is_not_full_is_the_last() {
        let next = |found: Vec<u8>| Page::of(found, 3, u8::to_string).next;
        assert_eq!(next(vec![1, 2, 3]), Some("3".into()));
        assert_eq!(next(vec![1, 2]), None);
        assert_eq!(next(vec![]), None);
    }
}
