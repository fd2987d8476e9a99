//! Invitations: a mailed link that lets one person join one account in one role.
//!
//! The link proves the address, so whoever follows it needs no other mail. Accepting one makes the person if there is none
//! yet; a person who can log in shows their password first. An invitation that nobody accepted in time gives way to the next.
//! Mails to one address are counted outside of any transaction: what is counted there may be asked for by many accounts at
//! once, which must not wait for each other. Deliberately absent: owners; those are made by an owner among the members.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::{PgConnection, PgPool};

use super::{
    access::{Caller, Role},
    audit::{self, By},
    email::Email,
    link::Post,
    member::{MemberError, Reach, lock},
    recipient::{count_invitation, give_back_invitation},
    token,
};
use crate::{
    id::{AccountId, InvitationId},
    mail::News,
};

/// How long an invitation can be accepted: a week with its weekend.
pub const INVITATION_LIFE: TimeDelta = TimeDelta::days(7);
/// Invitations an account may send in a day: two full lists. More are hardly colleagues.
const A_DAY: i64 = 2000;
/// The same for an account of the tier that anyone gets by registering: nobody vouches for those.
const A_DAY_FREE: i64 = 50;
/// That tier.
const FREE_TIER: &str = "free";

/// Whom to invite. Not to be shown in logs, so there is no `Debug`.
#[derive(Clone)]
pub struct Invitee {
    /// Their address.
    pub email: Email,
    /// What they are called.
    pub name: Option<String>,
    /// As what they would join.
    pub role: Role,
}

/// What came of inviting someone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invited {
    /// The mail is on its way.
    New(InvitationId),
    /// They belong to the account.
    AlreadyMember,
    /// They were invited before and can still accept.
    AlreadyInvited,
    /// The caller may not bring in someone in this role.
    NotAllowed,
    /// The account has sent as many invitations today as it may.
    TooMany {
        /// How many those are.
        a_day: i64,
    },
    /// Their address has been sent as many invitations today as it has to bear.
    RecipientFull,
}

/// Invites people, each or none of their fellows' fault: the answers are in the order of `whom`. Someone named twice is
/// invited once.
///
/// # Errors
/// When the database fails; then none of them was invited.
pub async fn invite(
    db: &PgPool,
    post: &Post<'_>,
    caller: &Caller,
    whom: &[Invitee],
    by: &By,
    now: DateTime<Utc>,
) -> Result<Vec<Invited>, sqlx::Error> {
    let account = caller.account;
    let emails: Vec<String> = whom.iter().map(|invitee| invitee.email.as_str().to_owned()).collect();
    let counted = count_mails(db, caller, whom, &emails, now).await?;
    let mut tx = db.begin().await?;
    // Two lists with the same addresses would otherwise wait for each other.
    lock(&mut tx, account).await?;
    clear_expired(&mut tx, account, &emails, now).await?;
    let mut room = Room::look(&mut tx, caller, &emails, now).await?;
    let mut came = Vec::with_capacity(whom.len());
    for (invitee, counted) in whom.iter().zip(&counted) {
        let one = match room.refuses(invitee).map_or(*counted, Err) {
            Err(no) => no,
            Ok(()) => invite_one(&mut tx, post, caller, (invitee, &room.account_name), by, now).await?,
        };
        if matches!(one, Invited::New(_)) {
            room.take(invitee);
        }
        came.push(one);
    }
    tx.commit().await?;
    for ((invitee, counted), one) in whom.iter().zip(counted).zip(&came) {
        if counted.is_ok() && !matches!(one, Invited::New(_)) {
            give_back_invitation(db, account, &invitee.email).await?;
        }
    }
    Ok(came)
}

/// Counts the mails that would be sent as things are; why not, for whom none would.
async fn count_mails(
    db: &PgPool,
    caller: &Caller,
    whom: &[Invitee],
    emails: &[String],
    now: DateTime<Utc>,
) -> Result<Vec<Result<(), Invited>>, sqlx::Error> {
    let mut room = Room::look(&mut *db.acquire().await?, caller, emails, now).await?;
    let mut counted = Vec::with_capacity(whom.len());
    for invitee in whom {
        counted.push(match room.refuses(invitee) {
            Some(no) => Err(no),
            None if count_invitation(db, caller.account, &invitee.email, now).await? => {
                room.take(invitee);
                Ok(())
            }
            None => Err(Invited::RecipientFull),
        });
    }
    Ok(counted)
}

/// Who can be invited to an account, as it stands.
struct Room {
    account_name: String,
    reach: Reach,
    a_day: i64,
    left: i64,
    members: HashSet<String>,
    invited: HashSet<String>,
}

impl Room {
    async fn look(
        conn: &mut PgConnection,
        caller: &Caller,
        emails: &[String],
        now: DateTime<Utc>,
    ) -> Result<Self, sqlx::Error> {
        let account = caller.account;
        let reach = Reach::of(conn, caller).await?;
        let sender = sqlx::query!(
            r#"select name, tier, (select count(*) from invitations i where i.account_id = a.id and i.created_at > $2) as "sent!"
               from accounts a where id = $1"#,
            account.0,
            now - TimeDelta::days(1),
        )
        .fetch_one(&mut *conn)
        .await?;
        let members = members_among(conn, account, emails).await?;
        let invited = invited_among(conn, account, emails, now).await?;
        let a_day = if sender.tier == FREE_TIER { A_DAY_FREE } else { A_DAY };
        Ok(Self { account_name: sender.name, reach, a_day, left: a_day - sender.sent, members, invited })
    }

    /// Why `invitee` is not invited, if not.
    fn refuses(&self, invitee: &Invitee) -> Option<Invited> {
        let email = invitee.email.as_str();
        if invitee.role == Role::Owner || !self.reach.covers(invitee.role) {
            Some(Invited::NotAllowed)
        } else if self.members.contains(email) {
            Some(Invited::AlreadyMember)
        } else if self.invited.contains(email) {
            Some(Invited::AlreadyInvited)
        } else if self.left <= 0 {
            Some(Invited::TooMany { a_day: self.a_day })
        } else {
            None
        }
    }

    fn take(&mut self, invitee: &Invitee) {
        self.left -= 1;
        self.invited.insert(invitee.email.as_str().to_owned());
    }
}

async fn invite_one(
    conn: &mut PgConnection,
    post: &Post<'_>,
    caller: &Caller,
    (invitee, account_name): (&Invitee, &str),
    by: &By,
    now: DateTime<Utc>,
) -> Result<Invited, sqlx::Error> {
    let (account, email) = (caller.account, invitee.email.as_str());
    let (id, minted) = (InvitationId::new(), token::mint(""));
    let new = sqlx::query!(
        "insert into invitations (id, account_id, email, name, role, token_hash, invited_by, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict (account_id, email) where accepted_at is null and revoked_at is null do nothing",
        id.0,
        account.0,
        email,
        invitee.name,
        invitee.role.word(),
        minted.hash,
        caller.actor.user().map(|user| user.0),
        now,
        now + INVITATION_LIFE,
    )
    .execute(&mut *conn)
    .await?;
    if new.rows_affected() == 0 {
        return Ok(Invited::AlreadyInvited);
    }
    let news = News::Invitation {
        account_name: account_name.to_owned(),
        role: invitee.role.word().to_owned(),
        link: post.link("/v1/auth/invitations/accept", &minted.token),
    };
    post.write(conn, email, &id.to_string(), Some(account), &news, now).await?;
    let entry = by.did("member.invited", Some(account), id, now);
    audit::record(conn, &entry.changed(None, Some(json!({ "role": invitee.role })))).await?;
    Ok(Invited::New(id))
}

/// Which of the addresses are those of members.
async fn members_among(
    conn: &mut PgConnection,
    account: AccountId,
    emails: &[String],
) -> Result<HashSet<String>, sqlx::Error> {
    let found = sqlx::query_scalar!(
        r#"select u.email as "email!" from members m join users u on u.id = m.user_id
           where m.account_id = $1 and u.email = any ($2)"#,
        account.0,
        emails
    )
    .fetch_all(conn)
    .await?;
    Ok(found.into_iter().collect())
}

/// Which of the addresses were invited and can still accept.
async fn invited_among(
    conn: &mut PgConnection,
    account: AccountId,
    emails: &[String],
    now: DateTime<Utc>,
) -> Result<HashSet<String>, sqlx::Error> {
    let found = sqlx::query_scalar!(
        r#"select email as "email!" from invitations
           where account_id = $1 and email = any ($2) and accepted_at is null and revoked_at is null and expires_at > $3"#,
        account.0,
        emails,
        now,
    )
    .fetch_all(conn)
    .await?;
    Ok(found.into_iter().collect())
}

/// Makes room where an invitation was not accepted in time.
async fn clear_expired(
    conn: &mut PgConnection,
    account: AccountId,
    emails: &[String],
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update invitations set revoked_at = $3
         where account_id = $1 and email = any ($2) and accepted_at is null and revoked_at is null and expires_at <= $3",
        account.0,
        emails,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes an invitation back; its link opens nothing any more.
///
/// # Errors
/// [`MemberError`]; on any of them nothing changed.
pub async fn revoke_invitation(
    db: &PgPool,
    caller: &Caller,
    invitation: InvitationId,
    by: &By,
    now: DateTime<Utc>,
) -> Result<(), MemberError> {
    let mut tx = db.begin().await?;
    let revoked = sqlx::query_scalar!(
        "update invitations set revoked_at = $3
         where id = $1 and account_id = $2 and accepted_at is null and revoked_at is null
         returning role",
        invitation.0,
        caller.account.0,
        now,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let role = revoked.as_deref().and_then(Role::from_word).ok_or(MemberError::Unknown)?;
    if !Reach::of(&mut tx, caller).await?.covers(role) {
        return Err(MemberError::NotAllowed);
    }
    let entry = by.did("member.invitation_revoked", Some(caller.account), invitation, now);
    audit::record(&mut *tx, &entry.changed(Some(json!({ "role": role })), None)).await?;
    Ok(tx.commit().await?)
}
