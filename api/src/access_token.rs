//! Access tokens: what a login shows at every request, signed by us and kept nowhere.
//!
//! A token says only which session it belongs to. Everything it allows is looked up when it is shown, so ending the session
//! ends it at once, and its own short life is for tokens that leak unnoticed. The time is the clock's that was handed in.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use shared::{
    account::{self, Opened},
    id::{AccountId, SessionId, UserId},
};

/// How long an access token works. Refreshing costs a client one request; a leaked one is worth little.
pub const LIFE: TimeDelta = TimeDelta::minutes(15);
/// Who signs.
const ISSUER: &str = "kiln";

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    /// Who logged in.
    pub sub: UserId,
    /// The account the session speaks for.
    pub acc: AccountId,
    /// The session.
    pub sid: SessionId,
    iat: i64,
    exp: i64,
}

/// Why a token is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Ours, but its time is over.
    Expired,
    /// Not ours.
    Invalid,
}

/// Signs and reads access tokens.
#[derive(Clone)]
pub struct AccessTokens {
    sign: EncodingKey,
    check: DecodingKey,
}

impl AccessTokens {
    /// With the key that is derived from the deployment's secret.
    pub fn new(deployment: &SecretString) -> Self {
        let key = account::access_token_key(deployment);
        let key = key.expose_secret();
        Self { sign: EncodingKey::from_secret(key), check: DecodingKey::from_secret(key) }
    }

    /// A token of a session.
    ///
    /// # Errors
    /// When it cannot be signed, which no input brings about.
    pub fn issue(&self, opened: &Opened, now: DateTime<Utc>) -> anyhow::Result<SecretString> {
        let claims = Claims {
            iss: ISSUER.into(),
            sub: opened.user,
            acc: opened.account,
            sid: opened.session,
            iat: now.timestamp(),
            exp: (now + LIFE).timestamp(),
        };
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.sign)?.into())
    }

    /// What a token says, if it is ours and its time is not over.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn read(&self, token: &SecretString, now: DateTime<Utc>) -> Result<Claims, Refused> {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_required_spec_claims(&["exp", "iss"]);
        rules.set_issuer(&[ISSUER]);
        // The crate would ask the machine's clock.
        rules.validate_exp = false;
        let read = jsonwebtoken::decode::<Claims>(token.expose_secret(), &self.check, &rules);
        let claims = read.map_err(|_| Refused::Invalid)?.claims;
        if claims.exp <= now.timestamp() { Err(Refused::Expired) } else { Ok(claims) }
    }
}

impl fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTokens").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(secret: &str) -> AccessTokens {
        AccessTokens::new(&secret.to_owned().into())
    }

    fn opened() -> Opened {
        Opened {
            session: SessionId::new(),
            user: UserId::new(),
            account: AccountId::new(),
            refresh_token: "kilnr_x".to_owned().into(),
        }
    }

    #[test]
    fn a_token_says_whose_session_it_is_until_its_time_is_over() {
        let (tokens, opened, now) = (tokens("one"), opened(), DateTime::UNIX_EPOCH + TimeDelta::days(20_000));
        let token = tokens.issue(&opened, now).unwrap();
        let claims = tokens.read(&token, now + LIFE - TimeDelta::seconds(1)).unwrap();
        assert_eq!((claims.sub, claims.acc, claims.sid), (opened.user, opened.account, opened.session));
        assert_eq!(tokens.read(&token, now + LIFE), Err(Refused::Expired));
        assert!(!format!("{tokens:?}{opened:?}").contains("kilnr_x"));
    }

    #[test]
    fn a_token_changed_anywhere_is_not_ours() {
        use proptest::{prelude::*, sample::Index, test_runner::Config};

        let (ours, now) = (tokens("one"), DateTime::UNIX_EPOCH + TimeDelta::days(20_000));
        let token = ours.issue(&opened(), now).unwrap().expose_secret().to_owned();
        let config = || Config { cases: 400, failure_persistence: None, ..Config::default() };
        proptest!(config(), |(at in any::<Index>(), other in "[a-zA-Z0-9._=-]{0,2}")| {
            let mut changed = token.clone();
            let at = at.index(token.len());
            changed.replace_range(at..=at, &other);
            prop_assume!(changed != token);
            prop_assert_eq!(ours.read(&changed.clone().into(), now), Err(Refused::Invalid), "{} for {}", changed, token);
        });
        proptest!(config(), |(text in any::<String>(), parts in "[a-zA-Z0-9_-]{0,40}\\.[a-zA-Z0-9_-]{0,80}\\.[a-zA-Z0-9_-]{0,50}")| {
            prop_assert_eq!(ours.read(&text.into(), now), Err(Refused::Invalid));
            prop_assert_eq!(ours.read(&parts.into(), now), Err(Refused::Invalid));
        });
    }

    #[test]
    fn only_what_we_signed_by_our_own_rule_is_read() {
        let (ours, now) = (tokens("one"), DateTime::UNIX_EPOCH + TimeDelta::days(20_000));
        let refused =
            |token: &str| assert_eq!(ours.read(&token.to_owned().into(), now), Err(Refused::Invalid));
        let foreign = tokens("another").issue(&opened(), now).unwrap();
        refused(foreign.expose_secret());
        refused("nonsense");
        refused("a.b.c");
        let token = ours.issue(&opened(), now).unwrap();
        let (_, rest) = token.expose_secret().split_once('.').unwrap();
        // {"alg":"none"}
        refused(&format!("eyJhbGciOiJub25lIn0.{rest}"));
        let (head, _) = token.expose_secret().rsplit_once('.').unwrap();
        refused(&format!("{head}."));
        let other =
            EncodingKey::from_secret(account::access_token_key(&"one".to_owned().into()).expose_secret());
        let stranger = serde_json::json!({ "iss": "another", "exp": now.timestamp() + 60, "iat": 0,
            "sub": UserId::new(), "acc": AccountId::new(), "sid": SessionId::new() });
        refused(&jsonwebtoken::encode(&Header::new(Algorithm::HS256), &stranger, &other).unwrap());
        refused(&jsonwebtoken::encode(&Header::new(Algorithm::HS512), &stranger, &other).unwrap());
    }
}
