//! The operations console: staff see the truth at a glance.
//!
//! In: both stores. Out: pages in Chinese and English, live over server-sent events, the same
//! numbers as JSON. Never here: SQL, arithmetic of the trade, anything that changes a row.

mod gather;
mod pages;
mod snapshot;
mod text;

pub use snapshot::{CycleLine, Refused, Snapshot, StreamLine};
pub use text::{Language, Words};

use axum::{Router, routing::get};
use model::clock::Clock;
use serde::Deserialize;
use std::{io, net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

/// Settings of the console.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConsoleSettings {
    /// Where pages are served.
    pub listen: SocketAddr,
    /// How often the live numbers are taken, for all viewers together.
    pub refresh_interval_ms: u64,
}

impl Default for ConsoleSettings {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8080)), refresh_interval_ms: 1_000 }
    }
}

/// Why the console could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The address is taken or not ours.
    #[error("console: listen on {listen}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The server stopped.
    #[error("console: serve pages")]
    Serve(#[source] io::Error),
}

/// What every request sees.
#[derive(Clone)]
pub(crate) struct Shared {
    latest: watch::Receiver<Arc<Snapshot>>,
    metrics: Arc<dyn Fn() -> String + Send + Sync>,
    shutdown: CancellationToken,
}

/// Serves the console until `shutdown`; calls `ready` with the bound address.
///
/// A database that is away is said on the page; the last known numbers stay.
///
/// # Errors
/// When the address cannot be had or the server breaks.
pub async fn serve(
    settings: ConsoleSettings,
    clickhouse: store_clickhouse::Store,
    postgres: store_postgres::Store,
    clock: Clock,
    metrics: impl Fn() -> String + Send + Sync + 'static,
    shutdown: CancellationToken,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), ConsoleError> {
    let listen = settings.listen;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|source| ConsoleError::Listen { listen, source })?;
    let bound = listener.local_addr().map_err(|source| ConsoleError::Listen { listen, source })?;
    let (publish, latest) = watch::channel(Arc::new(Snapshot::default()));
    let gatherer = gather::Gatherer::new(clickhouse, postgres, clock);
    let interval = std::time::Duration::from_millis(settings.refresh_interval_ms.max(100));
    let gathering = tokio::spawn(gatherer.run(interval, publish, shutdown.clone()));
    let shared = Shared { latest, metrics: Arc::new(metrics), shutdown: shutdown.clone() };
    tracing::info!(%bound, "console is up");
    ready(bound);
    let served = axum::serve(listener, routes(shared))
        .with_graceful_shutdown(async move { shutdown.cancelled().await })
        .await
        .map_err(ConsoleError::Serve);
    gathering.abort();
    served
}

fn routes(shared: Shared) -> Router {
    Router::new()
        .route("/", get(pages::first))
        .route("/live", get(pages::live))
        .route("/api/v1/live", get(pages::live_json))
        .route("/assets/console.css", get(pages::style))
        .route("/assets/console.js", get(pages::script))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(pages::metrics))
        .layer(axum::middleware::map_response(pages::secured))
        .with_state(shared)
}
