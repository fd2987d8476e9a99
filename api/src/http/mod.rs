//! Every route on one page.

mod billing;
mod health;
mod jobs;
mod models;
mod order;
mod telemetry;

use std::time::Duration;

use anyhow::Context;
use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::HeaderName;
use tokio::net::TcpListener;
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
};

use crate::{ApiError, Ctx, request::BODY_LIMIT_BYTES};

/// Header that names a request in our logs and in the caller's.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest wait at a stop for requests under way. Waiting ones are answered at once; a client that sends half a request and
/// then nothing must not keep the process.
const DRAIN: Duration = Duration::from_secs(10);

/// The API as a service.
pub fn router(ctx: Ctx) -> Router {
    Router::new()
        .route("/v1/jobs", post(jobs::create).get(jobs::list))
        .route("/v1/jobs/{id}", get(jobs::show))
        .route("/v1/jobs/{id}/events", get(jobs::events))
        .route("/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::show))
        .route("/v1/billing/balance", get(billing::balance).post(billing::adjust))
        .route("/v1/billing/transactions", get(billing::transactions))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/health/dependencies", get(health::dependencies))
        .route("/metrics", get(health::metrics))
        .fallback(|| async { ApiError::not_found("not_found", None, "no such path") })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(DefaultBodyLimit::max(BODY_LIMIT_BYTES))
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
    let served = axum::serve(listener, router(ctx)).with_graceful_shutdown(async move {
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
