//! Who belongs to an account: its members and those who are invited, one by one and by the list.
//!
//! Who may bring in, change and take out whom is decided by the verbs, under the account's lock; see
//! [`shared::account::change_role`].

use std::{fmt, str::FromStr};

use axum::{
    Json,
    extract::{Request, State},
};
use chrono::TimeDelta;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    auth::post,
    fields,
    roster::{self, Line},
};
use crate::{
    ApiError, Ctx,
    access::{By, Caller},
    page,
    request::{Body, PathId, Query, page_limit},
};
use shared::{
    account::{self, Belonging, INVITATION_LIFE, Invited, Invitee, Role},
    id::{InvitationId, UserId},
};

/// Lines of a list that are invited in one go. A go holds the account's row, which jobs wait for.
const INVITED_AT_ONCE: usize = 50;

/// Someone to be invited.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMember {
    email: String,
    name: Option<String>,
    role: Role,
}

/// Another role for a member.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolePatch {
    role: Role,
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
pub async fn list(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    mut query: Query,
) -> Result<Json<Value>, ApiError> {
    let limit = page_limit(&mut query)?;
    let after = query.take::<Place>("after")?.map(|place| place.0);
    query.finish()?;
    let found = account::belongings(&ctx.db, caller.account, after, limit + 1).await?;
    let (found, has_more) = page::cut(found, limit);
    let now = ctx.clock.now();
    let data: Vec<_> =
        found.into_iter().map(|one| show(&one, one.expires_at.is_some_and(|at| at <= now))).collect();
    let last = data.last().map(|one| one["id"].clone());
    Ok(Json(json!({ "object": "list", "data": data, "has_more": has_more, "last_id": last })))
}

/// Invites someone.
pub async fn invite(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    body: Body<NewMember>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
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
            let invitation = json!({
                "object": "invitation", "id": id, "email": invitee.email.as_str(), "name": invitee.name, "role": role,
                "status": "invited", "created_at": now, "expires_at": now + INVITATION_LIFE,
            });
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
pub async fn invite_all(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let lines = roster::read(request, &ctx).await?;
    let good: Vec<Invitee> = lines.iter().filter_map(|line| line.invitee.clone().ok()).collect();
    let mut came = Vec::with_capacity(good.len());
    for some in good.chunks(INVITED_AT_ONCE) {
        came.extend(account::invite(&ctx.db, &post(&ctx), &caller, some, &by, ctx.clock.now()).await?);
    }
    Ok(Json(report(&lines, came)))
}

/// What came of each line, and how many of each.
fn report(lines: &[Line], came: Vec<Invited>) -> Value {
    let (mut came, mut counts) = (came.into_iter(), [0_usize; 5]);
    const STATUS: [&str; 5] = ["invited", "already_member", "already_invited", "too_many", "invalid"];
    let mut data = Vec::with_capacity(lines.len());
    for line in lines {
        let (at, message) = match &line.invitee {
            Err(why) => (4, Some(why.clone())),
            Ok(_) => match came.next() {
                Some(Invited::New(_)) => (0, None),
                Some(Invited::AlreadyMember) => (1, None),
                Some(Invited::AlreadyInvited) => (2, None),
                Some(Invited::TooMany { a_day }) => (3, Some(too_many(a_day))),
                Some(Invited::RecipientFull) => (3, Some(recipient_full())),
                Some(Invited::NotAllowed) | None => (4, Some(not_allowed())),
            },
        };
        counts[at] += 1;
        data.push(
            json!({ "line": line.number, "email": line.email, "status": STATUS[at], "message": message }),
        );
    }
    let [invited, members, already, too_many, invalid] = counts;
    json!({
        "object": "list", "data": data, "has_more": false, "invited": invited, "already_member": members,
        "already_invited": already, "too_many": too_many, "invalid": invalid,
    })
}

fn too_many(a_day: i64) -> String {
    format!("this account may send {a_day} invitations a day")
}

fn recipient_full() -> String {
    "this address was sent as many invitations as it may get in a day: try again tomorrow".into()
}

fn not_allowed() -> String {
    "only an owner brings in admins, and an API key only people who may do no more than it does".into()
}

/// Gives a member another role.
pub async fn change_role(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(user): PathId<UserId>,
    body: Body<RolePatch>,
) -> Result<Json<Value>, ApiError> {
    let role = body.value.role;
    account::change_role(&ctx.db, &caller, user, role, &by, ctx.clock.now()).await?;
    Ok(Json(json!({ "object": "member", "account": caller.account, "user": user, "role": role })))
}

/// Takes a member out of the account.
pub async fn remove(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(user): PathId<UserId>,
) -> Result<Json<Value>, ApiError> {
    account::remove_member(&ctx.db, &caller, user, &by, ctx.clock.now()).await?;
    Ok(Json(json!({ "object": "user", "id": user, "deleted": true })))
}

/// Takes an invitation back.
pub async fn revoke_invitation(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    PathId(invitation): PathId<InvitationId>,
) -> Result<Json<Value>, ApiError> {
    account::revoke_invitation(&ctx.db, &caller, invitation, &by, ctx.clock.now()).await?;
    Ok(Json(json!({ "object": "invitation", "id": invitation, "deleted": true })))
}

fn show(one: &Belonging, expired: bool) -> Value {
    let (object, id) = if one.invited {
        ("invitation", InvitationId(one.id).to_string())
    } else {
        ("user", UserId(one.id).to_string())
    };
    let status = match (one.invited, expired) {
        (false, _) => "active",
        (true, false) => "invited",
        (true, true) => "expired",
    };
    json!({
        "object": object, "id": id, "email": one.email, "name": one.name, "role": one.role, "status": status,
        "created_at": one.created_at, "expires_at": one.expires_at,
    })
}
