//! The role in front of NB-IoT meters.
//!
//! In: settings. Out: a running gateway until shutdown. Never here: CoAP.

use crate::settings::Settings;
use anyhow::Result;
use model::clock::Clock;
use tokio_util::sync::CancellationToken;

/// Runs the gateway.
pub(crate) async fn run(settings: Settings, shutdown: CancellationToken) -> Result<()> {
    let mut facts = super::metrics(settings.metrics.coap_gateway_listen, &shutdown).await?;
    coap_gateway::run(settings.coap_gateway, Clock::Wall, shutdown, |bound| {
        facts.push(("coap", bound.to_string()));
        super::say_ready("coap-gateway", &facts);
    })
    .await?;
    tracing::info!("coap-gateway stopped");
    Ok(())
}
