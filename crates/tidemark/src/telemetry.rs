//! Logs on standard error, metrics on HTTP.
//!
//! In: how the log should look, where metrics may be asked for. Out: structured log lines,
//! `/metrics` (Prometheus) and `/healthz`. Never here: what is measured; each room names its own.

use crate::cli::LogFormat;
use anyhow::{Context, Result};
use axum::{Router, routing::get};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::{net::SocketAddr, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Starts logging. `RUST_LOG` chooses the level, `info` without it.
pub(crate) fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init()
        }
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

/// Starts counting; the handle renders what was counted.
pub(crate) fn start_metrics() -> Result<PrometheusHandle> {
    PrometheusBuilder::new().install_recorder().context("install the metrics recorder")
}

/// Serves `/metrics` and `/healthz` until `shutdown`; returns the address.
pub(crate) async fn serve_metrics(
    listen: SocketAddr,
    handle: PrometheusHandle,
    shutdown: CancellationToken,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("listen for metrics on {listen}"))?;
    let address = listener.local_addr().context("the metrics address")?;
    let upkeep = handle.clone();
    let upkeep_ends = shutdown.clone();
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_secs(5));
        while upkeep_ends.run_until_cancelled(tick.tick()).await.is_some() {
            upkeep.run_upkeep();
        }
    });
    let pages = Router::new()
        .route("/metrics", get(move || async move { handle.render() }))
        .route("/healthz", get(|| async { "ok\n" }));
    tokio::spawn(async move {
        let served = axum::serve(listener, pages)
            .with_graceful_shutdown(async move { shutdown.cancelled().await });
        if let Err(error) = served.await {
            tracing::error!(%error, "metrics server stopped");
        }
    });
    Ok(address)
}
