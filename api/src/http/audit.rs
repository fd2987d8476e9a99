//! Who changed what: for an account's owner, and for operators of all accounts.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    ApiError, Ctx,
    access::Caller,
    page::{List, Paging},
    request::{Query, moment, page_limit},
    schema,
};
use shared::{
    account::audit::{self, AuditFilter, Audited},
    id::{AccountId, AuditId},
};

/// A change, and who made it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditEntry {
    #[schema(value_type = schema::AuditId)]
    id: AuditId,
    #[schema(pattern = "^audit_entry$")]
    object: &'static str,
    /// Whose owner may read it; null for what concerns the platform alone.
    #[schema(value_type = Option<schema::AccountId>, required)]
    account: Option<AccountId>,
    actor: AuditActor,
    /// What was done, such as `api_key.created`.
    action: String,
    /// Id of what was changed.
    target: String,
    /// The fields that changed, as they were.
    #[schema(required)]
    before: Option<Value>,
    /// The same fields afterwards.
    #[schema(required)]
    after: Option<Value>,
    /// From which network address; null for what an operator did, and once it is old.
    #[schema(required)]
    ip: Option<String>,
    /// By which request.
    #[schema(required)]
    request_id: Option<String>,
    created_at: DateTime<Utc>,
}

/// Who made a change.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditActor {
    #[schema(pattern = "^(user|key|operator|command_line|scheduler)$")]
    kind: String,
    /// Of the person or key; null where there is none, and for operators where members ask.
    #[schema(value_type = Option<schema::ActorId>, required)]
    id: Option<String>,
}

/// A page of the changes in the caller's account, newest first.
#[utoipa::path(
    get,
    path = "/v1/account/audit-log",
    params(
        Paging,
        ("after" = inline(Option<schema::AuditId>), Query, description = "The `last_id` of the page before"),
        ("action" = Option<String>, Query, description = "Only this action"),
        ("actor" = Option<String>, Query, description = "Only what the person or key with this id did"),
        ("target" = Option<String>, Query, description = "Only changes of the thing with this id"),
        ("created_after" = Option<DateTime<Utc>>, Query, description = "Only changes of this moment and later"),
        ("created_before" = Option<DateTime<Utc>>, Query, description = "Only changes before this"),
    ),
    responses((status = 200, description = "A page of changes", body = List<AuditEntry>))
)]
pub async fn list(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<List<AuditEntry>>, ApiError> {
    let limit = page_limit(&mut query)?;
    let filter = AuditFilter { account: Some(caller.account), ..filter(&mut query)? };
    query.finish()?;
    page(&ctx, &filter, limit, show).await
}

/// A page of the changes in all accounts, or in one.
#[utoipa::path(
    get,
    path = "/v1/admin/audit-log",
    params(
        Paging,
        ("after" = inline(Option<schema::AuditId>), Query, description = "The `last_id` of the page before"),
        ("account" = inline(Option<schema::AccountId>), Query, description = "Only changes in this account"),
        ("action" = Option<String>, Query, description = "Only this action"),
        ("actor" = Option<String>, Query, description = "Only what the person or key with this id did"),
        ("target" = Option<String>, Query, description = "Only changes of the thing with this id"),
        ("created_after" = Option<DateTime<Utc>>, Query, description = "Only changes of this moment and later"),
        ("created_before" = Option<DateTime<Utc>>, Query, description = "Only changes before this"),
    ),
    responses((status = 200, description = "A page of changes", body = List<AuditEntry>))
)]
pub async fn list_all(State(ctx): State<Ctx>, mut query: Query) -> Result<Json<List<AuditEntry>>, ApiError> {
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
    view: fn(Audited) -> AuditEntry,
) -> Result<Json<List<AuditEntry>>, ApiError> {
    let entries = audit::list(&ctx.db, filter, limit + 1).await?;
    Ok(Json(List::of(entries, limit, |entry| entry.id, view)))
}

/// As an account's owner sees it: that an operator acted, but not which one and from where.
fn show(entry: Audited) -> AuditEntry {
    let ours = entry.actor_kind == "operator";
    let hidden = |text: Option<String>| text.filter(|_| !ours);
    show_whole(Audited { actor: hidden(entry.actor), ip: hidden(entry.ip), ..entry })
}

fn show_whole(entry: Audited) -> AuditEntry {
    AuditEntry {
        id: entry.id,
        object: "audit_entry",
        account: entry.account,
        actor: AuditActor { kind: entry.actor_kind, id: entry.actor },
        action: entry.action,
        target: entry.target,
        before: entry.before,
        after: entry.after,
        ip: entry.ip,
        request_id: entry.request_id,
        created_at: entry.created_at,
    }
}
