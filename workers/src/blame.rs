//! Whose fault a failure is: the key's, which rests then, or the route's, whose standing falls.
//!
//! What the input or its content is to blame for counts against nobody. Writing it down is worth no failure of a job: where the
//! database is away, the next failure says it again.

use std::time::Duration;

use crate::{
    Ctx,
    keychain::Key,
    providers::{ErrorClass, ProviderError},
    result::ResultError,
    run::Entry,
};
use shared::{
    job::{Checkpoint, Claimed, Output},
    provider::Cause,
};

/// Whether a failure of this class is the key's: another may do better.
pub fn is_keys(class: ErrorClass) -> bool {
    cause(class).is_some()
}

/// Why a key rests after a failure of this class.
fn cause(class: ErrorClass) -> Option<Cause> {
    match class {
        ErrorClass::RateLimited => Some(Cause::RateLimited),
        ErrorClass::Quota => Some(Cause::Quota),
        ErrorClass::Auth => Some(Cause::Auth),
        _ => None,
    }
}

/// Whether a failure of this class is the provider's own.
fn is_providers(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::Unavailable | ErrorClass::Ambiguous | ErrorClass::Failed | ErrorClass::Broken)
}

/// A submit failed, which had come in like this.
pub async fn submit(ctx: &Ctx, claimed: &Claimed, entry: &Entry, error: &ProviderError) {
    let (provider, model) = (&claimed.provider, &claimed.upstream_model);
    if is_providers(error.class) {
        ctx.health.failed(provider, model);
    } else if entry.is_probe {
        ctx.health.release(provider, model).await;
    }
    if let Some(used) = &entry.key {
        key(ctx, provider, used, model, error).await;
    }
}

/// A call failed that was made with this key. Where that is the key's fault, it rests.
pub async fn key(ctx: &Ctx, provider: &str, key: &Key, model: &str, error: &ProviderError) {
    let Some(cause) = cause(error.class) else { return };
    // An account without money makes nothing at all; a key may be too busy for one model, or have no right to it.
    let scope = if cause == Cause::Quota { "" } else { model };
    ctx.keychain.rest(provider, key, scope, cause, error.retry_after).await;
}

/// Asking for a task failed. Only a verdict says something of the route: one look that fails is made good by the next.
pub fn task(ctx: &Ctx, claimed: &Claimed, error: &ProviderError) {
    if matches!(error.class, ErrorClass::Failed | ErrorClass::Broken) {
        ctx.health.failed(&claimed.provider, &claimed.upstream_model);
    }
}

/// A job's time was over while its task was under way. That counts if the provider had at least half of the time that the model is
/// given: a job that came there late, or that its owner gave less, says nothing of it. Nor does one whose result was made and is
/// not here, as below.
pub fn overdue(ctx: &Ctx, claimed: &Claimed) {
    let Ok(Some(Checkpoint::Pending { misses, .. })) = &claimed.checkpoint else { return };
    let (Some(model), Some(begun)) = (ctx.catalog.known(&claimed.model), claimed.begun_at) else { return };
    let had = (ctx.clock.now() - begun).to_std().unwrap_or_default();
    if misses.undelivered == 0 && had >= model.deadline / 2 {
        ctx.health.failed(&claimed.provider, &claimed.upstream_model);
    }
}

/// A result came, `took` after its submit, and was kept or could not be.
pub fn result(ctx: &Ctx, claimed: &Claimed, kept: &Result<Output, ResultError>, took: Duration) {
    match kept {
        Ok(_) => ctx.health.succeeded(&claimed.provider, &claimed.upstream_model, took),
        Err(ResultError::Unusable(_)) => ctx.health.failed(&claimed.provider, &claimed.upstream_model),
        // It may still come, or the trouble is ours.
        Err(ResultError::Download(_) | ResultError::Forbidden(_) | ResultError::Storage(_)) => {}
    }
}
