//! What people may demand of their data over HTTP: an archive of everything about their account, and its erasure.

use axum::{Json, extract::State};
use http::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    ApiError, Ctx,
    access::{By, Caller, Origin},
    limit, page,
    request::{Body, PathId, Query, page_limit},
};
use shared::{
    account::{self, Checked},
    id::{AccountId, ExportId},
    privacy::{self, Demand, EraseError, Export, ExportError},
};

/// Jobs that are canceled before the answer; of more than these the clock takes care within a minute.
const CANCELED_AT_ONCE: i64 = 200;

/// An owner's word that their account is to go.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erasure {
    password: SecretString,
    /// The account's name, typed once more.
    confirm: String,
}

/// Orders an archive of everything about the account.
pub async fn order_export(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (account, user) = (caller.account, caller.actor.user());
    let export = privacy::request_export(&ctx.db, account, user, &by, ctx.clock.now()).await?;
    tracing::info!(export.id = %export.id, account.id = %account, "archive {} ordered", export.id);
    Ok((StatusCode::ACCEPTED, Json(show(&ctx, export).await?)))
}

/// A page of the account's archives, newest first.
pub async fn exports(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<Value>, ApiError> {
    let limit = page_limit(&mut query)?;
    let after = query.take::<ExportId>("after")?;
    query.finish()?;
    let exports = privacy::exports(&ctx.db, caller.account, after, limit + 1).await?;
    let (exports, has_more) = page::cut(exports, limit);
    let last = exports.last().map(|export| export.id);
    let mut data = Vec::with_capacity(exports.len());
    for export in exports {
        data.push(show(&ctx, export).await?);
    }
    Ok(Json(json!({ "object": "list", "data": data, "has_more": has_more, "last_id": last })))
}

/// One archive, with a URL to fetch it by while it is there.
pub async fn export(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    PathId(id): PathId<ExportId>,
) -> Result<Json<Value>, ApiError> {
    let export = privacy::export(&ctx.db, caller.account, id).await?;
    let export = export
        .ok_or_else(|| ApiError::not_found("export_not_found", Some("id"), "there is no such archive"))?;
    Ok(Json(show(&ctx, export).await?))
}

async fn show(ctx: &Ctx, export: Export) -> Result<Value, ApiError> {
    let over = export.expires_at.is_some_and(|end| end <= ctx.clock.now());
    let status = if over { "expired" } else { export.status.as_str() };
    let url = match &export.storage_key {
        Some(key) if status == "ready" => Some(ctx.storage.signed_url(key).await?),
        _ => None,
    };
    Ok(json!({
        "id": export.id, "object": "export", "status": status, "url": url, "size_bytes": export.size_bytes,
        "error": export.error.filter(|_| status == "failed"), "created_at": export.created_at,
        "finished_at": export.finished_at, "expires_at": export.expires_at,
    }))
}

/// Closes the account at once, to be erased as soon as nothing of it is under way.
pub async fn erase(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    Origin(origin): Origin,
    body: Body<Erasure>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
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
    let answer = json!({ "object": "erasure", "account": account, "status": "erasing", "requested_at": now });
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
