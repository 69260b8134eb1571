//! The operations console.
//!
//! In: settings. Out: pages until shutdown. Never here: pages (see `web-console`).

use crate::settings::Settings;
use anyhow::Result;
use model::clock::Clock;
use tokio_util::sync::CancellationToken;

/// Serves the console.
pub(crate) async fn run(settings: Settings, shutdown: CancellationToken) -> Result<()> {
    let metrics = crate::telemetry::start_metrics()?;
    let clickhouse = super::clickhouse(&settings)?;
    let postgres = super::postgres(&settings).await?;
    web_console::serve(
        settings.console,
        clickhouse,
        postgres,
        Clock::Wall,
        move || metrics.render(),
        shutdown,
        |address| super::say_ready("console", &[("console", format!("http://{address}"))]),
    )
    .await?;
    tracing::info!("console stopped");
    Ok(())
}
