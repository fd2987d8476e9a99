//! Who belongs to an account: its members and those who are invited, one by one and by the list.
//!
//! Who may bring in, change and take out whom is decided by the verbs, under the account's lock; see
//! [`shared::account::change_role`].

use std::{fmt, str::FromStr};

use axum::{
    Json,
    extract::{Request, State},
};
use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    account_view::Deleted,
    auth::post,
    auth_view::MemberView,
    fields, roster,
    roster_report::{RosterReport, not_allowed, recipient_full, too_many},
};
use crate::{
    ApiError, Ctx, ErrorBody,
    access::{By, Caller},
    page::{self, List, Paging},
    request::{Body, PathId, Query, page_limit},
    schema,
};
use shared::{
    account::{self, Belonging, INVITATION_LIFE, Invited, Invitee, Role},
    id::{InvitationId, UserId},
};

/// Lines of a list that are invited in one go. A go holds the account's row, which jobs wait for.
const INVITED_AT_ONCE: usize = 50;

/// Someone to be invited.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMember {
    #[schema(value_type = schema::Email)]
    email: String,
    /// What they are called.
    #[schema(min_length = 1, max_length = 200, pattern = r"\S")]
    name: Option<String>,
    /// Nobody is invited as an owner.
    #[schema(value_type = schema::InvitedRole)]
    role: Role,
}

/// Another role for a member.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RolePatch {
    #[schema(value_type = schema::Role)]
    role: Role,
}

/// A member, or someone who was asked to become one. Not to be shown in logs, so there is no `Debug`.
#[derive(Serialize, ToSchema)]
#[schema(as = Belonging)]
pub struct BelongingView {
    #[schema(pattern = "^(user|invitation)$")]
    object: &'static str,
    /// Of the person or the invitation.
    #[schema(value_type = schema::BelongingId)]
    id: String,
    #[schema(value_type = Option<schema::Email>, required)]
    email: Option<String>,
    #[schema(required)]
    name: Option<String>,
    /// Their role, or the one they would have.
    #[schema(value_type = schema::Role)]
    role: String,
    /// A member is active; an invitation is open or has expired.
    #[schema(pattern = "^(active|invited|expired)$")]
    status: &'static str,
    created_at: DateTime<Utc>,
    /// Until when the invitation can be accepted.
    #[schema(required)]
    expires_at: Option<DateTime<Utc>>,
}

/// Where a page of members begins: after a person or an invitation.
struct Place(Uuid);

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let user = text.parse::<UserId>().map(|id| id.0);
        user.or_else(|_| text.parse::<InvitationId>().map(|id| id.0)).map(Self).map_err(|_| NoPlace)
    }
}

struct NoPlace;

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the id of a user or an invitation")
    }
}

/// A page of members and open invitations, newest first.
#[utoipa::path(
    get,
    path = "/v1/account/users",
    params(
        Paging,
        ("after" = inline(Option<schema::BelongingId>), Query, description = "The `last_id` of the page before"),
    ),
    responses((status = 200, description = "A page of members and invitations", body = List<BelongingView>))
)]
pub async fn list(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<List<BelongingView>>, ApiError> {
    let limit = page_limit(&mut query)?;
    let after = query.take::<Place>("after")?.map(|place| place.0);
    query.finish()?;
    let found = account::belongings(&ctx.db, caller.account, after, limit + 1).await?;
    let (found, has_more) = page::cut(found, limit);
    let now = ctx.clock.now();
    let data: Vec<_> = found.into_iter().map(|one| show(one, now)).collect();
    let last = data.last().map(|one| one.id.clone());
    Ok(Json(List::cut_off(data, has_more, last)))
}

/// Invites someone.
#[utoipa::path(
    post,
    path = "/v1/account/users",
    request_body = NewMember,
    responses(
        (status = 201, description = "The invitation, which is on its way by mail", body = BelongingView),
        (
            status = 403,
            description = "`forbidden`, or `beyond_permissions`: the role may do more than the API key that gives it",
            body = ErrorBody
        ),
        (status = 409, description = "`already_member`, or `already_invited`", body = ErrorBody),
    )
)]
pub async fn invite(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    body: Body<NewMember>,
) -> Result<(StatusCode, Json<BelongingView>), ApiError> {
    let NewMember { email, name, role } = body.value;
    let email = fields::email(&email)?;
    let name = name.map(|name| fields::name("name", &name)).transpose()?;
    if role == Role::Owner {
        let message = "nobody is invited as an owner: invite them as an admin, and make them an owner then";
        return Err(ApiError::bad_request("invalid_role", "role", message));
    }
    let invitee = Invitee { email, name, role };
    let now = ctx.clock.now();
    let came =
        account::invite(&ctx.db, &post(&ctx), &caller, std::slice::from_ref(&invitee), &by, now).await?;
    match came.first() {
        Some(Invited::New(id)) => {
            let invitation = BelongingView {
                object: "invitation",
                id: id.to_string(),
                email: Some(invitee.email.as_str().to_owned()),
                name: invitee.name,
                role: role.word().to_owned(),
                status: "invited",
                created_at: now,
                expires_at: Some(now + INVITATION_LIFE),
            };
            Ok((StatusCode::CREATED, Json(invitation)))
        }
        Some(Invited::AlreadyMember) => {
            Err(ApiError::conflict("already_member", "someone with this address belongs to the account"))
        }
        Some(Invited::AlreadyInvited) => {
            Err(ApiError::conflict("already_invited", "this address was invited and can still accept"))
        }
        Some(Invited::TooMany { a_day }) => Err(ApiError::too_often(too_many(*a_day), TimeDelta::hours(1))),
        Some(Invited::RecipientFull) => Err(ApiError::too_often(recipient_full(), TimeDelta::hours(8))),
        Some(Invited::NotAllowed) | None => {
            account::may_give(&ctx.db, &caller, role).await?;
            Err(ApiError::forbidden(not_allowed()))
        }
    }
}

/// Invites everyone on a list, and says line by line what came of it.
///
/// The list is CSV in UTF-8, as spreadsheets save it: a head that names the columns `email`, `role` and perhaps `name`, and at
/// most a thousand lines below it, separated by commas or semicolons.
#[utoipa::path(
    post,
    path = "/v1/account/users/bulk",
    request_body(content = String, content_type = "text/csv"),
    responses((status = 200, description = "What came of each line", body = RosterReport))
)]
pub async fn invite_all(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    request: Request,
) -> Result<Json<RosterReport>, ApiError> {
    let lines = roster::read(request, &ctx).await?;
    let good: Vec<Invitee> = lines.iter().filter_map(|line| line.invitee.clone().ok()).collect();
    let mut came = Vec::with_capacity(good.len());
    for some in good.chunks(INVITED_AT_ONCE) {
        came.extend(account::invite(&ctx.db, &post(&ctx), &caller, some, &by, ctx.clock.now()).await?);
    }
    Ok(Json(RosterReport::of(lines, came)))
}

/// Gives a member another role.
#[utoipa::path(
    patch,
    path = "/v1/account/users/{id}",
    params(("id" = inline(schema::UserId), Path, description = "Which member")),
    request_body = RolePatch,
    responses(
        (status = 200, description = "The member as they are now", body = MemberView),
        (
            status = 403,
            description = "`forbidden`: only an owner makes and changes owners and admins; or `beyond_permissions`: the role may \
                           do more than the API key that gives it",
            body = ErrorBody
        ),
        (status = 404, description = "`not_found`: there is no such member", body = ErrorBody),
        (status = 409, description = "`last_owner`: the account would be left without an owner", body = ErrorBody),
    )
)]
pub async fn change_role(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(user): PathId<UserId>,
    body: Body<RolePatch>,
) -> Result<Json<MemberView>, ApiError> {
    let role = body.value.role;
    account::change_role(&ctx.db, &caller, user, role, &by, ctx.clock.now()).await?;
    Ok(Json(MemberView::of(caller.account, user, role)))
}

/// Takes a member out of the account.
#[utoipa::path(
    delete,
    path = "/v1/account/users/{id}",
    params(("id" = inline(schema::UserId), Path, description = "Which member")),
    responses(
        (status = 200, description = "They belong to it no more", body = Deleted),
        (
            status = 403,
            description = "`forbidden`: only an owner takes out owners and admins, unless they leave by themselves",
            body = ErrorBody
        ),
        (status = 404, description = "`not_found`: there is no such member", body = ErrorBody),
        (status = 409, description = "`last_owner`: the account would be left without an owner", body = ErrorBody),
    )
)]
pub async fn remove(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(user): PathId<UserId>,
) -> Result<Json<Deleted>, ApiError> {
    account::remove_member(&ctx.db, &caller, user, &by, ctx.clock.now()).await?;
    Ok(Json(Deleted::of("user", user)))
}

/// Takes an invitation back.
#[utoipa::path(
    delete,
    path = "/v1/account/invitations/{id}",
    params(("id" = inline(schema::InvitationId), Path, description = "Which invitation")),
    responses(
        (status = 200, description = "Its link opens nothing any more", body = Deleted),
        (
            status = 403,
            description = "`forbidden`: only an owner takes back invitations of admins; an API key only those to roles that do \
                           no more than it does",
            body = ErrorBody
        ),
        (status = 404, description = "`not_found`: there is no such open invitation", body = ErrorBody),
    )
)]
pub async fn revoke_invitation(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(invitation): PathId<InvitationId>,
) -> Result<Json<Deleted>, ApiError> {
    account::revoke_invitation(&ctx.db, &caller, invitation, &by, ctx.clock.now()).await?;
    Ok(Json(Deleted::of("invitation", invitation)))
}

fn show(one: Belonging, now: DateTime<Utc>) -> BelongingView {
    let (object, id) = if one.invited {
        ("invitation", InvitationId(one.id).to_string())
    } else {
        ("user", UserId(one.id).to_string())
    };
    let expired = one.expires_at.is_some_and(|at| at <= now);
    let status = match (one.invited, expired) {
        (false, _) => "active",
        (true, false) => "invited",
        (true, true) => "expired",
    };
    BelongingView {
        object,
        id,
        email: one.email,
        name: one.name,
        role: one.role,
        status,
        created_at: one.created_at,
        expires_at: one.expires_at,
    }
}
