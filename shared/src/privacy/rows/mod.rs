//! The rows of an archive, one query a kind of row: fields as the API names them.
//!
//! Each page begins after a place that is text, the last row's id or day, so that one shape fits all; ids are UUIDv7, so their
//! order is that of time.

mod dialogs;
mod money;
mod people;
mod work;

use uuid::Uuid;

use super::Page;

pub(super) use dialogs::{dialog_messages, dialogs};
pub(super) use money::{grants, subscriptions, transactions};
pub(super) use people::{account, audit_log, consents, invitations, keys, mails, members, sessions};
pub(super) use work::{exports, feedback, jobs, notices, uploads, usage, webhook_endpoints};

/// Rows of one page.
const ROWS: i64 = 500;

type Read = Result<Page, sqlx::Error>;

fn place(id: Uuid) -> String {
    id.to_string()
}
