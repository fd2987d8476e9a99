//! Whether this process lives, may be sent requests, and what it depends on; and the metrics.

use axum::{Json, extract::State, response::IntoResponse};
use chrono::{DateTime, Utc};
use http::{StatusCode, header};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

use crate::{ApiError, Ctx};
use shared::{
    db, job,
    provider::{Route, Standing},
};

/// Longest wait for a dependency's word; a probe must answer even when nothing else does.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// The process runs.
pub async fn live() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Requests would be answered: the database is there and has our schema.
pub async fn ready(State(ctx): State<Ctx>) -> Result<Json<Value>, ApiError> {
    match tokio::time::timeout(PROBE_TIMEOUT, db::is_migrated(&ctx.db)).await {
        Ok(Ok(true)) if !ctx.process.is_stopping() => Ok(Json(json!({ "status": "ok" }))),
        _ => Err(ApiError::unavailable()),
    }
}

/// Each thing we depend on, by name; 503 when one is away that nothing works without. Of the providers, those that were used lately.
pub async fn dependencies(State(ctx): State<Ctx>) -> (StatusCode, Json<Value>) {
    let database = tokio::time::timeout(PROBE_TIMEOUT, db::is_migrated(&ctx.db));
    let storage = tokio::time::timeout(PROBE_TIMEOUT, ctx.storage.check());
    let (database, storage) = tokio::join!(database, storage);
    let word = |well: bool| if well { "ok" } else { "unavailable" };
    let (database, storage) = (matches!(database, Ok(Ok(true))), matches!(storage, Ok(Ok(()))));
    let status = if database && storage { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "status": word(database && storage),
        "dependencies": { "database": { "status": word(database) }, "storage": { "status": word(storage) } },
        "providers": providers(ctx.standings.all(), ctx.clock.now()),
    });
    (status, Json(body))
}

/// How each provider fares, by name: `ok`, `degraded` where some of its models mostly fail, `unavailable` where all do.
fn providers(routes: Vec<(Route, Standing)>, now: DateTime<Utc>) -> BTreeMap<String, Value> {
    let mut counted: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for (route, standing) in routes {
        let (open, all) = counted.entry(route.provider).or_default();
        *open += u32::from(standing.is_open(now));
        *all += 1;
    }
    let word = |(open, all): (u32, u32)| match open {
        0 => "ok",
        open if open < all => "degraded",
        _ => "unavailable",
    };
    counted.into_iter().map(|(provider, count)| (provider, json!({ "status": word(count) }))).collect()
}

/// Prometheus text. The depth of the queue is read at each scrape.
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
