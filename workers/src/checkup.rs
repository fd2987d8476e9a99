//! Asking the vendors about our keys: whether they work, and what is left on their accounts.
//!
//! What is due is in the database; see [`shared::provider::mark_due`]. Operators are told by mail when a key is refused and when
//! an account runs low, once each.

use std::time::Duration;

use rust_decimal::Decimal;

use crate::{
    Ctx,
    keychain::Key,
    providers::{Checkup, Credit, ErrorClass},
};
use shared::{
    mail::{self, Letter, News},
    process::Process,
    provider::{self, Finding, REFUSALS_MAX},
    wake::{self, Wake},
};

/// How often keys that are due are looked for without a hint.
const LOOK: Duration = Duration::from_secs(15);

/// Longest wait for a vendor's word.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Asks about keys that are due, until `process` stops.
pub fn start(ctx: &Ctx, process: &Process) {
    let (ctx, watched) = (ctx.clone(), process.clone());
    process.spawn(async move {
        let mut hints = ctx.wakes.listen();
        while wake::rest(&mut hints, LOOK, &watched, |wake| wake == Wake::Providers).await {
            if let Err(error) = run(&ctx).await {
                tracing::warn!(%error, "keys at the providers not asked about; trying again");
            }
        }
    });
}

/// Asks about every key that is due and that this process has; says how many.
///
/// # Errors
/// When the database fails; the rest is asked about later.
pub async fn run(ctx: &Ctx) -> Result<usize, sqlx::Error> {
    let ours = ctx.keychain.all();
    let ids: Vec<_> = ours.iter().map(|(_, key)| key.id).collect();
    let due = provider::take_due(&ctx.db, &ids, ctx.clock.now()).await?;
    for due in &due {
        let Some((_, key)) = ours.iter().find(|(_, key)| key.id == due.id) else { continue };
        let finding = ask(ctx, &due.provider, key).await;
        let change = provider::record(&ctx.db, key.id, &finding, ctx.clock.now()).await?;
        metrics::counter!("kiln_provider_key_checks_total", "provider" => due.provider.clone(), "found" => word(&finding)).increment(1);
        if change.was_disabled || change.was_enabled {
            tracing::warn!(key.id = %key.id, provider.name = due.provider, ?finding, "a key of {} is {}", due.provider,
                           if change.was_enabled { "used again" } else { "not used any more" });
        }
        if change.was_disabled || change.is_low {
            tell(ctx, &due.provider, key, &finding).await;
        }
    }
    if !due.is_empty() {
        ctx.keychain.changed().await;
    }
    Ok(due.len())
}

fn word(finding: &Finding) -> &'static str {
    match finding {
        Finding::Works { .. } => "works",
        Finding::Refused(_) => "refused",
        Finding::NoQuestion => "no_question",
        Finding::Unknown => "unknown",
    }
}

async fn ask(ctx: &Ctx, provider: &str, key: &Key) -> Finding {
    let Some(adapter) = ctx.providers.get(provider) else { return Finding::Unknown };
    match tokio::time::timeout(TIMEOUT, adapter.check(&key.secret)).await {
        Ok(Ok(Some(Checkup { credit }))) => {
            if let Some(Credit { amount, unit }) = &credit {
                gauge(provider, key, *amount, unit);
            }
            Finding::Works { credit: credit.map(|credit| (credit.amount, credit.unit)) }
        }
        Ok(Err(error)) if error.class == ErrorClass::Auth => Finding::Refused(error.message),
        Ok(Ok(None)) => Finding::NoQuestion,
        // Without money it is still a key that works; its rest goes on.
        Ok(Err(_)) | Err(_) => Finding::Unknown,
    }
}

fn gauge(provider: &str, key: &Key, amount: Decimal, unit: &str) {
    let labels = [("provider", provider.to_owned()), ("key", key.id.to_string()), ("unit", unit.to_owned())];
    metrics::gauge!("kiln_provider_credit", &labels).set(f64::try_from(amount).unwrap_or(0.0));
}

async fn tell(ctx: &Ctx, provider: &str, key: &Key, finding: &Finding) {
    let Some(recipient) = &ctx.operator_email else { return };
    let what = match finding {
        Finding::Works { credit: Some((amount, unit)) } => format!("its account has {amount} {unit} left"),
        Finding::Refused(why) => format!("the provider refuses it, so it is not used: {why}"),
        Finding::NoQuestion => format!(
            "the provider refused work with it {REFUSALS_MAX} times in a row and cannot be asked about it, so it is not used until \
             you switch it on again"
        ),
        Finding::Works { credit: None } | Finding::Unknown => return,
    };
    let now = ctx.clock.now();
    let news = News::ProviderKey { provider: provider.to_owned(), key: key.id.to_string(), what };
    let reference = format!("{}:{}:{}", key.id, word(finding), now.timestamp());
    let letter = Letter { reference: &reference, account: None, recipient, news: &news };
    if let Err(error) = mail::queue(&ctx.db, &ctx.sealer, &letter, now).await {
        tracing::warn!(%error, "operators not told of a key");
    }
}
