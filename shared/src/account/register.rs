//! How people come to us: registration.
//!
//! A registration makes the person, their account, their consent and the mail to prove the address, or none of them. As long
//! as nobody has proved an address, the last registration with it counts, so that nobody can be there before its owner. Whoever
//! registers learns nothing about an address that is known: its owner is told instead. Nobody gets in, and no tokens are
//! given, before the address is proved (`verify.rs`).

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{PgConnection, PgPool};

use super::{
    audit::{self, By, Who},
    consent,
    email::Email,
    link::{Post, Purpose, send_link, void_links},
    origin::Origin,
};
use crate::{
    id::{AccountId, UserId},
    mail::News,
};

/// Someone who wants to join, everything checked. Not to be shown in logs, so there is no `Debug`.
pub struct Registration {
    /// Their address.
    pub email: Email,
    /// Hash of their password.
    pub password_hash: String,
    /// What the account is called: the company or the person.
    pub name: String,
    /// What the account says of itself.
    pub description: Option<String>,
    /// Its website.
    pub website: Option<String>,
    /// Its phone.
    pub phone: Option<String>,
    /// Its postal address.
    pub address: Option<String>,
    /// The version they agreed to of how we treat personal data.
    pub consent_version: String,
}

/// Registers someone, or tells the owner of a known address that somebody tried. Which of the two is not the caller's to
/// know.
///
/// # Errors
/// When the database fails.
pub async fn register(
    db: &PgPool,
    post: &Post<'_>,
    who: &Registration,
    origin: &Origin,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let mut tx = db.begin().await?;
    let fresh = UserId::new();
    let new = sqlx::query!(
        "insert into users (id, email, name, password_hash, created_at) values ($1, $2, $3, $4, $5)
         on conflict (email) do nothing",
        fresh.0,
        who.email.as_str(),
        who.name,
        who.password_hash,
        now,
    )
    .execute(&mut *tx)
    .await?;
    let user =
        if new.rows_affected() == 1 { Some(fresh) } else { begin_anew(&mut tx, who, origin, now).await? };
    let Some(user) = user else {
        tell_owner(&mut tx, post, &who.email, now).await?;
        return tx.commit().await;
    };
    let account = match own_account(&mut tx, user).await? {
        Some(account) => describe(&mut tx, account, who).await?,
        None => open_for(&mut tx, who, user, now).await?,
    };
    consent::record(&mut tx, user, &who.consent_version, now).await?;
    send_link(&mut tx, post, Purpose::VerifyEmail, user, who.email.as_str(), now).await?;
    let by = origin.person(user);
    audit::record(&mut *tx, &by.did("account.registered", Some(account), account, now)).await?;
    tx.commit().await
}

/// Puts a registration in the place of one that nobody proved, and of a person who belongs to no account any more: the
/// password of whoever came last counts, and no earlier link proves it. `None`: someone can log in with this address.
async fn begin_anew(
    conn: &mut PgConnection,
    who: &Registration,
    origin: &Origin,
    now: DateTime<Utc>,
) -> Result<Option<UserId>, sqlx::Error> {
    let known = sqlx::query!(
        r#"select id as "id: UserId", email_verified_at is not null as "verified!", operator_role, created_at
           from users where email = $1 for no key update"#,
        who.email.as_str(),
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(known) = known else { return Ok(None) };
    // Looked up only now that nobody can join or leave: both lock the person.
    let belongs = sqlx::query_scalar!(
        r#"select exists (select from members where user_id = $1) as "belongs!""#,
        known.id.0
    )
    .fetch_one(&mut *conn)
    .await?;
    if known.verified && belongs {
        return Ok(None);
    }
    if !known.verified {
        // What somebody agreed to under an address they never proved, nobody agreed to.
        sqlx::query!(
            "delete from consents where user_id = $1 and given_at >= $2",
            known.id.0,
            known.created_at
        )
        .execute(&mut *conn)
        .await?;
    }
    sqlx::query!(
        "update users
         set name = $2, password_hash = $3, created_at = $4, operator_role = null, email_verified_at = null, left_at = null
         where id = $1",
        known.id.0,
        who.name,
        who.password_hash,
        now,
    )
    .execute(&mut *conn)
    .await?;
    void_links(&mut *conn, Purpose::VerifyEmail, known.id, now).await?;
    if let Some(role) = known.operator_role {
        // Nobody comes back as an operator by registering.
        let by = By { who: Who::Scheduler, ..origin.person(known.id) };
        let (before, after) = (json!({ "operator_role": role }), json!({ "operator_role": null }));
        let entry = by.did("user.operator_role_set", None, known.id, now).changed(Some(before), Some(after));
        audit::record(&mut *conn, &entry).await?;
    }
    Ok(Some(known.id))
}

/// The account that somebody opened by an earlier registration with the same address.
async fn own_account(conn: &mut PgConnection, user: UserId) -> Result<Option<AccountId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select m.account_id as "account: AccountId"
           from members m join accounts a on a.id = m.account_id and a.status in ('active', 'suspended')
           where m.user_id = $1 and m.role = 'owner'
           order by m.created_at limit 1"#,
        user.0
    )
    .fetch_optional(conn)
    .await
}

/// Has an account say of itself what `who` says, and nothing else.
async fn describe(
    conn: &mut PgConnection,
    account: AccountId,
    who: &Registration,
) -> Result<AccountId, sqlx::Error> {
    sqlx::query!(
        "update accounts set name = $2, description = $3, website = $4, phone = $5, address = $6 where id = $1",
        account.0,
        who.name,
        who.description,
        who.website,
        who.phone,
        who.address,
    )
    .execute(conn)
    .await?;
    Ok(account)
}

/// The account of someone new, with them as its owner.
async fn open_for(
    conn: &mut PgConnection,
    who: &Registration,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<AccountId, sqlx::Error> {
    let account = AccountId::new();
    sqlx::query!(
        "insert into accounts (id, name, description, website, phone, address, created_at)
         values ($1, $2, $3, $4, $5, $6, $7)",
        account.0,
        who.name,
        who.description,
        who.website,
        who.phone,
        who.address,
        now,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into members (account_id, user_id, role, created_at) values ($1, $2, 'owner', $3)",
        account.0,
        user.0,
        now,
    )
    .execute(conn)
    .await?;
    Ok(account)
}

/// Tells whoever reads an address that somebody tried to register with it; once a day is enough.
async fn tell_owner(
    conn: &mut PgConnection,
    post: &Post<'_>,
    email: &Email,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let known =
        sqlx::query_scalar!(r#"select id as "id: UserId" from users where email = $1"#, email.as_str())
            .fetch_optional(&mut *conn)
            .await?;
    let Some(user) = known else { return Ok(()) };
    let reference = format!("{user}:{}", now.date_naive());
    let news = News::AlreadyRegistered { link: format!("{}/v1/auth/password/forgot", post.public_url) };
    post.write(conn, email.as_str(), &reference, None, &news, now).await
}
