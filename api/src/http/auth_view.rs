//! What people are answered on their way in. Tokens are secret, so what holds them has no `Debug`.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{Content, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, schema::Type},
};

use super::account_view::ConsentRequired;
use crate::{ErrorBody, schema};
use shared::{
    account::Role,
    id::{AccountId, UserId},
};

/// The one answer to whoever asked for a mail.
#[derive(Debug, Serialize, ToSchema)]
pub struct MailAsked {
    /// `accepted`, whatever comes of it.
    #[schema(pattern = "^accepted$")]
    pub status: &'static str,
    /// For people.
    pub message: &'static str,
}

/// An address is proved.
#[derive(Debug, Serialize, ToSchema)]
pub struct Verified {
    #[schema(pattern = "^user$")]
    object: &'static str,
    #[schema(value_type = schema::UserId)]
    id: UserId,
    /// Always true.
    email_verified: bool,
}

/// A new password is set.
#[derive(Debug, Serialize, ToSchema)]
pub struct PasswordSet {
    #[schema(pattern = "^user$")]
    object: &'static str,
    #[schema(value_type = schema::UserId)]
    id: UserId,
    /// Always true.
    password_set: bool,
}

/// Somebody's place in an account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Member)]
pub struct MemberView {
    #[schema(pattern = "^member$")]
    object: &'static str,
    #[schema(value_type = schema::AccountId)]
    account: AccountId,
    #[schema(value_type = schema::UserId)]
    user: UserId,
    #[schema(value_type = schema::Role)]
    role: Role,
}

/// Sessions have ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct LoggedOut {
    /// `logout`.
    #[schema(pattern = "^logout$")]
    pub object: &'static str,
    /// How many.
    pub sessions_ended: u64,
}

/// What a login and a refresh give.
#[derive(Serialize, ToSchema)]
pub struct LoginTokens {
    /// Proves who asks, for a while.
    pub access_token: String,
    /// Gets the next access token, once.
    #[schema(pattern = "^kilnr_")]
    pub refresh_token: String,
    /// How the access token is sent.
    #[schema(pattern = "^Bearer$")]
    pub token_type: &'static str,
    /// Seconds that the access token works.
    #[schema(minimum = 1)]
    pub expires_in: i64,
    /// The account that this login speaks for.
    #[schema(value_type = schema::AccountId)]
    pub account: AccountId,
    /// Who logged in.
    #[schema(value_type = schema::UserId)]
    pub user: UserId,
    /// What they have yet to agree to.
    #[schema(required)]
    pub consent_required: Option<ConsentRequired>,
}

impl Verified {
    /// The address of this person.
    pub fn of(id: UserId) -> Self {
        Self { object: "user", id, email_verified: true }
    }
}

impl PasswordSet {
    /// The password of this person.
    pub fn of(id: UserId) -> Self {
        Self { object: "user", id, password_set: true }
    }
}

impl MemberView {
    /// A person in an account, in a role.
    pub fn of(account: AccountId, user: UserId, role: Role) -> Self {
        Self { object: "member", account, user, role }
    }
}

/// How what a page of ours posts can fail: for a program as JSON like anywhere, for a person as the page once more.
#[derive(Debug)]
pub struct PageFailures;

impl IntoResponses for PageFailures {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let told = [
            (400, "The request is wrong, or the link opens nothing: `invalid_token`."),
            (409, "Something changed at this moment: please try again."),
            (429, "Too many tries."),
            (500, "Something went wrong on our side."),
            (503, "Something that we need is away for the moment."),
        ];
        told.into_iter().map(|(status, what)| (status.to_string(), RefOr::T(failure(status, what)))).collect()
    }
}

fn failure(status: u16, what: &str) -> Response {
    let page = ObjectBuilder::new().schema_type(Type::String);
    let response = ResponseBuilder::new()
        .description(what)
        .content("application/json", Content::new(Some(Ref::from_schema_name(ErrorBody::name()))))
        .content("text/html", Content::new(Some(page)));
    let later = [429, 503].contains(&status);
    let response = if later {
        response.header_ref("retry-after", Ref::new("#/components/headers/RetryAfter"))
    } else {
        response
    };
    response.build()
}
