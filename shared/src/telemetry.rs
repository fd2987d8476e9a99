//! Logs and metrics of a process.
//!
//! Logs carry ids, never secrets, and prompts not at all. Metrics are counted through the `metrics` facade and
//! read out as Prometheus text by whoever serves `/metrics`.

use std::{io::IsTerminal, time::Duration};

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use crate::{config, process::Process};

/// Buckets for durations in seconds: from a cache hit to the longest video.
const DURATION_BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0];

/// How often samples are folded into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts logging to standard error. Later calls in the same process change nothing.
///
/// # Errors
/// When the filter cannot be read.
pub fn start_logging(config: &config::Telemetry) -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_new(&config.filter).with_context(|| format!("read KILN_LOG {:?}", config.filter))?;
    let registry = tracing_subscriber::registry().with(filter);
    let started = if config.json {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
    } else {
        registry
            .with(
                fmt::layer()
                    .with_target(false)
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_writer(std::io::stderr),
            )
            .try_init()
    };
    if started.is_err() {
        tracing::debug!("logging was already started");
    }
    Ok(())
}

/// Starts counting; the handle renders the counts as Prometheus text.
///
/// # Errors
/// When another recorder is already in place.
pub fn start_metrics(process: &Process) -> anyhow::Result<PrometheusHandle> {
    let handle = buckets()?.install_recorder().context("start metrics")?;
    // Without upkeep the samples of histograms pile up until someone asks for them.
    let (kept, stop) = (handle.clone(), process.clone());
    process.spawn(async move {
        while stop.sleep(UPKEEP).await {
            kept.run_upkeep();
        }
    });
    Ok(handle)
}

/// Starts counting in a process that has no HTTP door of its own, and serves the counts where `KILN_METRICS_ADDR` says;
/// without it, counts nothing.
///
/// # Errors
/// When the address cannot be listened to.
pub fn serve_metrics(config: &config::Telemetry, process: &Process) -> anyhow::Result<()> {
    let Some(addr) = config.metrics_addr else { return Ok(()) };
    let (recorder, server) = buckets()?
        .with_http_listener(addr)
        .build()
        .with_context(|| format!("serve metrics on {addr} (KILN_METRICS_ADDR)"))?;
    metrics::set_global_recorder(recorder).context("start metrics")?;
    let stop = process.clone();
    process.spawn(async move {
        tokio::select! {
            served = server => if served.is_err() { tracing::error!(%addr, "metrics are no longer served") },
            () = stop.stopping() => {}
        }
    });
    Ok(())
}

fn buckets() -> anyhow::Result<PrometheusBuilder> {
    Ok(PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &DURATION_BUCKETS)?)
}
