//! Every route on one page.

mod account;
mod account_view;
mod admin;
mod audit;
mod auth;
mod auth_view;
mod billing;
mod callbacks;
mod deliveries;
mod docs;
mod endpoints;
mod feedback;
mod fields;
mod files;
mod health;
mod jobs;
mod key_view;
mod keys;
mod members;
mod models;
mod openapi;
mod order;
mod pages;
mod password;
mod preferences;
mod prices;
mod privacy;
mod reports;
mod retry;
mod roster;
mod route;
mod routing;
mod submission;
mod telemetry;
mod transactions;
mod upload;
mod usage;
mod webhooks;

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use axum::{
    Extension, Router,
    extract::DefaultBodyLimit,
    middleware,
    response::{IntoResponse, Response},
};
use http::HeaderName;
use tokio::net::TcpListener;
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
};

use crate::{
    ApiError, Ctx,
    access::{self, Access},
    limit,
    request::{BodyLimit, JOB_BODY_LIMIT_BYTES},
    uploads::FORM_BYTES_MAX,
};
use route::{Route, api};
use shared::account::Permission;

pub use openapi::document;
pub use route::{Listed, listed};

/// Header that names a request in our logs and in the caller's.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest wait at a stop for requests under way. Waiting ones are answered at once; a client that sends half a request and
/// then nothing must not keep the process.
const DRAIN: Duration = Duration::from_secs(10);

/// Every route, who may use it, and the handler that answers and says what it answers.
fn routes() -> Vec<Route> {
    use Access::{Known, Needs, Person, Public};
    use Permission as P;
    vec![
        Route::post("/v1/jobs", Needs(P::JobsWrite), api!(jobs::create)).with_body(JOB_BODY_LIMIT_BYTES),
        Route::get("/v1/jobs", Needs(P::JobsRead), api!(jobs::list)),
        Route::post("/v1/jobs/quote", Needs(P::JobsWrite), api!(jobs::quote)).with_body(JOB_BODY_LIMIT_BYTES),
        Route::get("/v1/jobs/{id}", Needs(P::JobsRead), api!(jobs::show)),
        Route::get("/v1/jobs/{id}/events", Needs(P::JobsRead), api!(jobs::events)),
        Route::post("/v1/jobs/{id}/cancel", Needs(P::JobsWrite), api!(jobs::cancel)),
        Route::post("/v1/jobs/{id}/retry", Needs(P::JobsWrite), api!(retry::retry)),
        Route::post("/v1/jobs/{id}/feedback", Needs(P::JobsWrite), api!(feedback::give)),
        Route::post("/v1/callbacks/{id}", Public, api!(callbacks::ring)),
        Route::post("/v1/files", Needs(P::JobsWrite), api!(files::create)).with_body(FORM_BYTES_MAX),
        Route::get("/v1/files", Needs(P::JobsRead), api!(files::list)),
        Route::get("/v1/files/{id}", Needs(P::JobsRead), api!(files::show)),
        Route::get("/v1/files/{id}/content", Needs(P::JobsRead), api!(files::content)),
        Route::delete("/v1/files/{id}", Needs(P::JobsWrite), api!(files::remove)),
        Route::post("/v1/webhook-endpoints", Needs(P::WebhooksWrite), api!(endpoints::create)),
        Route::get("/v1/webhook-endpoints", Needs(P::WebhooksRead), api!(endpoints::list)),
        Route::get("/v1/webhook-endpoints/public-key", Public, api!(endpoints::public_key)),
        Route::get("/v1/webhook-endpoints/{id}", Needs(P::WebhooksRead), api!(endpoints::show)),
        Route::patch("/v1/webhook-endpoints/{id}", Needs(P::WebhooksWrite), api!(endpoints::change)),
        Route::delete("/v1/webhook-endpoints/{id}", Needs(P::WebhooksWrite), api!(endpoints::delete)),
        Route::post("/v1/webhook-endpoints/{id}/rotate", Needs(P::WebhooksWrite), api!(endpoints::rotate)),
        Route::post("/v1/webhook-endpoints/{id}/test", Needs(P::WebhooksWrite), api!(endpoints::test)),
        Route::get("/v1/webhook-deliveries", Needs(P::WebhooksRead), api!(deliveries::list)),
        Route::get("/v1/webhook-deliveries/{id}", Needs(P::WebhooksRead), api!(deliveries::show)),
        Route::post("/v1/webhook-deliveries/{id}/replay", Needs(P::WebhooksWrite), api!(deliveries::replay)),
        Route::get("/v1/models", Known, api!(models::list)),
        Route::get("/v1/models/{id}", Known, api!(models::show)),
        Route::get("/v1/billing/balance", Needs(P::BillingRead), api!(billing::balance)),
        Route::get("/v1/billing/transactions", Needs(P::BillingRead), api!(transactions::list)),
        Route::get("/v1/billing/grants", Needs(P::BillingRead), api!(billing::grants)),
        Route::get("/v1/billing/subscriptions", Needs(P::BillingRead), api!(billing::subscriptions)),
        Route::get("/v1/usage", Needs(P::UsageRead), api!(usage::report)),
        Route::get("/v1/plans", Public, api!(billing::plans)),
        Route::get("/v1/admin/accounts", Needs(P::AdminAccountsRead), api!(admin::accounts)),
        Route::get("/v1/admin/accounts/{id}", Needs(P::AdminAccountsRead), api!(admin::account)),
        Route::patch("/v1/admin/accounts/{id}", Needs(P::AdminTermsWrite), api!(admin::patch_terms)),
        Route::put("/v1/admin/accounts/{id}/status", Needs(P::AdminAccountsWrite), api!(admin::set_status)),
        Route::post(
            "/v1/admin/accounts/{id}/subscriptions",
            Needs(P::AdminTokensWrite),
            api!(admin::subscribe),
        ),
        Route::get("/v1/admin/reports/margin", Needs(P::AdminReportsRead), api!(reports::margin)),
        Route::get("/v1/admin/reports/feedback", Needs(P::AdminReportsRead), api!(reports::feedback)),
        Route::get("/v1/admin/prices", Needs(P::AdminPricesRead), api!(prices::list)),
        Route::get("/v1/admin/prices/{model}", Needs(P::AdminPricesRead), api!(prices::history)),
        Route::put("/v1/admin/prices/{model}", Needs(P::AdminPricesWrite), api!(prices::set)),
        Route::post("/v1/billing/balance", Needs(P::AdminTokensWrite), api!(billing::adjust)),
        Route::post("/v1/auth/register", Public, api!(auth::register)),
        Route::get("/v1/auth/verify", Public, api!(pages::verify)),
        Route::post("/v1/auth/verify", Public, api!(auth::verify)),
        Route::post("/v1/auth/verify/resend", Public, api!(auth::resend)),
        Route::post("/v1/auth/login", Public, api!(auth::login)),
        Route::post("/v1/auth/refresh", Public, api!(auth::refresh)),
        Route::post("/v1/auth/logout", Person, api!(auth::logout)),
        Route::get("/v1/auth/password/forgot", Public, api!(pages::forgot)),
        Route::post("/v1/auth/password/forgot", Public, api!(password::forgot)),
        Route::get("/v1/auth/password/reset", Public, api!(pages::reset)),
        Route::post("/v1/auth/password/reset", Public, api!(password::reset)),
        Route::post("/v1/auth/password/change", Person, api!(password::change)),
        Route::get("/v1/auth/invitations/accept", Public, api!(pages::accept)),
        Route::post("/v1/auth/invitations/accept", Public, api!(auth::accept)),
        Route::get("/v1/me", Person, api!(account::me)),
        Route::patch("/v1/me", Person, api!(account::rename)),
        Route::get("/v1/me/sessions", Person, api!(account::sessions)),
        Route::delete("/v1/me/sessions/{id}", Person, api!(account::end_session)),
        Route::get("/v1/account", Needs(P::AccountRead), api!(account::show)),
        Route::patch("/v1/account", Needs(P::AccountWrite), api!(account::change)),
        Route::get("/v1/account/preferences", Needs(P::AccountRead), api!(preferences::show)),
        Route::put("/v1/account/preferences", Needs(P::AccountWrite), api!(preferences::set)),
        Route::get("/v1/account/consents", Person, api!(account::consents)),
        Route::post("/v1/account/consents", Person, api!(account::consent)),
        Route::get("/v1/account/users", Needs(P::UsersRead), api!(members::list)),
        Route::post("/v1/account/users", Needs(P::UsersWrite), api!(members::invite)),
        Route::post("/v1/account/users/bulk", Needs(P::UsersWrite), api!(members::invite_all))
            .with_body(roster::BYTES_MAX),
        Route::patch("/v1/account/users/{id}", Needs(P::UsersWrite), api!(members::change_role)),
        Route::delete("/v1/account/users/{id}", Needs(P::UsersWrite), api!(members::remove)),
        Route::delete("/v1/account/invitations/{id}", Needs(P::UsersWrite), api!(members::revoke_invitation)),
        Route::post("/v1/api-keys", Needs(P::KeysWrite), api!(keys::create)),
        Route::get("/v1/api-keys", Needs(P::KeysRead), api!(keys::list)),
        Route::get("/v1/api-keys/{id}", Needs(P::KeysRead), api!(keys::show)),
        Route::patch("/v1/api-keys/{id}", Needs(P::KeysWrite), api!(keys::change)),
        Route::post("/v1/api-keys/{id}/rotate", Needs(P::KeysWrite), api!(keys::rotate)),
        Route::delete("/v1/api-keys/{id}", Needs(P::KeysWrite), api!(keys::revoke)),
        Route::delete("/v1/admin/api-keys/{id}", Needs(P::AdminKeysWrite), api!(keys::revoke_any)),
        Route::put(
            "/v1/admin/users/{id}/operator-role",
            Needs(P::AdminOperatorsWrite),
            api!(admin::set_operator_role),
        ),
        Route::get("/v1/account/audit-log", Needs(P::AuditRead), api!(audit::list)),
        Route::post("/v1/account/exports", Needs(P::AccountExport), api!(privacy::order_export)),
        Route::get("/v1/account/exports", Needs(P::AccountExport), api!(privacy::exports)),
        Route::get("/v1/account/exports/{id}", Needs(P::AccountExport), api!(privacy::export)),
        Route::post("/v1/account/erasure", Needs(P::AccountErase), api!(privacy::erase)),
        Route::get("/v1/admin/audit-log", Needs(P::AdminAuditRead), api!(audit::list_all)),
        Route::get("/health/live", Public, api!(health::live)),
        Route::get("/health/ready", Public, api!(health::ready)),
        Route::get("/health/dependencies", Public, api!(health::dependencies)),
        Route::get("/metrics", Public, api!(health::metrics)),
        Route::get("/openapi.json", Public, api!(openapi::show)),
        Route::get("/docs", Public, api!(docs::page)),
        Route::get("/docs/{file}", Public, api!(docs::asset)),
    ]
}

/// The API as a service.
pub fn router(ctx: Ctx) -> Router {
    let guarded = routes().into_iter().fold(Router::new(), |router, route| {
        let guard = middleware::from_fn_with_state((ctx.clone(), route.access), access::guard);
        let limit = (DefaultBodyLimit::max(route.body_limit), Extension(BodyLimit(route.body_limit)));
        router.route(route.path, route.handler.layer((guard, limit)))
    });
    guarded
        .fallback(|| async { ApiError::not_found("not_found", None, "no such path") })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(middleware::from_fn_with_state(ctx.clone(), limit::requests))
        .layer(middleware::from_fn(telemetry::observe))
        .layer(CatchPanicLayer::custom(answer_panic))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .with_state(ctx)
}

/// Serves until `shutdown` completes and the requests under way are answered, or have had their time.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    ctx: Ctx,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let (told, stopping) = tokio::sync::oneshot::channel();
    let served = axum::serve(listener, router(ctx).into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(async move {
            shutdown.await;
            // Nobody listens any more when the server has ended by itself.
            told.send(()).ok();
        });
    tokio::select! {
        served = served => served.context("serve HTTP"),
        () = async {
            drop(stopping.await);
            tokio::time::sleep(DRAIN).await;
        } => {
            tracing::warn!("requests were still under way when the time to stop had come");
            Ok(())
        }
    }
}

/// A defect of ours, answered like any other error; the panic itself is in the log.
fn answer_panic(panic: Box<dyn std::any::Any + Send>) -> Response {
    let what = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned());
    tracing::error!(panic = what.unwrap_or_else(|| "of an unknown kind".into()), "handler panicked");
    ApiError::internal().into_response()
}
