//! Who changed what: for an account's owner, and for operators of all accounts.

use axum::{Json, extract::State};
use serde_json::{Value, json};

use crate::{
    ApiError, Ctx,
    access::Caller,
    page,
    request::{Query, moment, page_limit},
};
use shared::account::audit::{self, AuditFilter, Audited};

/// A page of the changes in the caller's account, newest first.
pub async fn list(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<Value>, ApiError> {
    let limit = page_limit(&mut query)?;
    let filter = AuditFilter { account: Some(caller.account), ..filter(&mut query)? };
    query.finish()?;
    page(&ctx, &filter, limit, show).await
}

/// A page of the changes in all accounts, or in one.
pub async fn list_all(State(ctx): State<Ctx>, mut query: Query) -> Result<Json<Value>, ApiError> {
    let limit = page_limit(&mut query)?;
    let filter = AuditFilter { account: query.take("account")?, ..filter(&mut query)? };
    query.finish()?;
    page(&ctx, &filter, limit, show_whole).await
}

fn filter(query: &mut Query) -> Result<AuditFilter, ApiError> {
    Ok(AuditFilter {
        account: None,
        action: query.take("action")?,
        actor: query.take("actor")?,
        target: query.take("target")?,
        from: moment(query, "created_after")?,
        to: moment(query, "created_before")?,
        after: query.take("after")?,
    })
}

async fn page(
    ctx: &Ctx,
    filter: &AuditFilter,
    limit: i64,
    view: fn(Audited) -> Value,
) -> Result<Json<Value>, ApiError> {
    let entries = audit::list(&ctx.db, filter, limit + 1).await?;
    Ok(page::answer(entries, limit, |entry| entry.id, view))
}

/// As an account's owner sees it: that an operator acted, but not which one and from where.
fn show(entry: Audited) -> Value {
    let ours = entry.actor_kind == "operator";
    let hidden = |text: Option<String>| text.filter(|_| !ours);
    show_whole(Audited { actor: hidden(entry.actor), ip: hidden(entry.ip), ..entry })
}

fn show_whole(entry: Audited) -> Value {
    json!({
        "id": entry.id, "object": "audit_entry", "account": entry.account,
        "actor": { "kind": entry.actor_kind, "id": entry.actor },
        "action": entry.action, "target": entry.target, "before": entry.before, "after": entry.after,
        "ip": entry.ip, "request_id": entry.request_id, "created_at": entry.created_at,
    })
}
