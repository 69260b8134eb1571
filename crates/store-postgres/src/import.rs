//! Imports a registry file: everything or nothing, and twice is once.
//!
//! In: a registry file, the master key, the time. Out: what was added and changed, or the entry
//! that stopped it. Never here: deleting what a file does not mention.
//!
//! Each section goes in chunks: one statement changes what differs, one adds what is missing,
//! both by the trade's own codes. Overlap constraints are deferred to the end of their section,
//! so that a file may end one period and begin the next in any order.

mod customers;
mod metering;
mod tariffs;

use crate::{
    DatabaseError, MasterKey, RegistryFile, Store,
    registry_check::{Bound, EntryError, EntryProblem, Section, check, wrong},
    store::doing,
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::{Postgres, Row, Transaction, postgres::PgArguments};
use std::collections::BTreeMap;

/// Entries per statement.
const CHUNK: usize = 10_000;
const CHUNK_ROWS: u64 = 10_000;

/// One import at a time in a database; the number is only ours to choose.
const IMPORT_LOCK: i64 = 0x7469_6465_0001;

type PgQuery<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

/// What an import did to one section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct SectionReport {
    /// Entries in the file.
    pub given: u64,
    /// Rows that were missing.
    pub added: u64,
    /// Rows that differed.
    pub changed: u64,
    /// Rows taken away: device names and keys a meter no longer has.
    pub removed: u64,
}

/// What an import did, section by section; sections that were not given are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ImportReport {
    /// By the section's name in the file.
    pub sections: BTreeMap<&'static str, SectionReport>,
}

impl ImportReport {
    /// Whether the import left the registry as it was.
    #[must_use]
    pub fn changed_nothing(&self) -> bool {
        self.sections.values().all(|s| s.added == 0 && s.changed == 0 && s.removed == 0)
    }

    fn section(&mut self, section: Section) -> &mut SectionReport {
        self.sections.entry(section.name()).or_default()
    }
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// An entry is wrong.
    #[error("registry file: {0}")]
    Entry(#[from] EntryError),
    /// Postgres refused or is away.
    #[error("import the registry")]
    Database(#[from] DatabaseError),
}

impl Store {
    /// Imports `file` in one transaction. Entries already there are brought up to date by code
    /// or number; entries the file does not mention stay. Imports wait for each other.
    ///
    /// # Errors
    /// Names the first entry that is wrong; then nothing was changed.
    pub async fn import(
        &self,
        file: &RegistryFile,
        master: &MasterKey,
        now: DateTime<Utc>,
    ) -> Result<ImportReport, ImportError> {
        check(file)?;
        let tx = self.pool.begin().await.map_err(doing("begin the import"))?;
        let mut import = Import { tx, report: ImportReport::default() };
        import.run("wait for the import lock", lock()).await?;
        import.run("defer overlaps", sqlx::query("SET CONSTRAINTS ALL DEFERRED")).await?;
        import.organisations(file).await?;
        import.schedules(file).await?;
        import.schedule_versions(file).await?;
        import.books(file).await?;
        import.cycles(file).await?;
        import.customers(file).await?;
        import.households(file).await?;
        import.accounts(file).await?;
        import.service_points(file).await?;
        import.meter_models(file).await?;
        import.meters(file).await?;
        import.devices(file).await?;
        import.keys(file, master).await?;
        import.installed_meters(file).await?;
        import.agreements(file).await?;
        let Import { mut tx, report } = import;
        sqlx::query("INSERT INTO registry_imports (imported_at, report) VALUES ($1, $2)")
            .bind(now)
            .bind(sqlx::types::Json(&report))
            .execute(&mut *tx)
            .await
            .map_err(doing("note the import"))?;
        tx.commit().await.map_err(doing("commit the import"))?;
        Ok(report)
    }
}

fn lock<'q>() -> PgQuery<'q> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(IMPORT_LOCK)
}

struct Import<'t> {
    tx: Transaction<'t, Postgres>,
    report: ImportReport,
}

/// The tables a large section has just filled; without statistics the next section's look-ups
/// are planned as if they were empty.
const fn analyze(section: Section) -> Option<&'static str> {
    match section {
        Section::Customers => Some("ANALYZE customers"),
        Section::Households => Some("ANALYZE households"),
        Section::Persons => Some("ANALYZE household_persons"),
        Section::Accounts => Some("ANALYZE accounts"),
        Section::ServicePoints => Some("ANALYZE service_points"),
        Section::Meters => Some("ANALYZE meters"),
        Section::Devices => Some("ANALYZE meter_devices"),
        Section::Keys => Some("ANALYZE device_keys"),
        Section::InstalledMeters => Some("ANALYZE installed_meters"),
        Section::Agreements => Some("ANALYZE service_agreements"),
        Section::Organisations
        | Section::Schedules
        | Section::ScheduleVersions
        | Section::Books
        | Section::Cycles
        | Section::MeterModels => None,
    }
}

/// Columns of one chunk.
fn column<'a, E, T>(chunk: &'a [E], of: impl Fn(&'a E) -> T) -> Vec<T> {
    chunk.iter().map(of).collect()
}

impl Import<'_> {
    async fn run(&mut self, what: &str, query: PgQuery<'_>) -> Result<u64, DatabaseError> {
        Ok(query.execute(&mut *self.tx).await.map_err(doing(what))?.rows_affected())
    }

    async fn upsert(
        &mut self,
        section: Section,
        given: usize,
        update: Option<PgQuery<'_>>,
        insert: PgQuery<'_>,
    ) -> Result<(), DatabaseError> {
        let changed = match update {
            Some(update) => self.run(&format!("change {section}"), update).await?,
            None => 0,
        };
        let added = self.run(&format!("add {section}"), insert).await?;
        let report = self.report.section(section);
        report.given += u64::try_from(given).unwrap_or(u64::MAX);
        report.changed += changed;
        report.added += added;
        // After the first chunk the planner knows what a table looks like, after the last how
        // large it is; in between its growth is seen from its size.
        if added >= 1_000
            && (report.given <= CHUNK_ROWS || given < CHUNK)
            && let Some(sql) = analyze(section)
        {
            self.run(sql, sqlx::query(sql)).await?;
        }
        Ok(())
    }

    /// Asks `sql` for one code of the chunk that is unknown, and names the entry that used it.
    async fn known(
        &mut self,
        section: Section,
        what: &'static str,
        sql: &'static str,
        entries: &[(&str, &str)],
    ) -> Result<(), ImportError> {
        let codes = column(entries, |(_, code)| *code);
        let unknown: Option<String> = sqlx::query_scalar(sql)
            .bind(&codes)
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(doing(format!("look up {what}s of {section}")))?;
        let Some(code) = unknown else { return Ok(()) };
        let entry = entries.iter().find(|(_, used)| *used == code).map_or("", |(entry, _)| *entry);
        Err(wrong(section, entry, EntryProblem::Unknown { what, code }).into())
    }

    /// Asks `sql` for a pair of rows that overlap (key, start, start of the other), then makes
    /// the deferred constraints speak: they are the promise, the question is the clear message.
    async fn no_overlaps<B>(
        &mut self,
        section: Section,
        sql: &'static str,
        keys: &[&str],
    ) -> Result<(), ImportError>
    where
        B: Bound + for<'r> sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
    {
        for chunk in keys.chunks(CHUNK) {
            let pair: Option<(String, B, B)> = sqlx::query(sql)
                .bind(chunk)
                .try_map(|row: sqlx::postgres::PgRow| {
                    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
                })
                .fetch_optional(&mut *self.tx)
                .await
                .map_err(doing(format!("compare periods of {section}")))?;
            if let Some((key, first, second)) = pair {
                let entry = format!("{key} from {}", second.shown());
                let other = format!("the one from {}", first.shown());
                return Err(wrong(section, entry, EntryProblem::Overlap { other }).into());
            }
        }
        self.run(
            &format!("check that {section} do not overlap"),
            sqlx::query("SET CONSTRAINTS ALL IMMEDIATE"),
        )
        .await?;
        self.run("defer overlaps", sqlx::query("SET CONSTRAINTS ALL DEFERRED")).await?;
        Ok(())
    }
}

const UNKNOWN_ORGANISATION: &str = "SELECT c FROM unnest($1::text[]) AS c
     WHERE NOT EXISTS (SELECT FROM organisations t WHERE t.code = c) LIMIT 1";
const UNKNOWN_SERVICE_POINT: &str = "SELECT c FROM unnest($1::text[]) AS c
     WHERE NOT EXISTS (SELECT FROM service_points t WHERE t.code = c) LIMIT 1";

/// The hash stored with a rate version and with every segment it priced: SHA-256 of the text.
#[must_use]
pub fn rate_version_hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
