//! The registry from the outside.
//!
//! In: a registry file. Out: rows in Postgres, one line of what changed. Never here: SQL.

use crate::settings::Settings;
use anyhow::{Context, Result};
use model::clock::Clock;
use std::path::Path;
use store_postgres::RegistryFile;

/// Imports a registry file; importing it twice changes nothing.
pub(crate) async fn import(settings: &Settings, file: &Path) -> Result<()> {
    let registry = RegistryFile::read(file)?;
    let key = settings.master_key()?;
    let report = super::postgres(settings)
        .await?
        .import(&registry, &key, Clock::Wall.now())
        .await
        .with_context(|| format!("import {}", file.display()))?;
    if report.changed_nothing() {
        println!("registry: {} says nothing new", file.display());
        return Ok(());
    }
    let sections: Vec<String> = report
        .sections
        .iter()
        .filter(|(_, section)| section.added + section.changed + section.removed > 0)
        .map(|(name, section)| {
            format!("{name} +{} ~{} -{}", section.added, section.changed, section.removed)
        })
        .collect();
    println!("registry: {}", sections.join(", "));
    Ok(())
}
