//! Where a request came from that proves nobody yet: it becomes a word in the audit log once the person is found.

use std::net::IpAddr;

use super::audit::{By, Who};
use crate::id::UserId;

/// A request of someone still unknown.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Their network address.
    pub ip: IpAddr,
    /// Name of the request in our logs and in the caller's.
    pub request_id: Option<String>,
}

impl Origin {
    /// The same as made by a person.
    pub(super) fn person(&self, user: UserId) -> By {
        By { who: Who::User(user), ip: Some(self.ip), request_id: self.request_id.clone() }
    }
}
