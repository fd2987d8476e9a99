//! Every route on one page.

mod account;
mod admin;
mod audit;
mod auth;
mod billing;
mod callbacks;
mod dialog_export;
mod dialogs;
mod fields;
mod health;
mod jobs;
mod keys;
mod members;
mod models;
mod order;
mod pages;
mod password;
mod preferences;
mod prices;
mod privacy;
mod reports;
mod roster;
mod route;
mod routing;
mod talk;
mod telemetry;
mod transactions;
mod usage;

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
};
use route::Route;
use shared::account::Permission;

pub use route::{Listed, listed};

/// Header that names a request in our logs and in the caller's.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest wait at a stop for requests under way. Waiting ones are answered at once; a client that sends half a request and
/// then nothing must not keep the process.
const DRAIN: Duration = Duration::from_secs(10);

/// Every route, and who may use it.
fn routes() -> Vec<Route> {
    use Access::{Known, Needs, Person, Public};
    use Permission as P;
    vec![
        Route::post("/v1/jobs", Needs(P::JobsWrite), jobs::create).with_body(JOB_BODY_LIMIT_BYTES),
        Route::get("/v1/jobs", Needs(P::JobsRead), jobs::list),
        Route::post("/v1/jobs/quote", Needs(P::JobsWrite), jobs::quote).with_body(JOB_BODY_LIMIT_BYTES),
        Route::get("/v1/jobs/{id}", Needs(P::JobsRead), jobs::show),
        Route::get("/v1/jobs/{id}/events", Needs(P::JobsRead), jobs::events),
        Route::post("/v1/jobs/{id}/cancel", Needs(P::JobsWrite), jobs::cancel),
        Route::post("/v1/dialogs", Needs(P::JobsWrite), dialogs::begin).with_body(dialogs::BYTES_MAX),
        Route::get("/v1/dialogs", Needs(P::JobsRead), dialogs::list),
        Route::get("/v1/dialogs/{id}", Needs(P::JobsRead), dialogs::show),
        Route::patch("/v1/dialogs/{id}", Needs(P::JobsWrite), dialogs::change).with_body(dialogs::BYTES_MAX),
        Route::delete("/v1/dialogs/{id}", Needs(P::JobsWrite), dialogs::delete),
        Route::get("/v1/dialogs/{id}/messages", Needs(P::JobsRead), dialogs::messages),
        Route::delete("/v1/dialogs/{id}/messages", Needs(P::JobsWrite), dialogs::forget),
        Route::get("/v1/dialogs/{id}/export", Needs(P::JobsRead), dialog_export::export),
        Route::post("/v1/callbacks/{id}", Public, callbacks::ring),
        Route::get("/v1/models", Known, models::list),
        Route::get("/v1/models/{id}", Known, models::show),
        Route::get("/v1/billing/balance", Needs(P::BillingRead), billing::balance),
        Route::get("/v1/billing/transactions", Needs(P::BillingRead), transactions::list),
        Route::get("/v1/billing/grants", Needs(P::BillingRead), billing::grants),
        Route::get("/v1/billing/subscriptions", Needs(P::BillingRead), billing::subscriptions),
        Route::get("/v1/usage", Needs(P::UsageRead), usage::report),
        Route::get("/v1/plans", Public, billing::plans),
        Route::get("/v1/admin/accounts", Needs(P::AdminAccountsRead), admin::accounts),
        Route::get("/v1/admin/accounts/{id}", Needs(P::AdminAccountsRead), admin::account),
        Route::patch("/v1/admin/accounts/{id}", Needs(P::AdminTermsWrite), admin::patch_terms),
        Route::put("/v1/admin/accounts/{id}/status", Needs(P::AdminAccountsWrite), admin::set_status),
        Route::post("/v1/admin/accounts/{id}/subscriptions", Needs(P::AdminTokensWrite), admin::subscribe),
        Route::get("/v1/admin/reports/margin", Needs(P::AdminReportsRead), reports::margin),
        Route::get("/v1/admin/prices", Needs(P::AdminPricesRead), prices::list),
        Route::get("/v1/admin/prices/{model}", Needs(P::AdminPricesRead), prices::history),
        Route::put("/v1/admin/prices/{model}", Needs(P::AdminPricesWrite), prices::set),
        Route::post("/v1/billing/balance", Needs(P::AdminTokensWrite), billing::adjust),
        Route::post("/v1/auth/register", Public, auth::register),
        Route::get("/v1/auth/verify", Public, pages::verify),
        Route::post("/v1/auth/verify", Public, auth::verify),
        Route::post("/v1/auth/verify/resend", Public, auth::resend),
        Route::post("/v1/auth/login", Public, auth::login),
        Route::post("/v1/auth/refresh", Public, auth::refresh),
        Route::post("/v1/auth/logout", Person, auth::logout),
        Route::get("/v1/auth/password/forgot", Public, pages::forgot),
        Route::post("/v1/auth/password/forgot", Public, password::forgot),
        Route::get("/v1/auth/password/reset", Public, pages::reset),
        Route::post("/v1/auth/password/reset", Public, password::reset),
        Route::post("/v1/auth/password/change", Person, password::change),
        Route::get("/v1/auth/invitations/accept", Public, pages::accept),
        Route::post("/v1/auth/invitations/accept", Public, auth::accept),
        Route::get("/v1/me", Person, account::me),
        Route::patch("/v1/me", Person, account::rename),
        Route::get("/v1/me/sessions", Person, account::sessions),
        Route::delete("/v1/me/sessions/{id}", Person, account::end_session),
        Route::get("/v1/account", Needs(P::AccountRead), account::show),
        Route::patch("/v1/account", Needs(P::AccountWrite), account::change),
        Route::get("/v1/account/preferences", Needs(P::AccountRead), preferences::show),
        Route::put("/v1/account/preferences", Needs(P::AccountWrite), preferences::set),
        Route::get("/v1/account/consents", Person, account::consents),
        Route::post("/v1/account/consents", Person, account::consent),
        Route::get("/v1/account/users", Needs(P::UsersRead), members::list),
        Route::post("/v1/account/users", Needs(P::UsersWrite), members::invite),
        Route::post("/v1/account/users/bulk", Needs(P::UsersWrite), members::invite_all)
            .with_body(roster::BYTES_MAX),
        Route::patch("/v1/account/users/{id}", Needs(P::UsersWrite), members::change_role),
        Route::delete("/v1/account/users/{id}", Needs(P::UsersWrite), members::remove),
        Route::delete("/v1/account/invitations/{id}", Needs(P::UsersWrite), members::revoke_invitation),
        Route::post("/v1/api-keys", Needs(P::KeysWrite), keys::create),
        Route::get("/v1/api-keys", Needs(P::KeysRead), keys::list),
        Route::get("/v1/api-keys/{id}", Needs(P::KeysRead), keys::show),
        Route::patch("/v1/api-keys/{id}", Needs(P::KeysWrite), keys::change),
        Route::post("/v1/api-keys/{id}/rotate", Needs(P::KeysWrite), keys::rotate),
        Route::delete("/v1/api-keys/{id}", Needs(P::KeysWrite), keys::revoke),
        Route::delete("/v1/admin/api-keys/{id}", Needs(P::AdminKeysWrite), keys::revoke_any),
        Route::put(
            "/v1/admin/users/{id}/operator-role",
            Needs(P::AdminOperatorsWrite),
            admin::set_operator_role,
        ),
        Route::get("/v1/account/audit-log", Needs(P::AuditRead), audit::list),
        Route::post("/v1/account/exports", Needs(P::AccountExport), privacy::order_export),
        Route::get("/v1/account/exports", Needs(P::AccountExport), privacy::exports),
        Route::get("/v1/account/exports/{id}", Needs(P::AccountExport), privacy::export),
        Route::post("/v1/account/erasure", Needs(P::AccountErase), privacy::erase),
        Route::get("/v1/admin/audit-log", Needs(P::AdminAuditRead), audit::list_all),
        Route::get("/health/live", Public, health::live),
        Route::get("/health/ready", Public, health::ready),
        Route::get("/health/dependencies", Public, health::dependencies),
        Route::get("/metrics", Public, health::metrics),
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
