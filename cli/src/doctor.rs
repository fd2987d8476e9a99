//! `kiln doctor`: is everything there that the environment promises, and if not, what would mend it?
//!
//! Tries each thing for real: a file is written, read and deleted, the database is asked, providers are called at their
//! door. It changes nothing that lasts and moves no tokens.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use shared::{
    billing,
    catalog::Catalog,
    clock::{Clock, SystemClock},
    config, db,
    id::FileId,
    provider,
    storage::Storage,
};
use sqlx::PgPool;
use workers::{
    config::{Door, Moderation, Vendors},
    providers::VENDORS,
};

/// Longest wait for any one thing.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How far our clock may be from the database's: leases and signatures tolerate no more than some seconds.
const SKEW_SECS_MAX: i64 = 2;

/// One thing looked at.
struct Finding {
    what: String,
    result: anyhow::Result<String>,
    mend: &'static str,
}

/// Looks at everything, prints a line each, and says whether all is well.
///
/// # Errors
/// Only when nothing can be printed or TLS cannot be set up.
pub async fn run() -> anyhow::Result<bool> {
    let mut findings = vec![identity(), catalogue()];
    let mend = "set KILN_DATABASE_URL to a Postgres that runs and lets this user in";
    let (found, db) = look("database", mend, connect()).await;
    findings.push(found);
    if let Some(db) = &db {
        findings.push(look_text("migrations", "run `kiln migrate`", migrations(db)).await);
        findings.push(look_text("clock", "set this machine's clock by NTP", clock(db)).await);
        findings.push(look_text("ledger", "see docs/RUNBOOK.md, money drift", ledger(db)).await);
    }
    let mend = "set S3_ENDPOINT, S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY and S3_BUCKET, and make the bucket";
    findings.push(look_text("storage", mend, Box::pin(storage())).await);
    findings.extend(providers().await?);
    let mend =
        "set KILN_MODERATION and its lists as .env.example says, and the key of a vendor that it names";
    findings.push(look_text("moderation", mend, moderation(db.as_ref())).await);
    let well = findings.iter().all(|finding| finding.result.is_ok());
    for finding in &findings {
        match &finding.result {
            Ok(word) => println!("ok    {:<20} {word}", finding.what),
            Err(error) => {
                println!("BAD   {:<20} {error:#}\n      {:<20} mend: {}", finding.what, "", finding.mend)
            }
        }
    }
    println!("{}", if well { "all is well" } else { "not all is well" });
    Ok(well)
}

async fn look<T>(
    what: &str,
    mend: &'static str,
    doing: impl Future<Output = anyhow::Result<(String, T)>>,
) -> (Finding, Option<T>) {
    let (result, found) = match tokio::time::timeout(TIMEOUT, doing).await {
        Ok(Ok((word, found))) => (Ok(word), Some(found)),
        Ok(Err(error)) => (Err(error), None),
        Err(_) => (Err(anyhow::anyhow!("no answer within {} s", TIMEOUT.as_secs())), None),
    };
    (Finding { what: what.to_owned(), result, mend }, found)
}

async fn look_text(
    what: &str,
    mend: &'static str,
    doing: impl Future<Output = anyhow::Result<String>>,
) -> Finding {
    look(what, mend, async { Ok((doing.await?, ())) }).await.0
}

fn identity() -> Finding {
    let result =
        config::Identity::from_env().map(|identity| format!("callers reach us at {}", identity.public_url));
    Finding { what: "identity".into(), result, mend: "set KILN_SECRET and KILN_PUBLIC_URL" }
}

fn catalogue() -> Finding {
    let result = Catalog::load().map(|catalog| format!("{} models are on offer", catalog.models().len()));
    let mend = "mend the file that is named, in the folder that KILN_CATALOG names";
    Finding { what: "catalogue".into(), result, mend }
}

async fn connect() -> anyhow::Result<(String, PgPool)> {
    let db = db::connect(&config::Database::from_env()?, "doctor").await?;
    let version = db::version(&db).await?;
    Ok((format!("PostgreSQL {version}"), db))
}

async fn migrations(db: &PgPool) -> anyhow::Result<String> {
    ensure!(db::is_migrated(db).await?, "the schema is older than this program");
    Ok(format!("up to {}", db::MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)))
}

async fn clock(db: &PgPool) -> anyhow::Result<String> {
    let theirs: DateTime<Utc> = db::now(db).await?;
    let skew = (SystemClock.now() - theirs).num_seconds().abs();
    ensure!(skew <= SKEW_SECS_MAX, "this machine and the database differ by {skew} s");
    Ok("agrees with the database's".into())
}

async fn ledger(db: &PgPool) -> anyhow::Result<String> {
    let drifted = billing::audit(db).await?;
    ensure!(
        drifted.is_empty(),
        "{} accounts have drifted, the first is {}",
        drifted.len(),
        drifted[0].account
    );
    Ok("balances and holds agree with the book".into())
}

async fn storage() -> anyhow::Result<String> {
    let settings = config::Storage::from_env()?;
    let storage = Storage::new(&settings);
    let key = format!("doctor/{}", FileId::new());
    storage.put_bytes(&key, Bytes::from_static(b"kiln"), "text/plain").await?;
    let read = storage.get_bytes(&key, 4).await;
    let url = storage.signed_url(&key).await?;
    let signed = workers::Web::new(true)?.get(&url).map_err(anyhow::Error::msg)?.send().await;
    storage.delete(&key).await?;
    ensure!(read? == "kiln", "what was read is not what was written");
    let status =
        signed.with_context(|| format!("fetch a signed URL from {}", settings.public_endpoint))?.status();
    ensure!(
        status.is_success(),
        "a signed URL answered {status}; is S3_PUBLIC_ENDPOINT the address callers reach?"
    );
    Ok(format!("wrote, read, signed and deleted in {} at {}", settings.bucket, settings.endpoint))
}

async fn providers() -> anyhow::Result<Vec<Finding>> {
    let vendors = Vendors::from_env();
    let mend = "set a provider's key (see .env.example), or KILN_SIMULATOR_URL to try things out";
    let mut findings = Vec::new();
    if vendors.0.is_empty() {
        let result = Err(anyhow::anyhow!("no provider's key is set, so nearly every job fails"));
        findings.push(Finding { what: "providers".into(), result, mend });
    }
    for vendor in VENDORS {
        let result = reach(vendors.get(vendor.name));
        findings.push(look_text(&format!("provider {}", vendor.name), mend, result).await);
    }
    Ok(findings)
}

/// Who judges what is asked for, if a worker of this environment can be started.
async fn moderation(db: Option<&PgPool>) -> anyhow::Result<String> {
    let mut keys: Vec<_> =
        Vendors::from_env().keys().iter().map(|(vendor, _)| (*vendor).to_owned()).collect();
    if let Some(db) = db {
        keys.extend(provider::keys(db).await?.into_iter().map(|key| key.provider));
    }
    let judges = Moderation::from_env()?.check(keys.iter().any(|vendor| vendor == "openai"))?;
    Ok(if judges.is_empty() {
        "off: nothing is judged before it is made".into()
    } else {
        format!("what is asked for is judged by {}", judges.join(" and "))
    })
}

/// Any answer at all will do: the door is there. A key is proved only by paid work. Not every deployment uses every vendor,
/// so one without a key is no fault.
async fn reach(door: Option<&Door>) -> anyhow::Result<String> {
    let Some(Door { base_url, simulated, .. }) = door else {
        return Ok("not set up: jobs for its models fail until its key is set".into());
    };
    let asked = workers::vendor_client()?.get(base_url).timeout(TIMEOUT).send().await;
    asked.map_err(reqwest::Error::without_url).with_context(|| format!("reach {base_url}"))?;
    let which = if *simulated { "no key is set, the simulator stands in:" } else { "a key is set," };
    Ok(format!("{which} {base_url} answers"))
}
