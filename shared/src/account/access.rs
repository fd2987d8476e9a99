//! Who may do what: the one table of roles and permissions, and whoever a request speaks for.
//!
//! A permission is a word such as `jobs:write`; a role is a column of [`TABLE`]; a key's scopes are permissions picked from
//! it. Routes name the one permission they need, so nothing else decides about access. Deliberately absent: how someone
//! proves who they are (`key.rs`, `session.rs`).

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::{AccountId, KeyId, SessionId, UserId};

/// What a member of an account is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, the account's end included.
    Owner,
    /// Runs the account.
    Admin,
    /// Builds on it: jobs and keys.
    Developer,
    /// Looks.
    Viewer,
}

/// What one of the platform's own people may do in all accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorRole {
    /// Everything.
    SuperAdmin,
    /// Keeps order among accounts and keys.
    Moderator,
    /// Reads reports.
    Analyst,
    /// Moves tokens, sets prices and plans.
    Finance,
}

impl Role {
    /// Every role, in the order of the table's columns.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Admin, Self::Developer, Self::Viewer];

    /// Its word in SQL and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Developer => "developer",
            Self::Viewer => "viewer",
        }
    }

    /// The role a word stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }

    /// What it may do in its account.
    pub fn permissions(self) -> Permissions {
        TABLE.iter().filter(|row| row.roles.contains(&self)).map(|row| row.permission).collect()
    }
}

impl OperatorRole {
    /// Every role, in the order of the table's columns.
    pub const ALL: [Self; 4] = [Self::SuperAdmin, Self::Moderator, Self::Analyst, Self::Finance];

    /// Its word in SQL and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::SuperAdmin => "super_admin",
            Self::Moderator => "moderator",
            Self::Analyst => "analyst",
            Self::Finance => "finance",
        }
    }

    /// The role a word stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }

    /// What it may do in all accounts.
    pub fn permissions(self) -> Permissions {
        TABLE.iter().filter(|row| row.operators.contains(&self)).map(|row| row.permission).collect()
    }
}

/// One line of the table.
#[derive(Debug)]
pub struct Row {
    /// What it is about.
    pub permission: Permission,
    /// Its word in scopes, errors and documents.
    pub word: &'static str,
    /// Members who have it, for their own account.
    pub roles: &'static [Role],
    /// Operators who have it, for all accounts.
    pub operators: &'static [OperatorRole],
}

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $word:literal: [$($role:ident)*] [$($operator:ident)*],)*) => {
        /// Something that may be done over the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Permission { $($(#[$doc])* $name,)* }

        /// Which role may do what.
        pub const TABLE: &[Row] = &[$(Row {
            permission: Permission::$name,
            word: $word,
            roles: &[$(Role::$role),*],
            operators: &[$(OperatorRole::$operator),*],
        },)*];
    };
}

permissions! {
    /// Submit, cancel and quote jobs; send in files for them, and delete those.
    JobsWrite = "jobs:write": [Owner Admin Developer] [],
    /// See jobs, their results, and files that were sent in.
    JobsRead = "jobs:read": [Owner Admin Developer Viewer] [],
    /// See what the account is.
    AccountRead = "account:read": [Owner Admin Developer Viewer] [],
    /// Change what the account says of itself and its settings.
    AccountWrite = "account:write": [Owner Admin] [],
    /// Order the archive of everything about the account.
    AccountExport = "account:export": [Owner] [],
    /// Have the account erased.
    AccountErase = "account:erase": [Owner] [],
    /// See who belongs to the account.
    UsersRead = "users:read": [Owner Admin Developer Viewer] [],
    /// Invite, change and remove members.
    UsersWrite = "users:write": [Owner Admin] [],
    /// See keys, without their secrets.
    KeysRead = "api_keys:read": [Owner Admin Developer] [],
    /// Make, change, rotate and revoke keys.
    KeysWrite = "api_keys:write": [Owner Admin Developer] [],
    /// See where webhooks go and what came of them.
    WebhooksRead = "webhooks:read": [Owner Admin Developer Viewer] [],
    /// Say where webhooks go, see and change what they are signed with, and have them sent again.
    WebhooksWrite = "webhooks:write": [Owner Admin Developer] [],
    /// See balance, grants, transactions and plans.
    BillingRead = "billing:read": [Owner Admin Developer Viewer] [],
    /// See what was used.
    UsageRead = "usage:read": [Owner Admin Developer Viewer] [],
    /// See who changed what in the account.
    AuditRead = "audit:read": [Owner] [],

    /// Find and see any account.
    AdminAccountsRead = "admin.accounts:read": [] [SuperAdmin Moderator Analyst Finance],
    /// Suspend accounts and bring them back.
    AdminAccountsWrite = "admin.accounts:write": [] [SuperAdmin Moderator],
    /// Set an account's tier, price group and credit limit.
    AdminTermsWrite = "admin.terms:write": [] [SuperAdmin Finance],
    /// Credit, debit, give grants and plans.
    AdminTokensWrite = "admin.tokens:write": [] [SuperAdmin Finance],
    /// See prices and how they changed.
    AdminPricesRead = "admin.prices:read": [] [SuperAdmin Analyst Finance],
    /// Change prices.
    AdminPricesWrite = "admin.prices:write": [] [SuperAdmin Finance],
    /// See revenue, cost and margin.
    AdminReportsRead = "admin.reports:read": [] [SuperAdmin Analyst Finance],
    /// Revoke any key.
    AdminKeysWrite = "admin.api_keys:write": [] [SuperAdmin Moderator],
    /// See every change made anywhere.
    AdminAuditRead = "admin.audit:read": [] [SuperAdmin Moderator],
    /// Say who is an operator.
    AdminOperatorsWrite = "admin.operators:write": [] [SuperAdmin],
}

impl Permission {
    /// Its word.
    pub fn word(self) -> &'static str {
        TABLE.iter().find(|row| row.permission == self).map_or("", |row| row.word)
    }

    /// The permission a word stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.word == word).map(|row| row.permission)
    }

    /// Whether it is over all accounts and not over one's own.
    pub fn is_operators(self) -> bool {
        TABLE.iter().any(|row| row.permission == self && row.roles.is_empty())
    }

    const fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

impl Serialize for Permission {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for Permission {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::from_word(word).ok_or_else(|| format!("there is no permission {word:?}"))
    }
}

/// A set of permissions.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Permissions(u64);

impl Permissions {
    /// Whether it holds `permission`.
    pub const fn has(self, permission: Permission) -> bool {
        self.0 & permission.bit() != 0
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        TABLE.iter().map(|row| row.permission).filter(move |permission| self.has(*permission))
    }

    /// Whether all of it is in `other`.
    pub const fn is_within(self, other: Self) -> bool {
        self.0 & other.0 == self.0
    }
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().fold(0, |bits, permission| bits | permission.bit()))
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Permission::word)).finish()
    }
}

/// Who acts: the key or the person behind a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A program with an API key.
    Key(KeyId),
    /// A person who logged in.
    User {
        /// Who.
        user: UserId,
        /// By which login.
        session: SessionId,
    },
}

impl Actor {
    /// The key, if it is one.
    pub const fn key(self) -> Option<KeyId> {
        if let Self::Key(key) = self { Some(key) } else { None }
    }

    /// The person, if it is one.
    pub const fn user(self) -> Option<UserId> {
        if let Self::User { user, .. } = self { Some(user) } else { None }
    }
}

/// Whoever a request speaks for, as key or login proved.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The account that pays.
    pub account: AccountId,
    /// Who acts for it.
    pub actor: Actor,
    /// What they may do.
    pub permissions: Permissions,
    /// Which part of list prices the account pays, in percent.
    pub price_percent: i16,
    /// The only models it may use; `None` is all.
    pub allowed_models: Option<Arc<[String]>>,
    /// What the account wishes for its jobs, in the JSON that it is kept in; `preferences()` reads it.
    pub preferences: Option<Arc<str>>,
}

impl Caller {
    /// Whether the caller may use `model`.
    pub fn may_use(&self, model: &str) -> bool {
        self.allowed_models.as_ref().is_none_or(|models| models.iter().any(|allowed| allowed == model))
    }
}

/// Whether `caller` may act on operators themselves, on their accounts and keys; `None` is someone at the command line.
pub(super) fn rules_operators(caller: Option<&Caller>) -> bool {
    caller.is_none_or(|caller| caller.permissions.has(Permission::AdminOperatorsWrite))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_may_do_all_that_any_member_may_and_a_super_admin_all_that_any_operator_may() {
        for role in Role::ALL {
            assert!(role.permissions().is_within(Role::Owner.permissions()), "{role:?}");
        }
        for role in OperatorRole::ALL {
            assert!(role.permissions().is_within(OperatorRole::SuperAdmin.permissions()), "{role:?}");
        }
    }

    #[test]
    fn no_member_has_an_operators_permission() {
        for row in TABLE {
            assert!(row.roles.is_empty() != row.operators.is_empty(), "{} is one or the other", row.word);
            assert_eq!(row.word.starts_with("admin."), row.roles.is_empty(), "{} says which", row.word);
        }
    }

    #[test]
    fn a_permission_survives_its_word() {
        for row in TABLE {
            assert_eq!(Permission::from_word(row.word), Some(row.permission));
        }
        assert_eq!(Permission::from_word("jobs:steal"), None);
    }
}
