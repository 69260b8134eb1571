//! The schema, and bringing a database up to date with it.
//!
//! In: the utility's offset from UTC. Out: a migrated database.
//! Never here: reading or writing the trade's data.
//!
//! Each migration is one statement that may be repeated (`IF NOT EXISTS`), so two processes may
//! migrate at once and ingest may go on meanwhile. What was applied is recorded with a hash of its
//! text; a recorded statement never changes once released.

use crate::{MigrateError, Store};
use clickhouse::Row;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use tracing::info;

struct Migration {
    number: u32,
    name: &'static str,
    /// `{offset_s}` stands for the utility's offset from UTC in seconds.
    sql: &'static str,
}

macro_rules! migrations {
    ($($number:literal $name:literal;)*) => {
        &[$(Migration {
            number: $number,
            name: $name,
            sql: include_str!(concat!("../migrations/", $name, ".sql")),
        },)*]
    };
}

/// In order, numbered from 1 without gaps.
const MIGRATIONS: &[Migration] = migrations! {
    1 "0001_reads";
    2 "0002_reads_daily";
    3 "0003_reads_daily_filled";
    4 "0004_meter_events";
    5 "0005_raw_uplinks";
    6 "0006_dead_letters";
    7 "0007_dead_letter_replays";
    8 "0008_ingest_ledger";
};

const RECORD: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    number UInt32,
    name String,
    text_sha256 String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = ReplacingMergeTree ORDER BY number
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1";

#[derive(Row, Deserialize)]
struct Applied {
    number: u32,
    text_sha256: String,
}

impl Store {
    /// Creates the database where missing and applies the migrations it lacks.
    ///
    /// `utc_offset_minutes` is the utility's offset from UTC; the daily rollup is cut by it, so it
    /// cannot change later.
    ///
    /// # Errors
    /// When the server refuses a statement, naming it; when the database was migrated by another
    /// program version or with another offset.
    pub async fn migrate(&self, utc_offset_minutes: i32) -> Result<(), MigrateError> {
        let offset_s = offset_s(utc_offset_minutes)?;
        let refused = |number, name| {
            let database = self.database.clone();
            move |source| MigrateError::Refused { database, number, name, source }
        };

        // An Atomic database everywhere; the embedded engine's `default` one cannot do all of it.
        let create = format!("CREATE DATABASE IF NOT EXISTS {} ENGINE = Atomic", self.database);
        self.server.query_raw(&create).execute().await.map_err(refused(0, "database"))?;
        self.client.query_raw(RECORD).execute().await.map_err(refused(0, "record"))?;
        let applied: Vec<Applied> = self
            .client
            .query_raw("SELECT number, text_sha256 FROM schema_migrations FINAL ORDER BY number")
            .fetch_all()
            .await
            .map_err(refused(0, "record"))?;

        let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
        if let Some(newer) = applied.iter().find(|a| a.number > known) {
            let database = self.database.clone();
            return Err(MigrateError::Newer { database, found: newer.number, known });
        }
        for migration in MIGRATIONS {
            let Migration { number, name, .. } = *migration;
            let sql = migration.text(offset_s);
            let sha = sha256_hex(&sql);
            match applied.iter().find(|a| a.number == number) {
                Some(before) if before.text_sha256 == sha => continue,
                Some(_) => {
                    let database = self.database.clone();
                    return Err(MigrateError::Changed { database, number, name });
                }
                None => {}
            }
            self.client.query_raw(&sql).execute().await.map_err(refused(number, name))?;
            let record = format!(
                "INSERT INTO schema_migrations (number, name, text_sha256) \
                 VALUES ({number}, '{name}', '{sha}')"
            );
            self.client.query_raw(&record).execute().await.map_err(refused(number, name))?;
            info!(database = %self.database, number, name, "clickhouse migrated");
        }
        self.client.clear_cached_metadata().await;
        Ok(())
    }
}

impl Migration {
    fn text(&self, offset_s: i32) -> String {
        self.sql.trim().replace("{offset_s}", &offset_s.to_string())
    }
}

/// The offset in seconds.
fn offset_s(minutes: i32) -> Result<i32, MigrateError> {
    let within_a_day = (-1439..=1439).contains(&minutes);
    minutes.checked_mul(60).filter(|_| within_a_day).ok_or(MigrateError::Offset { minutes })
}

fn sha256_hex(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_without_gaps_and_can_be_repeated() {
        for (n, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(usize::try_from(migration.number).unwrap(), n + 1);
            assert!(migration.name.starts_with(&format!("{:04}_", migration.number)));
            assert!(migration.sql.contains("IF NOT EXISTS"), "{}", migration.name);
            assert!(!migration.text(0).contains('{'), "{}", migration.name);
        }
    }

    #[test]
    fn an_offset_is_less_than_a_day() {
        assert_eq!(offset_s(480).unwrap(), 28_800);
        assert!(offset_s(1440).is_err());
        assert!(offset_s(i32::MIN).is_err());
    }
}
