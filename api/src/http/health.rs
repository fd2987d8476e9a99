//! Whether this process lives, may be sent requests, and what it depends on; and the metrics.

use axum::{Json, extract::State, response::IntoResponse};
use chrono::{DateTime, Utc};
use http::{StatusCode, header};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};
use utoipa::ToSchema;

use crate::{ApiError, Ctx, ErrorBody};
use shared::{
    db, job,
    provider::{Route, Standing},
};

/// Longest wait for a dependency's word; a probe must answer even when nothing else does.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// A word on how something is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    status: HealthStatus,
}

/// How something is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Works.
    Ok,
    /// Works in part.
    Degraded,
    /// Does not.
    Unavailable,
}

/// How the service is, and what it depends on.
#[derive(Debug, Serialize, ToSchema)]
pub struct Dependencies {
    /// Whether all is there that nothing works without.
    status: HealthStatus,
    dependencies: Needed,
    /// Those that were used lately, by their names.
    providers: BTreeMap<String, Health>,
}

/// What nothing works without.
#[derive(Debug, Serialize, ToSchema)]
pub struct Needed {
    database: Health,
    storage: Health,
}

/// All is well.
const WELL: Json<Health> = Json(Health { status: HealthStatus::Ok });

/// The process runs.
#[utoipa::path(
    get,
    path = "/health/live",
    responses((status = 200, description = "It runs", body = Health))
)]
pub async fn live() -> Json<Health> {
    WELL
}

/// Requests would be answered: the database is there and has our schema.
#[utoipa::path(
    get,
    path = "/health/ready",
    responses((status = 200, description = "They would", body = Health))
)]
pub async fn ready(State(ctx): State<Ctx>) -> Result<Json<Health>, ApiError> {
    match tokio::time::timeout(PROBE_TIMEOUT, db::is_migrated(&ctx.db)).await {
        Ok(Ok(true)) if !ctx.process.is_stopping() => Ok(WELL),
        _ => Err(ApiError::unavailable()),
    }
}

/// Each thing we depend on, by name; 503 when one is away that nothing works without. Of the providers, those that were used lately.
#[utoipa::path(
    get,
    path = "/health/dependencies",
    responses(
        (status = 200, description = "All is there that nothing works without", body = Dependencies),
        (status = 503, description = "Something is away that nothing works without", body = Dependencies),
    )
)]
pub async fn dependencies(State(ctx): State<Ctx>) -> (StatusCode, Json<Dependencies>) {
    let database = tokio::time::timeout(PROBE_TIMEOUT, db::is_migrated(&ctx.db));
    let storage = tokio::time::timeout(PROBE_TIMEOUT, ctx.storage.check());
    let (database, storage) = tokio::join!(database, storage);
    let word = |well: bool| if well { HealthStatus::Ok } else { HealthStatus::Unavailable };
    let (database, storage) = (matches!(database, Ok(Ok(true))), matches!(storage, Ok(Ok(()))));
    let status = if database && storage { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let found = Dependencies {
        status: word(database && storage),
        dependencies: Needed {
            database: Health { status: word(database) },
            storage: Health { status: word(storage) },
        },
        providers: providers(ctx.standings.all(), ctx.clock.now()),
    };
    (status, Json(found))
}

/// How each provider fares, by name: `ok`, `degraded` where some of its models mostly fail, `unavailable` where all do.
fn providers(routes: Vec<(Route, Standing)>, now: DateTime<Utc>) -> BTreeMap<String, Health> {
    let mut counted: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for (route, standing) in routes {
        let (open, all) = counted.entry(route.provider).or_default();
        *open += u32::from(standing.is_open(now));
        *all += 1;
    }
    let status = |(open, all): (u32, u32)| match open {
        0 => HealthStatus::Ok,
        open if open < all => HealthStatus::Degraded,
        _ => HealthStatus::Unavailable,
    };
    counted.into_iter().map(|(provider, count)| (provider, Health { status: status(count) })).collect()
}

/// Prometheus text. The depth of the queue is read at each scrape.
#[utoipa::path(
    get,
    path = "/metrics",
    responses(
        (status = 200, description = "The metrics", body = String, content_type = "text/plain"),
        (status = 404, description = "`not_found`: nothing is counted in this process", body = ErrorBody),
    )
)]
pub async fn metrics(State(ctx): State<Ctx>) -> Result<impl IntoResponse, ApiError> {
    let Some(handle) = &ctx.metrics else {
        return Err(ApiError::not_found("not_found", None, "nothing is counted in this process"));
    };
    if let Ok(depths) = job::depths(&ctx.db).await {
        for depth in depths {
            for (state, count) in [("ready", depth.ready), ("parked", depth.parked), ("leased", depth.leased)]
            {
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                metrics::gauge!("kiln_queue_jobs", "pool" => depth.pool.clone(), "state" => state).set(count);
            }
        }
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render()))
}
