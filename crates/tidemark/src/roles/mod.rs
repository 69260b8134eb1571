//! One module per role or errand.
//!
//! In: settings and arguments. Out: a running role or a printed answer.
//! Never here: rules of the trade.

pub(crate) mod bill;
pub(crate) mod books;
pub(crate) mod coap_gateway;
pub(crate) mod console;
pub(crate) mod decode;
pub(crate) mod embedded;
pub(crate) mod ingest;
pub(crate) mod migrate;
pub(crate) mod rate;
pub(crate) mod registry;
pub(crate) mod replay;
pub(crate) mod up;

use crate::settings::Settings;
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::{io::IsTerminal, net::SocketAddr, time::Duration};
use tokio_util::sync::CancellationToken;

/// How long an errand keeps trying to reach a database before it gives up.
const REACH_WITHIN: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(300);

/// Prints the ready line a supervisor waits for: one JSON object on standard output.
pub(crate) fn say_ready(role: &str, facts: &[(&str, String)]) {
    let mut line = serde_json::Map::new();
    line.insert("ready".to_owned(), json!(role));
    for (name, value) in facts {
        line.insert((*name).to_owned(), json!(value));
    }
    println!("{}", serde_json::Value::Object(line));
}

/// Postgres, waiting a while for it to come up.
pub(crate) async fn postgres(settings: &Settings) -> Result<store_postgres::Store> {
    let deadline = tokio::time::Instant::now() + REACH_WITHIN;
    loop {
        match store_postgres::Store::connect(&settings.postgres).await {
            Ok(store) => return Ok(store),
            Err(error) if tokio::time::Instant::now() >= deadline => {
                return Err(error).context("DATABASE_URL or [postgres] url");
            }
            Err(error) => {
                tracing::warn!(%error, "postgres is away; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// `ClickHouse`; nothing is asked of it yet.
pub(crate) fn clickhouse(settings: &Settings) -> Result<store_clickhouse::Store> {
    store_clickhouse::Store::new(&settings.clickhouse).context("CLICKHOUSE_URL or [clickhouse]")
}

/// Serves metrics where the settings say, if they do.
pub(crate) async fn metrics(
    listen: Option<SocketAddr>,
    shutdown: &CancellationToken,
) -> Result<Vec<(&'static str, String)>> {
    let handle = crate::telemetry::start_metrics()?;
    let Some(listen) = listen else { return Ok(Vec::new()) };
    let address = crate::telemetry::serve_metrics(listen, handle, shutdown.clone()).await?;
    Ok(vec![("metrics", format!("http://{address}/metrics"))])
}

/// A bar on a terminal, nothing elsewhere.
pub(crate) fn bar(length: u64, what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    ProgressBar::new(length).with_message(what).with_style(
        ProgressStyle::with_template("{msg} [{bar:32}] {pos}/{len} {per_sec} {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> "),
    )
}

/// A sign of life on a terminal, nothing elsewhere.
pub(crate) fn spinner(what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message(what);
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}
