//! What people may demand of their data over HTTP: an archive of everything about their account, and its erasure.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use http::StatusCode;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    ApiError, Ctx, ErrorBody,
    access::{By, Caller, Origin},
    limit,
    page::{self, List, Paging},
    request::{Body, PathId, Query, page_limit},
    schema,
};
use shared::{
    account::{self, Checked},
    id::{AccountId, ExportId},
    privacy::{self, Demand, EraseError, Export, ExportError},
};

/// Jobs that are canceled before the answer; of more than these the clock takes care within a minute.
const CANCELED_AT_ONCE: i64 = 200;

/// An owner's word that their account is to go.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewErasure)]
pub struct Erasure {
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// The account's name, typed once more.
    confirm: String,
}

/// An archive of everything about an account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Export)]
pub struct ExportView {
    #[schema(value_type = schema::ExportId)]
    id: ExportId,
    #[schema(pattern = "^export$")]
    object: &'static str,
    #[schema(pattern = "^(pending|ready|failed|expired)$")]
    status: String,
    /// Where to fetch it for a while, once it is ready; made anew at every look.
    #[schema(required, format = "uri")]
    url: Option<String>,
    #[schema(required, minimum = 0)]
    size_bytes: Option<i64>,
    /// A word on what went wrong, where it failed.
    #[schema(required)]
    error: Option<String>,
    created_at: DateTime<Utc>,
    /// When it was ready, or given up.
    #[schema(required)]
    finished_at: Option<DateTime<Utc>>,
    /// When it is deleted.
    #[schema(required)]
    expires_at: Option<DateTime<Utc>>,
}

/// An erasure that was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Erasure)]
pub struct ErasureView {
    #[schema(pattern = "^erasure$")]
    object: &'static str,
    #[schema(value_type = schema::AccountId)]
    account: AccountId,
    #[schema(pattern = "^erasing$")]
    status: &'static str,
    requested_at: DateTime<Utc>,
}

/// Orders an archive of everything about the account.
#[utoipa::path(
    post,
    path = "/v1/account/exports",
    responses(
        (status = 202, description = "The archive will be made", body = ExportView),
        (status = 409, description = "`export_pending`: one is being made", body = ErrorBody),
    )
)]
pub async fn order_export(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
) -> Result<(StatusCode, Json<ExportView>), ApiError> {
    let (account, user) = (caller.account, caller.actor.user());
    let export = privacy::request_export(&ctx.db, account, user, &by, ctx.clock.now()).await?;
    tracing::info!(export.id = %export.id, account.id = %account, "archive {} ordered", export.id);
    Ok((StatusCode::ACCEPTED, Json(show(&ctx, export).await?)))
}

/// A page of the account's archives, newest first.
#[utoipa::path(
    get,
    path = "/v1/account/exports",
    params(
        Paging,
        ("after" = inline(Option<schema::ExportId>), Query, description = "The `last_id` of the page before"),
    ),
    responses((status = 200, description = "A page of archives", body = List<ExportView>))
)]
pub async fn exports(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<List<ExportView>>, ApiError> {
    let limit = page_limit(&mut query)?;
    let after = query.take::<ExportId>("after")?;
    query.finish()?;
    let exports = privacy::exports(&ctx.db, caller.account, after, limit + 1).await?;
    let (exports, has_more) = page::cut(exports, limit);
    let last = exports.last().map(|export| export.id.to_string());
    let mut data = Vec::with_capacity(exports.len());
    for export in exports {
        data.push(show(&ctx, export).await?);
    }
    Ok(Json(List::cut_off(data, has_more, last)))
}

/// One archive, with a URL to fetch it by while it is there.
#[utoipa::path(
    get,
    path = "/v1/account/exports/{id}",
    params(("id" = inline(schema::ExportId), Path, description = "Which archive")),
    responses(
        (status = 200, description = "The archive", body = ExportView),
        (status = 404, description = "`export_not_found`", body = ErrorBody),
    )
)]
pub async fn export(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<ExportId>,
) -> Result<Json<ExportView>, ApiError> {
    let export = privacy::export(&ctx.db, caller.account, id).await?;
    let export = export
        .ok_or_else(|| ApiError::not_found("export_not_found", Some("id"), "there is no such archive"))?;
    Ok(Json(show(&ctx, export).await?))
}

async fn show(ctx: &Ctx, export: Export) -> Result<ExportView, ApiError> {
    let over = export.expires_at.is_some_and(|end| end <= ctx.clock.now());
    let status = if over { "expired".to_owned() } else { export.status };
    let url = match &export.storage_key {
        Some(key) if status == "ready" => Some(ctx.storage.signed_url(key).await?),
        _ => None,
    };
    Ok(ExportView {
        id: export.id,
        object: "export",
        url,
        size_bytes: export.size_bytes,
        error: export.error.filter(|_| status == "failed"),
        status,
        created_at: export.created_at,
        finished_at: export.finished_at,
        expires_at: export.expires_at,
    })
}

/// Closes the account at once, to be erased as soon as nothing of it is under way.
#[utoipa::path(
    post,
    path = "/v1/account/erasure",
    request_body = Erasure,
    responses(
        (status = 202, description = "The account is closed", body = ErasureView),
        (
            status = 409,
            description = "`account_owes`: what it owes is paid first; or `raced`: something changed at this moment",
            body = ErrorBody
        ),
    )
)]
pub async fn erase(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    Origin(origin): Origin,
    body: Body<Erasure>,
) -> Result<(StatusCode, Json<ErasureView>), ApiError> {
    let user = caller.actor.user().ok_or_else(|| {
        ApiError::forbidden("an account is erased by a person who logs in, not by an API key")
    })?;
    let Erasure { password, confirm } = body.value;
    let owner = account::password_owner(&ctx.db, user).await?.ok_or_else(ApiError::invalid_token)?;
    let attempt = limit::login(&ctx, owner.email.as_str(), origin.ip).await?;
    if ctx.people.passwords.check(&password, Some(&owner.password_hash)).await? == Checked::Wrong {
        return Err(ApiError::wrong_password("password"));
    }
    attempt.succeeded(&ctx).await?;
    let (account, now) = (caller.account, ctx.clock.now());
    let demand = Demand { account, user, password_hash: &owner.password_hash, confirm: &confirm };
    privacy::request_erasure(&ctx.db, &ctx.sealer, &demand, &by, now).await?;
    tracing::info!(account.id = %account, user.id = %user, "erasure of {account} asked for");
    cancel_open(&ctx, account).await;
    let answer = ErasureView { object: "erasure", account, status: "erasing", requested_at: now };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// A failure here is no error: the account is closed, and the clock cancels what is left.
async fn cancel_open(ctx: &Ctx, account: AccountId) {
    let canceled = privacy::cancel_open(&ctx.db, account, CANCELED_AT_ONCE, ctx.clock.now()).await;
    match canceled {
        Ok(canceled) => {
            canceled.into_iter().flat_map(|(job, came)| came.wakes(job)).for_each(|wake| ctx.wakes.send(wake))
        }
        Err(error) => {
            tracing::warn!(%error, account.id = %account, "jobs of {account} are left to the clock")
        }
    }
}

impl From<ExportError> for ApiError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Pending => {
                Self::conflict("export_pending", "an archive is being made: there is one at a time")
            }
            ExportError::TooMany { retry_after } => {
                Self::too_often("an account may order three archives a day", retry_after)
            }
            ExportError::Db(error) => error.into(),
        }
    }
}

impl From<EraseError> for ApiError {
    fn from(error: EraseError) -> Self {
        match error {
            EraseError::OtherName => {
                Self::bad_request("wrong_name", "confirm", "confirm is the account's name, letter by letter")
            }
            EraseError::Owes(owed) => {
                let message = format!("the account owes {owed} tokens: once they are paid it can be erased");
                Self::conflict("account_owes", message)
            }
            EraseError::Raced => Self::conflict(
                "raced",
                "the account or your password changed at this moment: please try again",
            ),
            EraseError::Db(error) => error.into(),
        }
    }
}
