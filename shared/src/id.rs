//! Typed ids: a UUIDv7 inside, a prefix outside (`job_…`), and the compiler between a job and an account.
//!
//! The only place that makes ids. A UUIDv7 begins with its time, so ordering by id is ordering by creation.
//! Deliberately absent: any meaning in the rest of the bits.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The text was not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the form {prefix}_ followed by 32 hexadecimal digits")]
pub struct InvalidId {
    prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
        #[sqlx(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// What its text form begins with, before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, later than every id made before it by this process.
            #[expect(clippy::new_without_default, reason = "a new id is never a default value")]
            #[expect(clippy::disallowed_methods, reason = "the one place that makes ids")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}_{}", Self::PREFIX, self.0.simple())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|digits| digits.len() == 32)
                    .and_then(|digits| Uuid::try_parse(digits).ok())
                    .map(Self)
                    .ok_or(InvalidId { prefix: Self::PREFIX })
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// An account: who pays.
    AccountId, "acc"
);
id!(
    /// An API key, not its secret.
    KeyId, "key"
);
id!(
    /// A key of ours at a provider, not its secret.
    ProviderKeyId, "pkey"
);
id!(
    /// A job.
    JobId, "job"
);
id!(
    /// A stored file.
    FileId, "file"
);
id!(
    /// A notice; its text form is the `webhook-id` of every delivery of it.
    NoticeId, "msg"
);
id!(
    /// An endpoint that hears of the ends of an account's jobs.
    EndpointId, "whe"
);
id!(
    /// One entry of the ledger.
    EntryId, "txn"
);
id!(
    /// A person.
    UserId, "user"
);
id!(
    /// A login and all refresh tokens that followed from it.
    SessionId, "ses"
);
id!(
    /// An invitation to an account.
    InvitationId, "inv"
);
id!(
    /// One entry of the audit log.
    AuditId, "aud"
);
id!(
    /// A mail to be sent.
    MailId, "mail"
);
id!(
    /// Tokens given at one time.
    GrantId, "grant"
);
id!(
    /// A plan that an account has for some days.
    SubscriptionId, "sub"
);
id!(
    /// An archive of everything about an account.
    ExportId, "exp"
);
id!(
    /// A conversation.
    DialogId, "dlg"
);

impl NoticeId {
    /// What no notice's id is below that was made at `at` or later: a UUIDv7 begins with the milliseconds since 1970.
    pub fn earliest(at: DateTime<Utc>) -> Self {
        Self(Uuid::from_u128(u128::try_from(at.timestamp_millis()).unwrap_or(0) << 80))
    }
}

/// The fence of a claim: a random value that every write under the claim has to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct LeaseToken(pub Uuid);

impl LeaseToken {
    /// A new token that no other claim has.
    #[expect(clippy::new_without_default, reason = "a new token is never a default value")]
    #[expect(clippy::disallowed_methods, reason = "the one place that makes ids")]
    pub fn new() -> Self {
        Self(Uuid::new_v4())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::Config};

    use super::*;

    #[test]
    fn any_id_survives_its_text_form_and_no_other_text_is_one() {
        let config = || Config { cases: 500, failure_persistence: None, ..Config::default() };
        proptest!(config(), |(bits in any::<u128>())| {
            let id = JobId(Uuid::from_u128(bits));
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(serde_json::from_value::<JobId>(serde_json::json!(id)).ok(), Some(id));
            prop_assert!(id.to_string().parse::<AccountId>().is_err());
        });
        let near = "(job|JOB|acc|file)?_?[{]?[0-9a-fA-F-]{0,36}[}]?";
        proptest!(config(), |(text in prop_oneof![near.prop_map(String::from), any::<String>(), "job_\\PC{0,32}"])| {
            if let Ok(id) = text.parse::<JobId>() {
                prop_assert!(text.starts_with("job_") && id.to_string().eq_ignore_ascii_case(&text), "{text}");
            }
        });
    }

    #[test]
    fn an_id_survives_its_text_form() {
        let id = JobId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().starts_with("job_"));
    }

    #[test]
    fn an_id_is_between_the_instants_around_it() {
        let id = NoticeId::new();
        let (secs, nanos) = id.0.get_timestamp().expect("a UUIDv7").to_unix();
        let at = DateTime::from_timestamp(i64::try_from(secs).unwrap(), nanos).unwrap();
        assert!(
            NoticeId::earliest(at) <= id && id < NoticeId::earliest(at + chrono::TimeDelta::milliseconds(1))
        );
        assert_eq!(NoticeId::earliest(DateTime::UNIX_EPOCH - chrono::TimeDelta::days(1)).0, Uuid::nil());
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let account = AccountId::new().to_string();
        assert!(account.parse::<JobId>().is_err());
        assert!("job_".parse::<JobId>().is_err());
        assert!(format!("job_{}", JobId::new().0).parse::<JobId>().is_err(), "dashes are not our form");
    }
}
