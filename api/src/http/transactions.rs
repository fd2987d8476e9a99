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
use futures::stream;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::{
    ApiError, Ctx,
    access::Caller,
    page,
    request::{Query, moment, page_limit, word},
    sheet::{Cell, Format, Sheet, attachment},
};
use shared::{
    billing::{self, Entry, EntryFilter, EntryKind},
    id::AccountId,
};

/// Rows of a table that are read and sent at once.
const PAGE_ROWS: i64 = 1000;

const HEADINGS: [&str; 8] = ["id", "created_at", "kind", "amount", "from", "to", "job", "reason"];

/// The account's movements, newest first: a page of them, or as CSV all of them.
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
) -> Result<Json<Value>, ApiError> {
    let entries = billing::entries(&ctx.db, account, filter, limit + 1).await?;
    Ok(page::answer(entries, limit, |entry| entry.id, |entry| show(&entry)))
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

fn show(entry: &Entry) -> Value {
    json!({
        "id": entry.id, "object": "transaction", "kind": entry.kind, "unit": "tokens", "amount": entry.amount,
        "from": entry.debit, "to": entry.credit, "job": entry.job(), "reason": entry.reason,
        "created_at": entry.created_at,
    })
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
