//! What came of a list of people that was handed in: line by line, and how many of each.

use serde::Serialize;
use utoipa::ToSchema;

use super::roster::Line;
use shared::account::Invited;

/// What came of a list. Not to be shown in logs, so there is no `Debug`.
#[derive(Serialize, ToSchema)]
pub struct RosterReport {
    #[schema(pattern = "^list$")]
    object: &'static str,
    /// Every line that is not empty, in the order of the list.
    data: Vec<RosterLine>,
    /// Always false.
    has_more: bool,
    /// Mails are on their way to so many.
    invited: usize,
    /// So many belong to the account.
    already_member: usize,
    /// So many were invited before and can still accept.
    already_invited: usize,
    /// So many were not invited because there were enough invitations for a day.
    too_many: usize,
    /// So many lines are wrong, or name a role that the caller may not give.
    invalid: usize,
}

/// What came of a line.
#[derive(Serialize, ToSchema)]
pub struct RosterLine {
    /// Its number in the list, the head being 1.
    line: usize,
    /// The address as it stands there.
    email: String,
    #[schema(pattern = "^(invited|already_member|already_invited|too_many|invalid)$")]
    status: &'static str,
    /// Why, where nobody was invited for a reason that is not in the word.
    #[schema(required)]
    message: Option<String>,
}

impl RosterReport {
    /// What came of these lines, in the order of those that are good.
    pub fn of(lines: Vec<Line>, came: Vec<Invited>) -> Self {
        let mut came = came.into_iter();
        let mut report = Self {
            object: "list",
            data: Vec::with_capacity(lines.len()),
            has_more: false,
            invited: 0,
            already_member: 0,
            already_invited: 0,
            too_many: 0,
            invalid: 0,
        };
        for line in lines {
            let (status, message) = match line.invitee {
                Err(why) => ("invalid", Some(why)),
                Ok(_) => outcome(came.next()),
            };
            *report.count(status) += 1;
            report.data.push(RosterLine { line: line.number, email: line.email, status, message });
        }
        report
    }

    fn count(&mut self, status: &str) -> &mut usize {
        match status {
            "invited" => &mut self.invited,
            "already_member" => &mut self.already_member,
            "already_invited" => &mut self.already_invited,
            "too_many" => &mut self.too_many,
            _ => &mut self.invalid,
        }
    }
}

fn outcome(came: Option<Invited>) -> (&'static str, Option<String>) {
    match came {
        Some(Invited::New(_)) => ("invited", None),
        Some(Invited::AlreadyMember) => ("already_member", None),
        Some(Invited::AlreadyInvited) => ("already_invited", None),
        Some(Invited::TooMany { a_day }) => ("too_many", Some(too_many(a_day))),
        Some(Invited::RecipientFull) => ("too_many", Some(recipient_full())),
        Some(Invited::NotAllowed) | None => ("invalid", Some(not_allowed())),
    }
}

/// Why nobody is invited any more today.
pub fn too_many(a_day: i64) -> String {
    format!("this account may send {a_day} invitations a day")
}

/// Why somebody is not invited today.
pub fn recipient_full() -> String {
    "this address was sent as many invitations as it may get in a day: try again tomorrow".into()
}

/// Why somebody is not invited in a role.
pub fn not_allowed() -> String {
    "only an owner brings in admins, and an API key only people who may do no more than it does".into()
}
