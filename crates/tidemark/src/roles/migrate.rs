//! Brings both databases to the schema of this version.
//!
//! In: settings. Out: migrated databases. Never here: a schema; each store has its own.

use crate::settings::Settings;
use anyhow::{Context, Result};

/// Migrates Postgres, then `ClickHouse`; both may be in use meanwhile.
pub(crate) async fn run(settings: &Settings) -> Result<()> {
    let postgres = super::postgres(settings).await?;
    postgres.migrate().await.context("migrate postgres")?;
    super::clickhouse(settings)?
        .migrate(settings.utc_offset_minutes)
        .await
        .context("migrate clickhouse")?;
    eprintln!("migrate: both databases have the schema of this version");
    Ok(())
}
