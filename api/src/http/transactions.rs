//! How an account came to what it has: its movements of tokens, a page at a time, or all of them as a table.
//!
//! A table is written page by page as the caller reads it, so it may be of any length, and no connection to the database
//! waits for a slow reader.

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use futures::stream;
use http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    ApiError, Ctx,
    access::Caller,
    page::{List, Paging},
    request::{Query, moment, page_limit, word},
    schema,
    sheet::{Cell, Format, Sheet, attachment},
};
use shared::{
    billing::{self, Entry, EntryFilter, EntryKind},
    id::{AccountId, EntryId, JobId},
};

/// Rows of a table that are read and sent at once.
const PAGE_ROWS: i64 = 1000;

const HEADINGS: [&str; 8] = ["id", "created_at", "kind", "amount", "from", "to", "job", "reason"];

/// One movement of tokens.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transaction)]
pub struct TransactionView {
    #[schema(value_type = schema::EntryId)]
    id: EntryId,
    #[schema(pattern = "^transaction$")]
    object: &'static str,
    /// What moved them.
    #[schema(value_type = schema::TransactionKind)]
    kind: String,
    #[schema(pattern = "^tokens$")]
    unit: &'static str,
    /// How many; always positive.
    #[schema(minimum = 1)]
    amount: i64,
    /// Where they were.
    #[schema(value_type = schema::Pot)]
    from: String,
    /// Where they are now.
    #[schema(value_type = schema::Pot)]
    to: String,
    /// The job that caused it, if one did.
    #[schema(value_type = Option<schema::JobId>, required)]
    job: Option<JobId>,
    /// Why, for movements made by people.
    #[schema(required)]
    reason: Option<String>,
    created_at: DateTime<Utc>,
}

/// The account's movements, newest first: a page of them, or as CSV all of them.
#[utoipa::path(
    get,
    path = "/v1/billing/transactions",
    params(
        Paging,
        ("after" = inline(Option<schema::EntryId>), Query, description = "The `last_id` of the page before"),
        ("kind" = inline(Option<schema::TransactionKind>), Query, description = "Only movements of this kind"),
        ("job" = inline(Option<schema::JobId>), Query, description = "Only movements that this job caused"),
        ("created_after" = Option<DateTime<Utc>>, Query, description = "Only movements made after this"),
        ("created_before" = Option<DateTime<Utc>>, Query, description = "Only movements made before this"),
        (
            "format" = inline(Option<schema::ReportFormat>),
            Query,
            description = "`csv` for a table of all that match, without `limit`; else as the Accept header wants it",
        ),
    ),
    responses(
        (
            status = 200,
            description = "A page of movements, or a table of all of them",
            content((List<TransactionView> = "application/json"), (String = "text/csv"))
        ),
    )
)]
pub async fn list(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response, ApiError> {
    let format = Format::of(&mut query, &headers)?;
    let filter = EntryFilter {
        kind: word(&mut query, "kind", EntryKind::from_word, &EntryKind::ALL.map(|(_, word)| word))?,
        job: query.take("job")?,
        created_after: moment(&mut query, "created_after")?,
        created_before: moment(&mut query, "created_before")?,
        after: query.take("after")?,
    };
    match format {
        Format::Json => {
            let limit = page_limit(&mut query)?;
            query.finish()?;
            Ok(page(&ctx, caller.account, &filter, limit).await?.into_response())
        }
        Format::Csv => {
            if query.take::<String>("limit")?.is_some() {
                let message = "a table has all movements that match: leave limit out";
                return Err(ApiError::bad_request("invalid_query", "limit", message));
            }
            query.finish()?;
            export(ctx, caller.account, filter).await
        }
    }
}

async fn page(
    ctx: &Ctx,
    account: AccountId,
    filter: &EntryFilter,
    limit: i64,
) -> Result<Json<List<TransactionView>>, ApiError> {
    let entries = billing::entries(&ctx.db, account, filter, limit + 1).await?;
    Ok(Json(List::of(entries, limit, |entry| entry.id, show)))
}

/// A table in the making.
struct Export {
    ctx: Ctx,
    account: AccountId,
    filter: EntryFilter,
    sheet: Sheet,
    /// Read and not sent.
    entries: Vec<Entry>,
}

async fn export(ctx: Ctx, account: AccountId, filter: EntryFilter) -> Result<Response, ApiError> {
    let name = format!("transactions-{}.csv", ctx.clock.now().date_naive());
    // The first page before the answer begins, so that a database that is away is still told as an error.
    let entries = billing::entries(&ctx.db, account, &filter, PAGE_ROWS).await?;
    let begun = Export { ctx, account, filter, sheet: Sheet::headed(&HEADINGS), entries };
    let pages = stream::try_unfold(Some(begun), async |export| match export {
        Some(export) => export.next().await.map(Some),
        None => Ok(None),
    });
    Ok(attachment(&name, Body::from_stream(pages)))
}

impl Export {
    /// The page that was read, and the table with the page after it. An error cuts the answer off, so that a table that ends
    /// well is whole.
    async fn next(mut self) -> Result<(Vec<u8>, Option<Self>), sqlx::Error> {
        let mut sheet = std::mem::replace(&mut self.sheet, Sheet::continued());
        for entry in &self.entries {
            sheet.row(&cells(entry));
        }
        let is_whole = i64::try_from(self.entries.len()).unwrap_or(PAGE_ROWS) == PAGE_ROWS;
        let Some(last) = self.entries.last().filter(|_| is_whole) else {
            return Ok((sheet.into_bytes(), None));
        };
        self.filter.after = Some(last.id);
        let next = billing::entries(&self.ctx.db, self.account, &self.filter, PAGE_ROWS).await;
        self.entries =
            next.inspect_err(|error| tracing::error!(%error, "a table of transactions was cut off"))?;
        Ok((sheet.into_bytes(), Some(self)))
    }
}

fn show(entry: Entry) -> TransactionView {
    TransactionView {
        id: entry.id,
        object: "transaction",
        unit: "tokens",
        amount: entry.amount,
        job: entry.job(),
        kind: entry.kind,
        from: entry.debit,
        to: entry.credit,
        reason: entry.reason,
        created_at: entry.created_at,
    }
}

fn cells(entry: &Entry) -> [Cell; HEADINGS.len()] {
    [
        Cell::text(Some(entry.id)),
        Cell::text(Some(entry.created_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))),
        Cell::text(Some(&entry.kind)),
        Cell::number(entry.amount),
        Cell::text(Some(&entry.debit)),
        Cell::text(Some(&entry.credit)),
        Cell::text(entry.job()),
        Cell::text(entry.reason.as_ref()),
    ]
}
