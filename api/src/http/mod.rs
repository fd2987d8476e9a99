//! Every route on one page.

mod account;
mod account_view;
mod admin;
mod audit;
mod auth;
mod auth_view;
mod billing;
mod callbacks;
mod connections;
mod deliveries;
mod dialog_export;
mod dialog_view;
mod dialogs;
mod docs;
mod endpoints;
mod events;
mod examples;
mod feedback;
mod fields;
mod files;
mod health;
mod jobs;
mod key_view;
mod keys;
mod layers;
mod members;
mod models;
mod openai;
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
mod roster_report;
mod route;
mod routing;
mod socket;
mod submission;
mod talk;
mod telemetry;
mod transactions;
mod upload;
mod usage;
mod watch;
mod webhooks;

use std::time::Duration;

use axum::{
    Extension, Router,
    extract::DefaultBodyLimit,
    middleware,
    response::{IntoResponse, Response},
};
use http::HeaderName;
use tokio::net::TcpListener;

use crate::{
    ApiError, Ctx,
    access::{self, Access},
    request::{BodyLimit, JOB_BODY_LIMIT_BYTES},
    uploads::FORM_BYTES_MAX,
};
use connections::Patience;
use route::{Route, documented};
use shared::{account::Permission, process::Process};

pub(crate) use order::{METADATA_KEY_LEN, METADATA_PAIRS, METADATA_VALUE_LEN};
pub(crate) use webhooks::URL_LEN as WEBHOOK_URL_LEN;

pub use openapi::document;
pub use route::{Listed, listed};

/// Header that names a request in our logs and in the caller's.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest wait at a stop for requests under way. Those who wait for a job can ask again and are answered at once; an answer
/// that only this request can have, such as a chat's, gets this long. A client that sends half a request and then nothing must not
/// keep the process.
pub const DRAIN: Duration = Duration::from_secs(30);

/// So long before the end of that, whoever still waits is told to ask again, while it can be told.
const FAREWELL: Duration = Duration::from_secs(3);

/// With `no`, keeps a proxy from gathering events before it sends them on: nginx's word.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Every route, and who may use it.
fn routes() -> Vec<Route> {
    use Access::{Known, Needs, Person, Public};
    use Permission as P;
    documented![
        Route::post("/v1/jobs", Needs(P::JobsWrite), jobs::create).with_body(JOB_BODY_LIMIT_BYTES),
        Route::get("/v1/jobs", Needs(P::JobsRead), jobs::list),
        Route::post("/v1/jobs/quote", Needs(P::JobsWrite), jobs::quote).with_body(JOB_BODY_LIMIT_BYTES),
        Route::get("/v1/jobs/{id}", Needs(P::JobsRead), jobs::show),
        Route::get("/v1/jobs/{id}/events", Needs(P::JobsRead), events::watch),
        Route::post("/v1/jobs/{id}/cancel", Needs(P::JobsWrite), jobs::cancel),
        Route::post("/v1/jobs/{id}/retry", Needs(P::JobsWrite), retry::retry),
        Route::post("/v1/jobs/{id}/feedback", Needs(P::JobsWrite), feedback::give),
        Route::post("/v1/chat/completions", Needs(P::JobsWrite), openai::chat::create)
            .with_body(JOB_BODY_LIMIT_BYTES)
            .unhurried(),
        Route::post("/v1/embeddings", Needs(P::JobsWrite), openai::embeddings::create)
            .with_body(JOB_BODY_LIMIT_BYTES)
            .unhurried(),
        Route::post("/v1/moderations", Needs(P::JobsWrite), openai::moderations::create)
            .with_body(JOB_BODY_LIMIT_BYTES)
            .unhurried(),
        Route::post("/v1/images/generations", Needs(P::JobsWrite), openai::images::generate)
            .with_body(JOB_BODY_LIMIT_BYTES)
            .unhurried(),
        Route::post("/v1/images/edits", Needs(P::JobsWrite), openai::images::edit)
            .with_body(openai::FORM_BYTES_MAX)
            .unhurried(),
        Route::post("/v1/audio/speech", Needs(P::JobsWrite), openai::speech::create)
            .with_body(JOB_BODY_LIMIT_BYTES)
            .unhurried(),
        Route::post("/v1/audio/transcriptions", Needs(P::JobsWrite), openai::transcriptions::create)
            .with_body(openai::FORM_BYTES_MAX)
            .unhurried(),
        Route::post("/v1/videos", Needs(P::JobsWrite), openai::videos::create)
            .with_body(openai::FORM_BYTES_MAX)
            .unhurried(),
        Route::get("/v1/videos", Needs(P::JobsRead), openai::videos::list),
        Route::get("/v1/videos/{id}", Needs(P::JobsRead), openai::videos::retrieve),
        Route::delete("/v1/videos/{id}", Needs(P::JobsWrite), openai::videos::remove),
        Route::get("/v1/videos/{id}/content", Needs(P::JobsRead), openai::videos::content),
        Route::post("/v1/videos/{id}/remix", Needs(P::JobsWrite), openai::videos::remix)
            .with_body(JOB_BODY_LIMIT_BYTES),
        Route::post("/v1/dialogs", Needs(P::JobsWrite), dialogs::begin).with_body(dialogs::BYTES_MAX),
        Route::get("/v1/dialogs", Needs(P::JobsRead), dialogs::list),
        Route::get("/v1/dialogs/{id}", Needs(P::JobsRead), dialogs::show),
        Route::patch("/v1/dialogs/{id}", Needs(P::JobsWrite), dialogs::change).with_body(dialogs::BYTES_MAX),
        Route::delete("/v1/dialogs/{id}", Needs(P::JobsWrite), dialogs::delete),
        Route::get("/v1/dialogs/{id}/messages", Needs(P::JobsRead), dialogs::messages),
        Route::delete("/v1/dialogs/{id}/messages", Needs(P::JobsWrite), dialogs::forget),
        Route::get("/v1/dialogs/{id}/export", Needs(P::JobsRead), dialog_export::export),
        Route::post("/v1/callbacks/{id}", Public, callbacks::ring),
        Route::post("/v1/files", Needs(P::JobsWrite), files::create).with_body(FORM_BYTES_MAX).unhurried(),
        Route::get("/v1/files", Needs(P::JobsRead), files::list),
        Route::get("/v1/files/{id}", Needs(P::JobsRead), files::show),
        Route::get("/v1/files/{id}/content", Needs(P::JobsRead), files::content),
        Route::delete("/v1/files/{id}", Needs(P::JobsWrite), files::remove),
        Route::post("/v1/webhook-endpoints", Needs(P::WebhooksWrite), endpoints::create),
        Route::get("/v1/webhook-endpoints", Needs(P::WebhooksRead), endpoints::list),
        Route::get("/v1/webhook-endpoints/public-key", Public, endpoints::public_key),
        Route::get("/v1/webhook-endpoints/{id}", Needs(P::WebhooksRead), endpoints::show),
        Route::patch("/v1/webhook-endpoints/{id}", Needs(P::WebhooksWrite), endpoints::change),
        Route::delete("/v1/webhook-endpoints/{id}", Needs(P::WebhooksWrite), endpoints::delete),
        Route::post("/v1/webhook-endpoints/{id}/rotate", Needs(P::WebhooksWrite), endpoints::rotate),
        Route::post("/v1/webhook-endpoints/{id}/test", Needs(P::WebhooksWrite), endpoints::test),
        Route::get("/v1/webhook-deliveries", Needs(P::WebhooksRead), deliveries::list),
        Route::get("/v1/webhook-deliveries/{id}", Needs(P::WebhooksRead), deliveries::show),
        Route::post("/v1/webhook-deliveries/{id}/replay", Needs(P::WebhooksWrite), deliveries::replay),
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
        Route::get("/v1/admin/reports/feedback", Needs(P::AdminReportsRead), reports::feedback),
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
        Route::get("/v1/account/webhook-secret", Needs(P::WebhooksWrite), account::webhook_secret),
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
        Route::get("/openapi.json", Public, openapi::show),
        Route::get("/docs", Public, docs::page),
        Route::get("/docs/{file}", Public, docs::asset),
    ]
}

/// The API as a service.
pub fn router(ctx: Ctx) -> Router {
    let guarded = routes().into_iter().fold(Router::new(), |router, route| {
        let within = middleware::from_fn_with_state(route.answer_limit, layers::within);
        let guard = middleware::from_fn_with_state((ctx.clone(), route.access), access::guard);
        let limit = (DefaultBodyLimit::max(route.body_limit), Extension(BodyLimit(route.body_limit)));
        router.route(route.path, route.handler.layer((within, guard, limit)))
    });
    let routes = guarded
        .fallback(|| async { ApiError::not_found("not_found", None, "no such path") })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() });
    layers::around(routes, &ctx).with_state(ctx)
}

/// Serves until `shutdown` completes and the requests under way are answered, or have had their time.
pub async fn serve(listener: TcpListener, ctx: Ctx, shutdown: impl Future<Output = ()> + Send + 'static) {
    connections::serve(listener, router(ctx), Patience::draining(DRAIN), shutdown).await;
}

/// Completes when a stopping process can wait no longer for what only it can answer.
async fn farewell(process: Process) {
    process.stopping().await;
    tokio::time::sleep(DRAIN - FAREWELL).await;
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
