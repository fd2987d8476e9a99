//! How much may be sent in: how long a file is, how much room an account has, and how many uploads are under way at once.
//!
//! An upload keeps a part of its file in memory, so a process takes only so many, and of one account not all of them. This is
//! counted in the process and nowhere else, since memory is the process's own. Room is judged where the row is written
//! ([`shared::upload::keep`]).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::ApiError;
use shared::id::AccountId;

/// Longest file.
const FILE_BYTES_MAX: i64 = 100 * 1024 * 1024;

/// Longest body of an upload: the longest file, and room for the form around it.
pub const FORM_BYTES_MAX: usize = 100 * 1024 * 1024 + 64 * 1024;

/// Default of megabytes that the uploads of an account may take together.
pub const QUOTA_MEGABYTES: u32 = 2000;

/// Uploads under way in one process: with a part of 8 MB each, a quarter of a gigabyte.
const AT_ONCE: usize = 32;

/// Uploads of one account under way in one process.
const AT_ONCE_OF_ACCOUNT: usize = 4;

/// What a deployment says of uploads.
#[derive(Debug, Clone, Copy)]
pub struct UploadLimits {
    /// Longest file, in bytes.
    pub file_bytes_max: i64,
    /// What the uploads of an account may take together, in bytes; `None` is no limit.
    pub quota_bytes: Option<i64>,
}

impl UploadLimits {
    /// So much room for an account; 0 is no limit.
    pub fn megabytes(quota: u32) -> Self {
        let quota_bytes = (quota > 0).then(|| i64::from(quota) * 1_000_000);
        Self { file_bytes_max: FILE_BYTES_MAX, quota_bytes }
    }
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self::megabytes(QUOTA_MEGABYTES)
    }
}

/// Uploads of this process, by account; none has 0.
type UnderWay = HashMap<AccountId, usize>;

/// The limits, and what is under way.
#[derive(Debug, Clone)]
pub struct Uploads {
    /// What is allowed.
    pub limits: UploadLimits,
    under_way: Arc<Mutex<UnderWay>>,
}

/// A place among the uploads under way, given back when it is dropped.
#[derive(Debug)]
#[must_use = "a place that is dropped is given back"]
pub struct Place {
    account: AccountId,
    under_way: Arc<Mutex<UnderWay>>,
}

impl Uploads {
    /// Nothing is under way yet.
    pub fn new(limits: UploadLimits) -> Self {
        Self { limits, under_way: Arc::default() }
    }

    /// How many uploads are under way in this process.
    pub fn under_way(&self) -> usize {
        lock(&self.under_way).values().sum()
    }

    /// Takes a place for an upload of `account`.
    ///
    /// # Errors
    /// 429 when the account has as many under way as it may, 503 when the process has.
    pub fn enter(&self, account: AccountId) -> Result<Place, ApiError> {
        let mut under_way = lock(&self.under_way);
        if under_way.values().sum::<usize>() >= AT_ONCE {
            return Err(ApiError::unavailable());
        }
        let own = under_way.entry(account).or_default();
        if *own >= AT_ONCE_OF_ACCOUNT {
            return Err(ApiError::too_many_uploads(AT_ONCE_OF_ACCOUNT));
        }
        *own += 1;
        Ok(Place { account, under_way: self.under_way.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut under_way = lock(&self.under_way);
        if let Some(own) = under_way.get_mut(&self.account) {
            *own -= 1;
            if *own == 0 {
                under_way.remove(&self.account);
            }
        }
    }
}

fn lock(under_way: &Mutex<UnderWay>) -> MutexGuard<'_, UnderWay> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn an_account_has_its_share_of_the_places_and_gives_them_back() {
        let uploads = Uploads::new(UploadLimits::default());
        let greedy = AccountId::new();
        let mut places: Vec<_> =
            (0..AT_ONCE_OF_ACCOUNT).map(|_| uploads.enter(greedy).expect("a place")).collect();
        let refused = uploads.enter(greedy).expect_err("no more for this one");
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        while places.len() < AT_ONCE {
            places.push(uploads.enter(AccountId::new()).expect("another account has its own share"));
        }
        let full = uploads.enter(AccountId::new()).expect_err("the process is full");
        assert_eq!(full.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(uploads.under_way(), AT_ONCE);
        drop(places.remove(0));
        assert!(uploads.enter(greedy).is_ok());
        drop(places);
        assert_eq!(uploads.under_way(), 0);
    }
}
