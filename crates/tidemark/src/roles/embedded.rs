//! One embedded service in the foreground.
//!
//! In: a data directory, a port. Out: the service until shutdown, its url in the ready line; an
//! error when the service ends by itself. Never here: how a service is built (see `embedded`).

use crate::cli::{EmbeddedArgs, EmbeddedCommand};
use anyhow::{Result, bail};
use embedded::{Running, broker, clickhouse, postgres};
use std::net::{Ipv4Addr, SocketAddr};
use tokio_util::sync::CancellationToken;

/// Runs the service until shutdown.
pub(crate) async fn run(service: EmbeddedCommand, shutdown: CancellationToken) -> Result<()> {
    match service {
        EmbeddedCommand::Clickhouse(args) => {
            let settings = clickhouse::ClickhouseEngineSettings {
                listen: listen(&args),
                data_dir: args.data,
                ..Default::default()
            };
            clickhouse::serve(settings, shutdown, |address| {
                super::say_ready("clickhouse", &[("url", format!("http://{address}"))]);
            })
            .await?;
            // The engine's own threads still run: leave without its exit handlers.
            clickhouse::exit_now(0)
        }
        EmbeddedCommand::Postgres(args) => {
            let settings = postgres::PostgresSettings {
                listen: listen(&args),
                data_dir: args.data,
                ..Default::default()
            };
            attend("postgres", postgres::start(&settings).await?, &shutdown).await
        }
        EmbeddedCommand::Broker(args) => {
            let settings = broker::BrokerSettings {
                listen: listen(&args),
                data_dir: args.data,
                ..Default::default()
            };
            attend("broker", broker::start(&settings).await?, &shutdown).await
        }
    }
}

async fn attend(name: &str, service: Running, shutdown: &CancellationToken) -> Result<()> {
    super::say_ready(name, &[("url", service.url().to_owned())]);
    let ended = shutdown.run_until_cancelled(service.ended()).await;
    match ended {
        None => {
            service.stop().await;
            Ok(())
        }
        Some(how) => bail!("{name} ended by itself: {how}"),
    }
}

fn listen(args: &EmbeddedArgs) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, args.port))
}
