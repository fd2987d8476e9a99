//! What an account has and how it came to it; and operators' credits and debits.

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiError, Ctx,
    auth::{Caller, Operator},
    request::{Body, Query, page_limit},
};
use shared::{
    billing::{self, Balance, Entry, EntryKind},
    id::{AccountId, EntryId, JobId},
};

/// Most tokens an operator moves at once: a slip of the finger stays small.
const ADJUST_MAX: i64 = 1_000_000_000_000;

/// Longest reason and reference of a movement.
const REASON_LEN: usize = 1000;
const REFERENCE_LEN: usize = 255;

/// An operator's movement.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adjustment {
    account: AccountId,
    /// Tokens to give, or with a minus to take.
    amount: i64,
    reason: String,
    /// The operator's own name for this movement; the same name moves nothing twice.
    reference: Option<String>,
}

/// The two balances of the caller's account.
pub async fn balance(State(ctx): State<Ctx>, Caller(caller): Caller) -> Result<Json<Value>, ApiError> {
    let balance = billing::balance(&ctx.db, caller.account).await?.ok_or_else(ApiError::internal)?;
    Ok(Json(show(caller.account, balance)))
}

/// Gives tokens to an account or takes some back.
pub async fn adjust(
    State(ctx): State<Ctx>,
    _: Operator,
    body: Body<Adjustment>,
) -> Result<Json<Value>, ApiError> {
    let Adjustment { account, amount, reason, reference } = body.value;
    if amount == 0 || amount.saturating_abs() > ADJUST_MAX {
        let message = format!("amount is a whole number from -{ADJUST_MAX} to {ADJUST_MAX}, and not 0");
        return Err(ApiError::bad_request("invalid_amount", "amount", message));
    }
    if reason.trim().is_empty() {
        return Err(ApiError::bad_request("missing_field", "reason", "say why, for the books"));
    }
    for (name, text, longest) in
        [("reason", Some(&reason), REASON_LEN), ("reference", reference.as_ref(), REFERENCE_LEN)]
    {
        if text.is_some_and(|text| text.is_empty() || text.len() > longest) {
            let message = format!("{name} has 1 to {longest} bytes");
            return Err(ApiError::bad_request("invalid_text", name, message));
        }
    }
    let reference = reference.unwrap_or_else(|| EntryId::new().to_string());
    let balance =
        billing::move_tokens(&ctx.db, account, amount, &reference, &reason, ctx.clock.now()).await?;
    tracing::info!(account.id = %account, amount, "tokens of {account} moved by an operator");
    Ok(Json(show(account, balance)))
}

/// A page of the account's movements, newest first.
pub async fn transactions(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<Value>, ApiError> {
    let limit = page_limit(&mut query)?;
    let after = query.take::<EntryId>("after")?;
    let kind = match query.take::<String>("kind")? {
        None => None,
        Some(word) => Some(EntryKind::from_word(&word).ok_or_else(|| {
            let known = EntryKind::ALL.map(|(_, word)| word).join(", ");
            ApiError::bad_request("invalid_query", "kind", format!("kind is one of {known}"))
        })?),
    };
    query.finish()?;
    let mut entries = billing::entries(&ctx.db, caller.account, kind, after, limit + 1).await?;
    let has_more = entries.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    entries.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let last = entries.last().map(|entry| entry.id);
    let data: Vec<_> = entries.into_iter().map(show_entry).collect();
    Ok(Json(json!({ "object": "list", "data": data, "has_more": has_more, "last_id": last })))
}

fn show(account: AccountId, balance: Balance) -> Value {
    json!({
        "object": "balance", "account": account, "unit": "tokens",
        "available": balance.available, "held": balance.held,
    })
}

fn show_entry(entry: Entry) -> Value {
    let job = match EntryKind::from_word(&entry.kind) {
        Some(EntryKind::Hold | EntryKind::Charge | EntryKind::Release) => {
            entry.reference.parse().ok().map(JobId)
        }
        _ => None,
    };
    json!({
        "id": entry.id, "object": "transaction", "kind": entry.kind, "unit": "tokens", "amount": entry.amount,
        "from": entry.debit, "to": entry.credit, "job": job, "reason": entry.reason, "created_at": entry.created_at,
    })
}
