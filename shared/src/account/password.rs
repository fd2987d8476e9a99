//! Passwords: what makes one good enough, and the slow hash that is kept of it.
//!
//! Argon2id with OWASP's parameters, at most one at a time for each processor: hashing takes memory and a whole core, and a
//! flood of logins must not take both from everyone. Whoever is checked against nothing pays the same time as everyone else.
//! Deliberately absent: counting tries, which happens before anything here (see [`crate::rate`]).

use std::{fmt, sync::Arc, time::Duration};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use super::email::Email;

/// Parameters of Argon2id: the first of OWASP's recommendations that fits many logins at once into a small server
/// (Password Storage Cheat Sheet: 19 MiB, two passes, one lane).
const MEMORY_KIB: u32 = 19_456;
/// Passes over the memory, see above.
const PASSES: u32 = 2;
/// Lanes, see above.
const LANES: u32 = 1;

/// The hash of a random password that nobody kept: what an unknown address is checked against.
const NOBODYS_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$PaXW1ZpvyIxX8vOZwE0cSA$5SZrMu/oNEsNkI2GJ5ErlFjEsNXGHJ+01TB+W6aTgYo";

/// Longest wait for a turn at hashing; then the caller is asked to come back.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// Shortest password in characters. NIST SP 800-63B asks for 8, and for 15 where it stands alone; in between, with the most
/// common ones refused and tries limited.
pub const LEN_MIN: usize = 10;
/// Longest password in characters: room for any passphrase, no room to keep a hash busy.
pub const LEN_MAX: usize = 128;
/// Shortest name before an `@` that a password must not contain; shorter ones are in too many words.
const OWN_NAME_LEN_MIN: usize = 4;

/// Those of the passwords most often found in leaks that are long enough for us, one a line, in lower case.
const COMMON: &str = include_str!("common_passwords.txt");

/// Why a password is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Too short or too long.
    #[error("a password has {LEN_MIN} to {LEN_MAX} characters")]
    Length,
    /// Holds the address it belongs to.
    #[error("a password must not contain your e-mail address")]
    OwnName,
    /// One of those that are tried first.
    #[error("this password is among the most common ones: choose another")]
    Common,
}

/// Whether `password` is good enough for the person with `email`.
///
/// # Errors
/// What is wrong with it.
pub fn check_password(password: &SecretString, email: &Email) -> Result<(), WeakPassword> {
    let text = password.expose_secret();
    if !(LEN_MIN..=LEN_MAX).contains(&text.chars().count()) {
        return Err(WeakPassword::Length);
    }
    let lower = text.to_lowercase();
    let name = email.local_part();
    if lower.contains(email.as_str()) || (name.len() >= OWN_NAME_LEN_MIN && lower.contains(name)) {
        return Err(WeakPassword::OwnName);
    }
    let mut letters = lower.chars();
    let first = letters.next();
    if COMMON.lines().any(|word| word == lower) || letters.all(|letter| Some(letter) == first) {
        return Err(WeakPassword::Common);
    }
    Ok(())
}

/// What a password proved to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// Not the one.
    Wrong,
    /// The one.
    Right,
    /// The one, kept by parameters of old: to be hashed again while it is known.
    Outdated,
}

/// Why a password could not be hashed or checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Too many others are at it; later.
    #[error("too many passwords are being checked just now")]
    Busy,
    /// Our own defect: what is kept is no hash, or the machine has no memory left.
    #[error("a password could not be hashed")]
    Broken,
}

/// Hashes passwords, a few at a time. Clones share their turns.
#[derive(Clone)]
pub struct Passwords(Arc<Semaphore>);

impl Passwords {
    /// One turn for each processor.
    pub fn new() -> Self {
        let turns = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self(Arc::new(Semaphore::new(turns)))
    }

    /// The hash to keep of a new password.
    ///
    /// # Errors
    /// When no turn came in time, or hashing failed.
    pub async fn hash(&self, password: &SecretString) -> Result<String, HashError> {
        let password = password.clone();
        self.in_turn(move || {
            let hash = hasher().hash_password(password.expose_secret().as_bytes());
            hash.map(|hash| hash.to_string()).map_err(|_| HashError::Broken)
        })
        .await
    }

    /// Checks a password against what was kept. `None`, for someone unknown, takes as long and is wrong.
    ///
    /// # Errors
    /// When no turn came in time, or what was kept is no hash.
    pub async fn check(&self, password: &SecretString, kept: Option<&str>) -> Result<Checked, HashError> {
        let (password, known) = (password.clone(), kept.is_some());
        let kept = kept.unwrap_or(NOBODYS_HASH).to_owned();
        self.in_turn(move || {
            let hash = PasswordHash::new(&kept).map_err(|_| HashError::Broken)?;
            let right = hasher().verify_password(password.expose_secret().as_bytes(), &hash).is_ok();
            Ok(match (right && known, is_current(&hash)) {
                (false, _) => Checked::Wrong,
                (true, true) => Checked::Right,
                (true, false) => Checked::Outdated,
            })
        })
        .await
    }

    /// Runs `work` on a thread that may block, when it is its turn.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let turn = tokio::time::timeout(TURN_TIMEOUT, self.0.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| HashError::Busy)?.expect("the turns are never closed");
        let done = tokio::task::spawn_blocking(move || {
            // The thread works on when whoever asked has gone, and keeps its turn as long.
            let _turn = turn;
            work()
        });
        done.await.map_err(|_| HashError::Broken)?
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Passwords").field(&self.0.available_permits()).finish()
    }
}

fn parameters() -> Params {
    Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the parameters are within Argon2's bounds")
}

fn hasher() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters())
}

/// Whether a hash was made by the parameters above.
fn is_current(hash: &PasswordHash) -> bool {
    let Ok(used) = Params::try_from(hash) else { return false };
    hash.algorithm == Algorithm::Argon2id.ident()
        && (used.m_cost(), used.t_cost(), used.p_cost()) == (MEMORY_KIB, PASSES, LANES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        text.to_owned().into()
    }

    #[test]
    fn only_good_passwords_are_taken() {
        let email: Email = "Anna@example.com".parse().unwrap();
        let check =
            |text: &str, expected| assert_eq!(check_password(&secret(text), &email), expected, "{text}");
        check("correct horse battery", Ok(()));
        check("пароль с пробелами", Ok(()));
        check(&"ab".repeat(64), Ok(()));
        check("short", Err(WeakPassword::Length));
        check("йцукенгшщ", Err(WeakPassword::Length));
        check(&"ab".repeat(65), Err(WeakPassword::Length));
        check("my anna@example.com!", Err(WeakPassword::OwnName));
        check("ANNA-is-my-name", Err(WeakPassword::OwnName));
        check("Password123", Err(WeakPassword::Common));
        check("aaaaaaaaaaaa", Err(WeakPassword::Common));
        let short: Email = "bo@example.com".parse().unwrap();
        assert_eq!(
            check_password(&secret("bottles of beer"), &short),
            Ok(()),
            "two letters are in many words"
        );
    }

    #[test]
    fn the_list_holds_only_what_would_pass_otherwise() {
        for word in COMMON.lines() {
            assert!((LEN_MIN..=LEN_MAX).contains(&word.chars().count()), "{word}");
            assert_eq!(word.to_lowercase(), word);
        }
    }

    #[tokio::test]
    async fn a_password_is_recognised_and_a_hash_of_old_is_noticed() {
        let passwords = Passwords::new();
        let right = secret("correct horse battery");
        let kept = passwords.hash(&right).await.unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && !kept.contains("horse"), "{kept}");
        assert_ne!(kept, passwords.hash(&right).await.unwrap(), "every hash has a salt of its own");
        assert_eq!(passwords.check(&right, Some(&kept)).await, Ok(Checked::Right));
        assert_eq!(passwords.check(&secret("incorrect horse"), Some(&kept)).await, Ok(Checked::Wrong));
        assert_eq!(passwords.check(&right, None).await, Ok(Checked::Wrong));
        assert_eq!(passwords.check(&right, Some("nonsense")).await, Err(HashError::Broken));
        let weaker = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8192, 1, 1, None).unwrap());
        let old = weaker.hash_password(right.expose_secret().as_bytes()).unwrap().to_string();
        assert_eq!(passwords.check(&right, Some(&old)).await, Ok(Checked::Outdated));
    }

    #[test]
    fn nobody_is_checked_by_the_same_parameters_as_everybody() {
        assert!(is_current(&PasswordHash::new(NOBODYS_HASH).unwrap()));
    }
}
