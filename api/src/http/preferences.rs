//! Where an account wants its jobs made, as far as they do not say: seen by everyone in it, set by whoever may change it.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    ApiError, Ctx,
    access::{By, Caller},
    request::Body,
};
use shared::{
    account::{self, Preferences},
    catalog::Catalog,
    job::Routing,
};

/// Most models with wishes of their own: more than there are, and what is read with every request stays small.
const MODELS_MAX: usize = 200;

/// What an account wishes for its jobs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Preferences)]
pub struct PreferencesView {
    #[schema(pattern = "^preferences$")]
    object: &'static str,
    /// For all of them.
    default: Routing,
    /// For those of a model, by its public name; before what is wished for all.
    models: BTreeMap<String, Routing>,
}

/// What the account wishes.
#[utoipa::path(
    get,
    path = "/v1/account/preferences",
    responses((status = 200, description = "The wishes", body = PreferencesView))
)]
pub async fn show(Caller(caller): Caller) -> Result<Json<PreferencesView>, ApiError> {
    Ok(Json(of(&caller)?.into()))
}

/// Sets what the account wishes, in place of all it wished before.
#[utoipa::path(
    put,
    path = "/v1/account/preferences",
    request_body = Preferences,
    responses((status = 200, description = "The wishes as they are now", body = PreferencesView))
)]
pub async fn set(
    State(ctx): State<Ctx>,
    Caller(caller): Caller,
    By(by): By,
    body: Body<Preferences>,
) -> Result<Json<PreferencesView>, ApiError> {
    let mut new = body.value;
    check(&ctx.catalog, &new)?;
    new.models.retain(|_, routing| !routing.is_empty());
    if !account::set_preferences(&ctx.db, caller.account, &new, &by, ctx.clock.now()).await? {
        return Err(ApiError::internal());
    }
    tracing::info!(account.id = %caller.account, "preferences of {} set", caller.account);
    Ok(Json(new.into()))
}

/// What the account of a caller wishes.
///
/// # Errors
/// 500 when it cannot be read: rather no job than one by a provider that its owner ruled out.
pub fn of(caller: &account::Caller) -> Result<Preferences, ApiError> {
    caller.preferences().map_err(|error| {
        tracing::error!(account.id = %caller.account, %error, "preferences of {} cannot be read", caller.account);
        ApiError::internal()
    })
}

impl From<Preferences> for PreferencesView {
    fn from(Preferences { default, models }: Preferences) -> Self {
        Self { object: "preferences", default, models }
    }
}

/// Refuses models and providers that there are not.
fn check(catalog: &Catalog, preferences: &Preferences) -> Result<(), ApiError> {
    if preferences.models.len() > MODELS_MAX {
        let message = format!("models has at most {MODELS_MAX} entries");
        return Err(ApiError::bad_request("invalid_list", "models", message));
    }
    check_providers(catalog, "default", &preferences.default)?;
    for (model, routing) in &preferences.models {
        let param = format!("models.{model}");
        if catalog.get(model).is_none() {
            let message = format!("there is no model {model:?}; GET /v1/models lists those there are");
            return Err(ApiError::bad_request("model_not_found", param, message));
        }
        check_providers(catalog, &param, routing)?;
    }
    Ok(())
}

fn check_providers(catalog: &Catalog, param: &str, routing: &Routing) -> Result<(), ApiError> {
    let known = catalog.providers();
    for (field, names) in [("only", &routing.only), ("order", &routing.order), ("ignore", &routing.ignore)] {
        if let Some(unknown) = names.iter().find(|name| !known.contains(name.as_str())) {
            let known: Vec<_> = known.into_iter().collect();
            let message = format!("there is no provider {unknown:?}; there are {}", known.join(", "));
            return Err(ApiError::bad_request("provider_not_found", format!("{param}.{field}"), message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check_read(preferences: Value) -> Result<(), String> {
        let catalog = Catalog::load().unwrap();
        let preferences: Preferences = serde_json::from_value(preferences).unwrap();
        check(&catalog, &preferences).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn what_there_is_may_be_wished_and_what_there_is_not_is_named() {
        let good = json!({ "default": { "ignore": ["fal"] }, "models": { "flux": { "order": ["replicate", "fal"] }, "kling": {} } });
        check_read(good).unwrap();
        let many: Value = (0..201).map(|n| (format!("m{n}"), json!({}))).collect();
        for (preferences, code, param) in [
            (json!({ "default": { "only": ["fal", "acme"] } }), "provider_not_found", "default.only"),
            (
                json!({ "models": { "flux": { "order": ["acme"] } } }),
                "provider_not_found",
                "models.flux.order",
            ),
            (
                json!({ "models": { "flux": { "ignore": ["FAL"] } } }),
                "provider_not_found",
                "models.flux.ignore",
            ),
            (json!({ "models": { "flux-9": {} } }), "model_not_found", "models.flux-9"),
            (json!({ "models": many }), "invalid_list", "models"),
        ] {
            let error = check_read(preferences.clone()).unwrap_err();
            assert!(error.contains(&format!("{code:?}")) && error.contains(&format!("{param:?}")), "{error}");
        }
    }
}
