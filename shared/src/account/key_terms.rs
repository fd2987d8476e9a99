//! What a key may do: its scopes, models, networks, its time and what it may spend, and the one rule for granting them.
//!
//! Nobody grants what they do not have: a key made, changed or rotated stays within whoever does it. For a person that is
//! their permissions; for a key also its own networks, time and limits, so that a key cannot widen itself or leave a wider
//! one behind.

use std::{fmt, net::IpAddr, str::FromStr};

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::access::{Caller, Permission, Permissions, Role};

/// What a key may do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeyTerms {
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    pub scopes: Permissions,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
    /// The only models it may use; `None` is all.
    pub allowed_models: Option<Vec<String>>,
    /// The only networks it may be used from; `None` is all.
    pub allowed_ips: Option<Vec<Network>>,
    /// What it may spend.
    pub limits: KeyLimits,
}

/// Most tokens that a key's jobs may hold or have been charged; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct KeyLimits {
    /// In a day of UTC.
    pub day: Option<i64>,
    /// In a month of UTC.
    pub month: Option<i64>,
    /// Over all.
    pub total: Option<i64>,
}

impl KeyLimits {
    /// Whether there is none.
    pub const fn is_none(&self) -> bool {
        self.day.is_none() && self.month.is_none() && self.total.is_none()
    }

    fn is_within(&self, other: &Self) -> bool {
        let within = |mine: Option<i64>, others: Option<i64>| {
            others.is_none_or(|others| mine.is_some_and(|mine| mine <= others))
        };
        within(self.day, other.day) && within(self.month, other.month) && within(self.total, other.total)
    }
}

/// What is to become of a key; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct KeyChange {
    /// Another name.
    pub name: Option<String>,
    /// Other scopes.
    pub scopes: Option<Permissions>,
    /// Another end, or none.
    pub expires_at: Option<Option<DateTime<Utc>>>,
    /// Other models, or all.
    pub allowed_models: Option<Option<Vec<String>>>,
    /// Other networks, or all.
    pub allowed_ips: Option<Option<Vec<Network>>>,
    /// Another limit a day, or none.
    pub day: Option<Option<i64>>,
    /// Another limit a month, or none.
    pub month: Option<Option<i64>>,
    /// Another limit over all, or none.
    pub total: Option<Option<i64>>,
}

impl KeyChange {
    /// What `terms` become.
    pub fn of(self, terms: &KeyTerms) -> KeyTerms {
        let terms = terms.clone();
        KeyTerms {
            name: self.name.unwrap_or(terms.name),
            scopes: self.scopes.unwrap_or(terms.scopes),
            expires_at: self.expires_at.unwrap_or(terms.expires_at),
            allowed_models: self.allowed_models.unwrap_or(terms.allowed_models),
            allowed_ips: self.allowed_ips.unwrap_or(terms.allowed_ips),
            limits: KeyLimits {
                day: self.day.unwrap_or(terms.limits.day),
                month: self.month.unwrap_or(terms.limits.month),
                total: self.total.unwrap_or(terms.limits.total),
            },
        }
    }
}

/// What a key has beyond whoever would grant it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beyond {
    /// Field of the request.
    pub param: &'static str,
    /// What is missing, for the caller.
    pub message: String,
}

/// The terms of the key that grants, when it is a key.
#[derive(Debug, Clone)]
pub struct Own {
    /// Its terms.
    pub terms: KeyTerms,
    /// Whether what it grants to is itself.
    pub is_same: bool,
}

impl KeyTerms {
    /// What a key has for which nobody asked for more: a developer's permissions as far as `caller` has them, but for
    /// making keys, which has to be asked for, since a leaked key that makes others outlives its end.
    pub fn usual_scopes(caller: &Caller) -> Permissions {
        let own = Role::Developer.permissions().and(caller.permissions);
        own.iter().filter(|permission| *permission != Permission::KeysWrite).collect()
    }

    /// Its scopes as they are written down.
    pub(super) fn scope_words(&self) -> Vec<String> {
        self.scopes.iter().map(|scope| scope.word().to_owned()).collect()
    }

    /// Its networks as they are written down.
    pub(super) fn network_words(&self) -> Option<Vec<String>> {
        self.allowed_ips.as_ref().map(|networks| networks.iter().map(ToString::to_string).collect())
    }

    /// Whether `caller` has all of this; `own` is what holds for the caller's key.
    ///
    /// # Errors
    /// The first thing that goes beyond it.
    pub fn check_within(&self, caller: &Caller, own: Option<&Own>) -> Result<(), Beyond> {
        let beyond = |param, message: String| Err(Beyond { param, message });
        if let Some(scope) = self.scopes.iter().find(|scope| !caller.permissions.has(*scope)) {
            return beyond("scopes", format!("you cannot grant {:?}, which you do not have", scope.word()));
        }
        if caller.allowed_models.is_some() {
            let Some(models) = &self.allowed_models else {
                return beyond("allowed_models", "you may not use all models and cannot grant them".into());
            };
            if let Some(model) = models.iter().find(|model| !caller.may_use(model)) {
                return beyond(
                    "allowed_models",
                    format!("you cannot grant the model {model:?}, which you may not use"),
                );
            }
        }
        own.map_or(Ok(()), |own| self.check_within_key(own))
    }

    fn check_within_key(&self, Own { terms, is_same }: &Own) -> Result<(), Beyond> {
        let beyond = |param, message: &str| Err(Beyond { param, message: message.into() });
        if let Some(mine) = &terms.allowed_ips {
            let covered = |network: &Network| mine.iter().any(|known| known.covers(network));
            if !self.allowed_ips.as_ref().is_some_and(|wanted| wanted.iter().all(covered)) {
                return beyond("allowed_ips", "this key cannot grant networks it may not be used from");
            }
        }
        if terms.expires_at.is_some_and(|end| self.expires_at.is_none_or(|wanted| wanted > end)) {
            return beyond("expires_at", "this key cannot grant more time than it has");
        }
        // Two keys with the same limit could spend it twice.
        if !terms.limits.is_none() && !is_same {
            return beyond("limits", "a key with limits of its own cannot make, change or rotate others");
        }
        if !self.limits.is_within(&terms.limits) {
            return beyond("limits", "this key cannot raise its own limits");
        }
        Ok(())
    }
}

/// A network a key may be used from: `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    fn covers(&self, other: &Self) -> bool {
        self.0.contains(&other.0)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.parse::<IpAddr>().map(|ip| IpNet::from(ip.to_canonical()));
        let network = address.or_else(|_| text.parse::<IpNet>());
        let network =
            network.map_err(|_| format!("{text:?} is neither an address nor a network as 10.0.0.0/8"))?;
        Ok(Self(network.trunc()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        account::Actor,
        id::{AccountId, KeyId},
    };

    fn caller(scopes: &[Permission], models: Option<&[&str]>) -> Caller {
        Caller {
            account: AccountId::new(),
            actor: Actor::Key(KeyId::new()),
            permissions: scopes.iter().copied().collect(),
            price_percent: 100,
            allowed_models: models.map(|models| models.iter().map(ToString::to_string).collect()),
            preferences: None,
        }
    }

    fn terms(change: impl FnOnce(&mut KeyTerms)) -> KeyTerms {
        let mut terms = KeyTerms {
            name: "test".into(),
            scopes: [Permission::JobsRead].into_iter().collect(),
            expires_at: None,
            allowed_models: None,
            allowed_ips: None,
            limits: KeyLimits::default(),
        };
        change(&mut terms);
        terms
    }

    #[test]
    fn a_network_is_read_as_it_is_shown() {
        use proptest::{prelude::*, test_runner::Config};

        let config = Config { cases: 1000, failure_persistence: None, ..Config::default() };
        let near = "(([0-9]{1,3}\\.){3}[0-9]{1,3}|[0-9a-f:.%]{0,40})(/[0-9]{0,3})?";
        proptest!(config, |(text in prop_oneof![near.prop_map(String::from), any::<String>()])| {
            if let Ok(network) = text.parse::<Network>() {
                prop_assert_eq!(network.to_string().parse(), Ok(network));
            }
        });
    }

    #[test]
    fn a_network_is_read_as_people_write_it() {
        let check = |text: &str, shown: &str| assert_eq!(text.parse::<Network>().unwrap().to_string(), shown);
        check("10.1.2.3/8", "10.0.0.0/8");
        check("1.2.3.4", "1.2.3.4");
        check("1.2.3.4/32", "1.2.3.4");
        check("::ffff:1.2.3.4", "1.2.3.4");
        check("2001:db8::1/32", "2001:db8::/32");
        for wrong in ["", "10.0.0", "10.0.0.0/33", "10.0.0.0/", "example.com", " 1.2.3.4"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn nobody_grants_what_they_do_not_have() {
        let reader = caller(&[Permission::JobsRead], None);
        let check = |caller: &Caller, own: Option<KeyTerms>, wanted: KeyTerms, param: Option<&str>| {
            let own = own.map(|terms| Own { terms, is_same: false });
            let refused = wanted.check_within(caller, own.as_ref()).err().map(|beyond| beyond.param);
            assert_eq!(refused, param, "{wanted:?}");
        };
        check(&reader, None, terms(|_| {}), None);
        let writes = [Permission::JobsWrite].into_iter().collect();
        check(&reader, None, terms(|terms| terms.scopes = writes), Some("scopes"));
        let narrow = caller(&[Permission::JobsRead], Some(&["gpt-4o"]));
        check(&narrow, None, terms(|_| {}), Some("allowed_models"));
        let models = |models: &[&str]| Some(models.iter().map(ToString::to_string).collect());
        check(&narrow, None, terms(|terms| terms.allowed_models = models(&["gpt-4o"])), None);
        check(
            &narrow,
            None,
            terms(|terms| terms.allowed_models = models(&["sora-2"])),
            Some("allowed_models"),
        );
        let at_home = || terms(|terms| terms.allowed_ips = Some(vec!["10.0.0.0/8".parse().unwrap()]));
        check(&reader, Some(at_home()), terms(|_| {}), Some("allowed_ips"));
        let within = terms(|terms| terms.allowed_ips = Some(vec!["10.1.0.0/16".parse().unwrap()]));
        check(&reader, Some(at_home()), within, None);
        let end = DateTime::UNIX_EPOCH;
        let ending = || terms(|terms| terms.expires_at = Some(end));
        check(&reader, Some(ending()), terms(|_| {}), Some("expires_at"));
        check(&reader, Some(ending()), ending(), None);
        let limited = || terms(|terms| terms.limits.day = Some(10));
        check(&reader, Some(limited()), limited(), Some("limits"));
    }

    #[test]
    fn a_key_lowers_its_own_limits_and_never_raises_them() {
        let key = caller(&[Permission::JobsRead], None);
        let own = Own { terms: terms(|terms| terms.limits.day = Some(10)), is_same: true };
        let check = |limits: KeyLimits, fits: bool| {
            let wanted = terms(|terms| terms.limits = limits);
            assert_eq!(wanted.check_within(&key, Some(&own)).is_ok(), fits, "{limits:?}");
        };
        let day = |day| KeyLimits { day, ..KeyLimits::default() };
        check(day(Some(10)), true);
        check(day(Some(9)), true);
        check(day(Some(11)), false);
        check(day(None), false);
        check(KeyLimits { total: Some(1), ..day(Some(1)) }, true);
    }
}
