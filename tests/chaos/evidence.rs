//! What everyone knows at the end: customers, database, vendors, receivers and storage, gathered before it is judged.

#![expect(clippy::disallowed_methods, reason = "the harness looks at rows in ways the product never does")]

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use futures::{StreamExt, stream};
use reqwest::Method;
use serde_json::Value;
use shared::{
    clock::{Clock, SystemClock},
    id::{AccountId, DialogId, FileId, JobId, NoticeId},
};
use sqlx::PgPool;

use crate::{
    book::{Placed, Uploads},
    customer::Customer,
    place::{Place, S3_NAME},
    sinks::Received,
    strike::World,
    vendors::Submit,
};

/// Requests of the customers at a time.
const AT_ONCE: usize = 16;
/// Entries on one page of a list.
const PAGE: usize = 100;
/// Where objects are kept in the bucket: what jobs made, what was sent in, and archives.
const PLACES: [&str; 3] = ["outputs", "uploads", "exports"];

/// A row of `jobs`.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct JobRow {
    pub id: JobId,
    pub account_id: AccountId,
    pub status: String,
    pub provider: String,
    pub error_code: Option<String>,
    pub held_tokens: i64,
    pub charged_tokens: Option<i64>,
    pub attempts: i32,
    /// `metadata.order`.
    pub order: Option<String>,
    /// How many charges the ledger has of it, and what they come to.
    pub charges: i64,
    pub charges_tokens: i64,
}

/// A row of `attempts`.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct AttemptRow {
    pub job_id: JobId,
    pub outcome: Option<String>,
    pub error: Option<String>,
}

/// A row of `notices`.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct NoticeRow {
    pub id: NoticeId,
    pub job_id: JobId,
    /// `webhook` where the job itself asked for it, else the endpoint's id without its prefix.
    pub channel: String,
    pub event: String,
    pub status: String,
}

/// A row of `files`.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct FileRow {
    pub job_id: JobId,
    pub storage_key: String,
    pub preview_key: Option<String>,
    pub size_bytes: i64,
    /// Not one that waits for the clean-up.
    pub kept: bool,
}

/// A row of `uploads`.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct UploadRow {
    pub id: FileId,
    pub account_id: AccountId,
    pub storage_key: String,
    pub size_bytes: i64,
}

/// A row of `exports` that says where an archive is, or was to be.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ArchiveRow {
    pub storage_key: String,
    pub size_bytes: Option<i64>,
    /// Ready before the storage was looked at.
    pub is_ready: bool,
}

/// What the API shows one customer.
#[derive(Debug)]
pub struct Shown {
    pub customer: Customer,
    /// The list of its jobs.
    pub jobs: Vec<Value>,
    /// Its balance.
    pub balance: Value,
    /// What was said in each of its conversations, the last said first.
    pub dialogs: Vec<(DialogId, Vec<Value>)>,
}

/// All of it.
#[derive(Debug)]
pub struct Evidence {
    pub placed: Vec<Placed>,
    pub shown: Vec<Shown>,
    /// The answer to a look at each accepted job: status and body.
    pub looks: HashMap<JobId, (u16, Value)>,
    /// Length of each file as it was downloaded by its URL; `None` when that failed.
    pub downloads: Vec<(JobId, i64, Option<u64>)>,
    pub jobs: Vec<JobRow>,
    pub attempts: Vec<AttemptRow>,
    pub notices: Vec<NoticeRow>,
    pub files: Vec<FileRow>,
    pub uploads: Vec<UploadRow>,
    pub archives: Vec<ArchiveRow>,
    /// What accounts know of the files that they sent in.
    pub sent_in: BTreeMap<AccountId, Uploads>,
    /// Tokens of accounts that expired.
    pub expired: HashMap<AccountId, i64>,
    /// Entries of the ledger by their kind.
    pub entries: Vec<(String, i64)>,
    pub submits: Vec<Submit>,
    /// How many requests the vendors had, by kind.
    pub requests: Value,
    /// Objects of ours, with their length.
    pub objects: HashMap<String, u64>,
    pub received: Vec<Received>,
}

impl Evidence {
    /// Asks everyone. Nothing is under way any more.
    ///
    /// # Errors
    /// When someone does not answer.
    pub async fn gather(world: &World, place: &Place, customers: &[Customer]) -> anyhow::Result<Self> {
        let db = &world.ground.db;
        let placed = world.book.placed();
        let mut shown = Vec::new();
        for customer in customers {
            shown.push(look_around(customer).await?);
        }
        let looks = look_at_each(&placed, customers).await;
        let downloads = download_all(&customers[0], &looks).await;
        // An archive that is being made meanwhile has its row first and its object later, so rows are looked at last.
        let looked_at = SystemClock.now();
        let objects = objects(&place.s3_folder().join(S3_NAME))?;
        Ok(Self {
            placed,
            shown,
            looks,
            downloads,
            jobs: jobs(db).await?,
            attempts: sqlx::query_as(
                "select job_id, outcome, error from attempts order by job_id, attempt",
            )
            .fetch_all(db)
            .await?,
            notices: sqlx::query_as("select id, job_id, channel, event, status from notices order by id")
                .fetch_all(db)
                .await?,
            files: sqlx::query_as(
                "select job_id, storage_key, preview_key, size_bytes, expires_at > created_at as kept
                 from files order by job_id, position",
            )
            .fetch_all(db)
            .await?,
            uploads: sqlx::query_as(
                "select id, account_id, storage_key, size_bytes from uploads order by id",
            )
            .fetch_all(db)
            .await?,
            archives: sqlx::query_as(
                "select storage_key, size_bytes, coalesce(status = 'ready' and finished_at <= $1, false) as is_ready
                 from exports where storage_key is not null",
            )
            .bind(looked_at)
            .fetch_all(db)
            .await?,
            sent_in: world.book.uploads(),
            expired: expired(db).await?,
            entries: sqlx::query_as("select kind, count(*) from ledger group by kind order by kind")
                .fetch_all(db)
                .await?,
            submits: world.vendors.submits().await?,
            requests: world.vendors.requests().await?,
            objects,
            received: world.sinks.received(),
        })
    }

    /// The row of a job.
    pub fn job(&self, id: JobId) -> Option<&JobRow> {
        self.jobs.binary_search_by_key(&id, |row| row.id).ok().map(|at| &self.jobs[at])
    }
}

async fn jobs(db: &PgPool) -> Result<Vec<JobRow>, sqlx::Error> {
    sqlx::query_as(
        "select j.id, j.account_id, j.status, j.provider, j.error_code, j.held_tokens, j.charged_tokens, j.attempts,
                j.metadata ->> 'order' as \"order\",
                count(l.id) as charges, coalesce(sum(l.amount_tokens), 0)::bigint as charges_tokens
         from jobs j left join ledger l on l.kind = 'charge' and l.reference = j.id::text
         group by j.id order by j.id",
    )
    .fetch_all(db)
    .await
}

async fn expired(db: &PgPool) -> Result<HashMap<AccountId, i64>, sqlx::Error> {
    let rows: Vec<(AccountId, i64)> = sqlx::query_as(
        "select account_id, sum(amount_tokens)::bigint from ledger where kind = 'expire' group by account_id",
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().collect())
}

/// A customer's jobs, its balance, and what was said in its conversations.
async fn look_around(customer: &Customer) -> anyhow::Result<Shown> {
    let jobs = list(customer, "/v1/jobs").await?;
    let balance = customer.insist(Method::GET, "/v1/billing/balance").await.json;
    let mut dialogs = Vec::new();
    for dialog in &customer.dialogs {
        dialogs.push((*dialog, list(customer, &format!("/v1/dialogs/{dialog}/messages")).await?));
    }
    Ok(Shown { customer: customer.clone(), jobs, balance, dialogs })
}

/// A list of a customer's, page by page.
async fn list(customer: &Customer, path: &str) -> anyhow::Result<Vec<Value>> {
    let (mut entries, mut after) = (Vec::new(), String::new());
    loop {
        let page = customer.insist(Method::GET, &format!("{path}?limit={PAGE}{after}")).await.json;
        let data = page["data"].as_array().with_context(|| format!("a list at {path}"))?;
        entries.extend(data.iter().cloned());
        if page["has_more"] != true {
            return Ok(entries);
        }
        after = format!("&after={}", page["last_id"].as_str().context("the last of a page")?);
    }
}

/// Every accepted job, as its customer sees it.
async fn look_at_each(placed: &[Placed], customers: &[Customer]) -> HashMap<JobId, (u16, Value)> {
    let accepted = placed.iter().filter_map(|placed| {
        let number: usize = placed.order.name.split('.').next()?.parse().ok()?;
        Some((placed.job?, customers.get(number)?))
    });
    stream::iter(accepted)
        .map(|(job, customer)| async move {
            let answer = customer.insist(Method::GET, &format!("/v1/jobs/{job}")).await;
            (job, (answer.status.as_u16(), answer.json))
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

/// Every file of every job, by the URL its customer was given.
async fn download_all(
    customer: &Customer,
    looks: &HashMap<JobId, (u16, Value)>,
) -> Vec<(JobId, i64, Option<u64>)> {
    let files = looks.iter().flat_map(|(job, (_, view))| {
        let files = view["output"]["files"].as_array().into_iter().flatten();
        files.map(|file| (*job, file.clone()))
    });
    stream::iter(files)
        .map(|(job, file)| async move {
            let url = file["url"].as_str().unwrap_or_default().to_owned();
            let answer =
                customer.door.http.get(url).send().await.and_then(reqwest::Response::error_for_status);
            let bytes = match answer {
                Ok(answer) => answer.bytes().await.ok(),
                Err(_) => None,
            };
            (job, file["size_bytes"].as_i64().unwrap_or(-1), bytes.map(|bytes| bytes.len() as u64))
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

/// Our objects in the bucket's folder. What an upload that was cut off left is the storage's own business.
fn objects(bucket: &Path) -> anyhow::Result<HashMap<String, u64>> {
    let mut found = HashMap::new();
    let mut folders: Vec<PathBuf> = PLACES.iter().map(|place| bucket.join(place)).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let entry = entry.context("list a folder")?;
            let (path, about) = (entry.path(), entry.metadata().context("look at an object")?);
            if about.is_dir() {
                folders.push(path);
            } else {
                let key = path.strip_prefix(bucket).context("below the bucket")?;
                found.insert(key.display().to_string(), about.len());
            }
        }
    }
    Ok(found)
}
