//! Who pays and who speaks for them: accounts, the people in them, and API keys.
//!
//! People register, prove their address, log in and invite others; programs use keys. Both become a [`Caller`] with
//! permissions, and nothing else decides about access. Deliberately absent: HTTP, and the signing of access tokens.

mod accept;
pub mod access;
pub mod audit;
mod consent;
mod email;
mod invitation;
mod key;
mod key_admin;
mod key_operator;
mod key_row;
mod key_terms;
mod link;
mod login;
mod logout;
mod member;
mod open;
mod operator;
mod origin;
mod password;
mod preferences;
mod profile;
mod recipient;
mod register;
mod secret;
mod session;
mod terms;
mod token;
mod user;
mod verify;

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, PgPool};

use crate::id::AccountId;

pub use accept::{AcceptError, Acceptance, Joined, accept_invitation, invited_email};
pub use access::{Actor, Caller, OperatorRole, Permission, Permissions, Role};
pub use consent::{Consent, PERSONAL_DATA, consent, consents, lacks_consent};
pub use email::{Email, InvalidEmail};
pub use invitation::{INVITATION_LIFE, Invited, Invitee, invite, revoke_invitation};
pub use key::{AuthError, KEY_PREFIX, KeyRole, Keyring, NewKey, authenticate, issue_key};
pub use key_admin::{KeyError, change_key, create_key, find_key, list_keys, revoke_key, rotate_key};
pub use key_operator::{hand_out_key, keys_of, revoke_any_key};
pub(crate) use key_row::difference;
pub use key_row::{Key, Spent};
pub use key_terms::{Beyond, KeyChange, KeyLimits, KeyTerms, Network};
pub use link::{Post, Purpose, RESET_LIFE, VERIFY_LIFE, link_owner};
pub use login::{
    LoginError, Owner, PasswordChange, change_password, forgot_password, log_in, password_owner,
    reset_password,
};
pub use logout::{Session, Which, log_out, sessions};
pub use member::{Belonging, MemberError, belongings, change_role, may_give, remove_member};
pub use open::{OpenError, Opening, open};
pub use operator::{OperatorError, find_user, operators, set_operator_role};
pub use origin::Origin;
pub use password::{Checked, HashError, Passwords, WeakPassword, check_password};
pub use preferences::{Preferences, set_preferences};
pub use profile::{NewProfile, Profile, change_profile, profile};
pub use recipient::count_registration;
pub use register::{Registration, register};
pub(crate) use secret::signing_seed;
pub use secret::{access_token_key, webhook_key, webhook_secret};
pub use session::{Opened, REFRESH_LIFE, RefreshError, SESSION_LIFE, authenticate_session, refresh};
pub use terms::{CREDIT_MAX, NewTerms, PER_HOUR_MAX, Terms, TermsError, search, set_terms, terms};
pub use user::{Membership, User, memberships, rename_user, user};
pub use verify::{VerifyError, send_verification, verify_email};

/// Makes an account of a tier, with no tokens, and writes nothing into the audit log: for seeds. Operators [`open`] one.
///
/// # Errors
/// When the database fails.
pub async fn open_account(
    db: impl PgExecutor<'_>,
    name: &str,
    tier: &str,
    now: DateTime<Utc>,
) -> Result<AccountId, sqlx::Error> {
    let id = AccountId::new();
    sqlx::query!(
        "insert into accounts (id, name, tier, base_tier, created_at) values ($1, $2, $3, $3, $4)",
        id.0,
        name,
        tier,
        now,
    )
    .execute(db)
    .await?;
    Ok(id)
}

/// The oldest account called `name`, for seeds that must find again what they made.
///
/// # Errors
/// When the database fails.
pub async fn find_account(db: &PgPool, name: &str) -> Result<Option<AccountId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select id as "id: AccountId" from accounts where name = $1 order by id limit 1"#,
        name
    )
    .fetch_optional(db)
    .await
}
