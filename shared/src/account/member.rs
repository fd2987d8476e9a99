//! Who belongs to an account, in which role, and who may change that.
//!
//! An account always keeps an owner. Every change of members first locks the account's row, so of two that would together
//! leave none, the second sees what the first did. Taking someone out ends their sessions of this account in the same commit.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{
    access::{Actor, Caller, Permissions, Role},
    audit::{self, By},
    key_terms::Beyond,
    logout::{Ending, Which, end},
};
use crate::id::{AccountId, KeyId, UserId};

/// Why a member was not changed.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// There is no such member.
    #[error("no such member")]
    Unknown,
    /// The account would be left without an owner.
    #[error("the last owner of an account stays its owner")]
    LastOwner,
    /// The caller's role does not reach so far.
    #[error("only an owner may make, change or remove owners and admins")]
    NotAllowed,
    /// The role would have more than the key that gives it.
    #[error("{}", .0.message)]
    Beyond(Beyond),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] sqlx::Error),
}

/// How far someone reaches who changes members.
///
/// An owner may do everything. An admin, and a key with the permission, brings in, changes and takes out developers and
/// viewers, and nobody makes anyone an admin or an owner but an owner. Everyone may leave.
///
/// A key gives only roles that do no more than it does itself, and none when it is limited in any other way: whoever has a
/// role is not, and may make keys that are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// A person in this role; `None` when they have just left.
    Person(Option<Role>),
    /// A key.
    Key {
        /// What it may do now.
        permissions: Permissions,
        /// What limits it beside its permissions.
        limited: Option<&'static str>,
    },
}

impl Reach {
    /// What `caller` may do, by the role they have at this moment.
    pub(super) async fn of(conn: &mut PgConnection, caller: &Caller) -> Result<Self, sqlx::Error> {
        match caller.actor {
            Actor::User { user, .. } => Ok(Self::Person(role_of(conn, caller.account, user).await?)),
            Actor::Key(key) => {
                Ok(Self::Key { permissions: caller.permissions, limited: limit_of(conn, key).await? })
            }
        }
    }

    /// Whether people in `role` may be changed and taken out.
    const fn reaches(self, role: Role) -> bool {
        matches!(self, Self::Person(Some(Role::Owner))) || matches!(role, Role::Developer | Role::Viewer)
    }

    /// Whether people may be given `role`.
    pub(super) fn covers(self, role: Role) -> bool {
        self.check(role).is_ok()
    }

    fn check(self, role: Role) -> Result<(), MemberError> {
        if !self.reaches(role) {
            return Err(MemberError::NotAllowed);
        }
        let Self::Key { permissions, limited } = self else { return Ok(()) };
        let beyond = |message| Err(MemberError::Beyond(Beyond { param: "role", message }));
        if let Some(limited) = limited {
            return beyond(format!(
                "this API key {limited}, so it can give no role: those who have one are free of that"
            ));
        }
        match role.permissions().iter().find(|permission| !permissions.has(*permission)) {
            Some(more) => beyond(format!(
                "this API key cannot give the role {:?}, which has the permission {:?}",
                role.word(),
                more.word()
            )),
            None => Ok(()),
        }
    }
}

/// What limits a key beside its permissions.
async fn limit_of(conn: &mut PgConnection, key: KeyId) -> Result<Option<&'static str>, sqlx::Error> {
    let key = sqlx::query!(
        r#"select coalesce(day_limit, month_limit, total_limit) is not null as "spends!",
                  allowed_models is not null as "models!", allowed_ips is not null as "networks!",
                  expires_at is not null as "ends!"
           from api_keys where id = $1"#,
        key.0
    )
    .fetch_one(conn)
    .await?;
    let limits = [
        (key.spends, "may spend only so much"),
        (key.models, "may not use all models"),
        (key.networks, "may not be used from everywhere"),
        (key.ends, "ends at a set time"),
    ];
    Ok(limits.into_iter().find_map(|(limited, words)| limited.then_some(words)))
}

/// Whether `caller` may give someone `role`, for telling why not; giving one decides again.
///
/// # Errors
/// [`MemberError`], with the reason.
pub async fn may_give(db: &PgPool, caller: &Caller, role: Role) -> Result<(), MemberError> {
    Reach::of(&mut *db.acquire().await?, caller).await?.check(role)
}

/// Locks what every change of members locks first.
pub(super) async fn lock(conn: &mut PgConnection, account: AccountId) -> Result<(), sqlx::Error> {
    sqlx::query!("select id from accounts where id = $1 for no key update", account.0)
        .fetch_one(conn)
        .await?;
    Ok(())
}

async fn role_of(
    conn: &mut PgConnection,
    account: AccountId,
    user: UserId,
) -> Result<Option<Role>, sqlx::Error> {
    let word = sqlx::query_scalar!(
        "select role from members where account_id = $1 and user_id = $2",
        account.0,
        user.0
    )
    .fetch_optional(conn)
    .await?;
    Ok(word.as_deref().and_then(Role::from_word))
}

async fn is_last_owner(
    conn: &mut PgConnection,
    account: AccountId,
    user: UserId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select not exists (
               select from members where account_id = $1 and role = 'owner' and user_id <> $2) as "last!""#,
        account.0,
        user.0
    )
    .fetch_one(conn)
    .await
}

/// Gives a member another role; it counts from their next request on.
///
/// # Errors
/// [`MemberError`]; on any of them nothing changed.
pub async fn change_role(
    db: &PgPool,
    caller: &Caller,
    user: UserId,
    role: Role,
    by: &By,
    now: DateTime<Utc>,
) -> Result<(), MemberError> {
    let account = caller.account;
    let mut tx = db.begin().await?;
    lock(&mut tx, account).await?;
    let before = role_of(&mut tx, account, user).await?.ok_or(MemberError::Unknown)?;
    let reach = Reach::of(&mut tx, caller).await?;
    if !reach.reaches(before) {
        return Err(MemberError::NotAllowed);
    }
    reach.check(role)?;
    if before == role {
        return Ok(());
    }
    if before == Role::Owner && is_last_owner(&mut tx, account, user).await? {
        return Err(MemberError::LastOwner);
    }
    sqlx::query!(
        "update members set role = $3 where account_id = $1 and user_id = $2",
        account.0,
        user.0,
        role.word()
    )
    .execute(&mut *tx)
    .await?;
    let (before, after) = (json!({ "role": before }), json!({ "role": role }));
    let entry = by.did("member.role_changed", Some(account), user, now).changed(Some(before), Some(after));
    audit::record(&mut *tx, &entry).await?;
    Ok(tx.commit().await?)
}

/// Takes a member out of the account and ends their sessions of it. Keys they made belong to the account and stay, but no
/// longer run it (see `key.rs`).
///
/// # Errors
/// [`MemberError`]; on any of them nothing changed.
pub async fn remove_member(
    db: &PgPool,
    caller: &Caller,
    user: UserId,
    by: &By,
    now: DateTime<Utc>,
) -> Result<(), MemberError> {
    let account = caller.account;
    let mut tx = db.begin().await?;
    lock(&mut tx, account).await?;
    let role = role_of(&mut tx, account, user).await?.ok_or(MemberError::Unknown)?;
    let leaves = caller.actor.user() == Some(user);
    if !leaves && !Reach::of(&mut tx, caller).await?.reaches(role) {
        return Err(MemberError::NotAllowed);
    }
    if role == Role::Owner && is_last_owner(&mut tx, account, user).await? {
        return Err(MemberError::LastOwner);
    }
    // Locked first, so that of two accounts that let the same person go at once, the second sees what the first did.
    sqlx::query!("select id from users where id = $1 for no key update", user.0).fetch_one(&mut *tx).await?;
    sqlx::query!("delete from members where account_id = $1 and user_id = $2", account.0, user.0)
        .execute(&mut *tx)
        .await?;
    sqlx::query!(
        "update users set left_at = $2 where id = $1 and not exists (select from members where user_id = $1)",
        user.0,
        now,
    )
    .execute(&mut *tx)
    .await?;
    end(&mut tx, user, Which::Of(account), Ending::Removed, now).await?;
    let entry = by.did("member.removed", Some(account), user, now);
    audit::record(&mut *tx, &entry.changed(Some(json!({ "role": role })), None)).await?;
    Ok(tx.commit().await?)
}

/// A member, or someone who was asked to become one. Not to be shown in logs, so there is no `Debug`.
pub struct Belonging {
    /// Id of the person, or of the invitation.
    pub id: Uuid,
    /// Whether it is an invitation.
    pub invited: bool,
    /// Their address.
    pub email: Option<String>,
    /// Their name.
    pub name: Option<String>,
    /// Their role, or the one they would have.
    pub role: String,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// Until when the invitation can be accepted.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A page of the members and open invitations of `account`, newest first.
///
/// # Errors
/// When the database fails.
pub async fn belongings(
    db: &PgPool,
    account: AccountId,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Belonging>, sqlx::Error> {
    sqlx::query_as!(
        Belonging,
        r#"select id as "id!", invited as "invited!", email, name, role as "role!", created_at as "created_at!", expires_at
           from (
               select u.id, false as invited, u.email, u.name, m.role, m.created_at, null::timestamptz as expires_at
               from members m join users u on u.id = m.user_id
               where m.account_id = $1
               union all
               select id, true, email, name, role, created_at, expires_at
               from invitations
               where account_id = $1 and accepted_at is null and revoked_at is null
           ) b
           where $2::uuid is null or id < $2
           order by id desc
           limit $3"#,
        account.0,
        after,
        limit,
    )
    .fetch_all(db)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_owner_reaches_owners_and_admins() {
        let permissions = Role::Owner.permissions();
        let (owner, admin, gone) =
            (Reach::Person(Some(Role::Owner)), Reach::Person(Some(Role::Admin)), Reach::Person(None));
        for role in Role::ALL {
            assert!(owner.covers(role), "{role:?}");
            for other in [admin, gone, Reach::Key { permissions, limited: None }] {
                assert_eq!(other.covers(role), matches!(role, Role::Developer | Role::Viewer), "{role:?}");
            }
            assert!(!Reach::Key { permissions, limited: Some("ends") }.covers(role), "{role:?}");
        }
    }

    #[test]
    fn a_key_gives_roles_that_do_no_more_than_it_does() {
        let narrow = Reach::Key { permissions: Role::Viewer.permissions(), limited: None };
        assert!(
            narrow.covers(Role::Viewer) && narrow.reaches(Role::Developer) && !narrow.covers(Role::Developer)
        );
    }
}
