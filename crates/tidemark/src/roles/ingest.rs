//! The ingest role: the pipeline, fed with registry snapshots.
//!
//! In: settings, Postgres for the registry. Out: a running pipeline until shutdown. When Postgres
//! goes away the last snapshot stays in use. Never here: the pipeline (see `ingest`).

use crate::settings::Settings;
use anyhow::Result;
use model::{RegistrySnapshot, clock::Clock};
use std::{sync::Arc, time::Duration};
use store_postgres::{MasterKey, Store};
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Runs ingest.
pub(crate) async fn run(settings: Settings, shutdown: CancellationToken) -> Result<()> {
    let master = settings.master_key()?;
    let facts = super::metrics(settings.metrics.ingest_listen, &shutdown).await?;
    let store = super::clickhouse(&settings)?;
    let (snapshots, latest) = watch::channel(Arc::new(RegistrySnapshot::default()));
    let refresh = Duration::from_secs(settings.registry.refresh_interval_s);
    let follow = shutdown.child_token();
    let follower = tokio::spawn(follow_registry(
        settings.postgres.clone(),
        master,
        refresh,
        snapshots,
        follow.clone(),
    ));
    super::say_ready("ingest", &facts);
    let summary = ingest::run(settings.ingest, store, latest, Clock::Wall, shutdown).await;
    follow.cancel();
    follower.await?;
    // Ingest has said in one line what it did.
    summary?;
    Ok(())
}

/// Sends a new snapshot whenever the registry has changed.
async fn follow_registry(
    settings: store_postgres::PostgresSettings,
    master: MasterKey,
    refresh: Duration,
    snapshots: watch::Sender<Arc<RegistrySnapshot>>,
    stop: CancellationToken,
) {
    let mut postgres: Option<Store> = None;
    let mut known: Option<u64> = None;
    let mut tick = tokio::time::interval(refresh);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        if postgres.is_none() {
            match Store::connect(&settings).await {
                Ok(store) => postgres = Some(store),
                Err(error) => {
                    tracing::warn!(%error, "postgres is away; the last registry stays in use");
                    continue;
                }
            }
        }
        let Some(store) = &postgres else { continue };
        let version = match store.snapshot_version().await {
            Ok(version) if known == Some(version) => continue,
            Ok(version) => version,
            Err(error) => {
                tracing::warn!(%error, "the registry does not answer; the last one stays in use");
                continue;
            }
        };
        match store.snapshot(&master).await {
            Ok(snapshot) => {
                tracing::info!(version, meters = snapshot.meters().len(), "registry read");
                known = Some(version);
                snapshots.send_replace(Arc::new(snapshot));
            }
            Err(error) => {
                tracing::error!(%error, "the registry cannot be read; the last one stays")
            }
        }
    }
}
