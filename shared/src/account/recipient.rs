//! How often someone is written to because somebody else named their address: counted per address, so that nobody fills a
//! stranger's mailbox through us, by whatever number of accounts.
//!
//! What was written is counted, whatever becomes of it afterwards: taking an invitation back does not make room for another.
//! Only the hash of an address is kept. Deliberately absent: mails that are asked for at the front door, which counts them.

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use sqlx::PgPool;

use super::{email::Email, token};
use crate::{
    id::AccountId,
    rate::{self, Quota, Take},
};

/// Registrations with one address: each sends a mail, and nobody needs more tries to spell their own name.
const REGISTRATIONS: Quota = Quota { limit: 10, per: TimeDelta::days(1) };
/// Invitations that one account may send to one address: one, and two more for those who overlook it.
const INVITATIONS: Quota = Quota { limit: 3, per: TimeDelta::days(1) };
/// Invitations that all accounts together may send to one address.
const INVITATIONS_OF_ALL: Quota = Quota { limit: 5, per: TimeDelta::days(1) };

const REGISTERED: &str = "registration_mails";
const INVITED: &str = "invitation_mails";

/// Counts a registration with an address, whether it is known or not.
///
/// # Errors
/// When the database fails.
pub async fn count_registration(db: &PgPool, email: &Email, now: DateTime<Utc>) -> Result<Take, sqlx::Error> {
    rate::take(db, REGISTERED, &name(email), REGISTRATIONS, now).await
}

/// Counts an invitation that `account` is about to send; `false`: the address has had enough of them.
pub(super) async fn count_invitation(
    db: &PgPool,
    account: AccountId,
    email: &Email,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let (own, all) = (name_for(account, email), name(email));
    let taken = |take| matches!(take, Take::Taken(_));
    if !taken(rate::take(db, INVITED, &own, INVITATIONS, now).await?) {
        return Ok(false);
    }
    if taken(rate::take(db, INVITED, &all, INVITATIONS_OF_ALL, now).await?) {
        return Ok(true);
    }
    rate::give_back(db, INVITED, &own, INVITATIONS).await?;
    Ok(false)
}

/// Gives back what was counted for an invitation that was not sent after all.
pub(super) async fn give_back_invitation(
    db: &PgPool,
    account: AccountId,
    email: &Email,
) -> Result<(), sqlx::Error> {
    rate::give_back(db, INVITED, &name_for(account, email), INVITATIONS).await?;
    rate::give_back(db, INVITED, &name(email), INVITATIONS_OF_ALL).await
}

fn name(email: &Email) -> String {
    token::name(&Sha256::digest(email.as_str().as_bytes()))
}

fn name_for(account: AccountId, email: &Email) -> String {
    format!("{account}:{}", name(email))
}
