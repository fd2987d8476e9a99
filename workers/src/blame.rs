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
};
use shared::{
    job::{Claimed, Output},
    provider::{self, Cause},
};

/// Whether a failure of this class is the key's: another may do better.
pub fn is_keys(class: ErrorClass) -> bool {
    cause(class).is_some()
}

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

/// A submit failed.
pub async fn submit(ctx: &Ctx, claimed: &Claimed, key: Option<&Key>, error: &ProviderError) {
    if is_providers(error.class) {
        ctx.health.failed(&claimed.provider, &claimed.upstream_model);
    }
    let (Some(key), Some(cause)) = (key, cause(error.class)) else { return };
    // An account without money makes nothing at all; a key may be too busy for one model, or have no right to it.
    let scope = if cause == Cause::Quota { "" } else { &claimed.upstream_model };
    let now = ctx.clock.now();
    match provider::cool_down(&ctx.db, key.id, scope, cause, error.retry_after, now).await {
        Ok(until) => {
            tracing::warn!(key.id = %key.id, provider.name = claimed.provider, model = scope, why = cause.word(), ?until, "a key of {} rests", claimed.provider);
            metrics::counter!("kiln_provider_key_rests_total", "provider" => claimed.provider.clone(), "why" => cause.word()).increment(1);
        }
        Err(error) => tracing::warn!(key.id = %key.id, %error, "a key that should rest does not"),
    }
    if cause != Cause::RateLimited
        && let Err(error) = provider::ask_soon(&ctx.db, key.id, now).await
    {
        tracing::warn!(key.id = %key.id, %error, "a key in doubt is not asked about");
    }
    ctx.keychain.changed().await;
}

/// Asking for a task failed. Only a verdict says something of the route: one look that fails is made good by the next.
pub fn task(ctx: &Ctx, claimed: &Claimed, error: &ProviderError) {
    if matches!(error.class, ErrorClass::Failed | ErrorClass::Broken) {
        ctx.health.failed(&claimed.provider, &claimed.upstream_model);
    }
}

/// A result came, `took` after its submit, and was kept or could not be.
pub fn result(ctx: &Ctx, claimed: &Claimed, kept: &Result<Output, ResultError>, took: Duration) {
    match kept {
        Ok(_) => ctx.health.succeeded(&claimed.provider, &claimed.upstream_model, took),
        Err(ResultError::Unusable(_)) => ctx.health.failed(&claimed.provider, &claimed.upstream_model),
        // It may still come, or the trouble is ours.
        Err(ResultError::Download(_) | ResultError::Storage(_)) => {}
    }
}
