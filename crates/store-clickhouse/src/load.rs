//! Loading a batch: rows first, the ledger row last.
//!
//! In: a run of consecutive uplinks of one stream. Out: all of it stored, or an error that says
//! whether to try again; trying again is always harmless.
//! Never here: judging, retrying, positions.

use crate::{
    DeadLetterKey, LoadBatch, LoadError, Store, StoredRead,
    rows::{DeadLetterRow, EventRow, LedgerRow, RawRow, ReadRow, ReplayRow, millis, seconds},
};
use chrono::{DateTime, Datelike, Utc};
use clickhouse::RowWrite;
use metrics::{counter, histogram};
use std::time::Duration;
use tokio::time::Instant;

/// How long one chunk may take to reach the server's socket.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// What a load put into the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Loaded {
    /// Reads inserted; fewer than in the batch where it held two of one key.
    pub reads: usize,
    /// Raw uplinks inserted.
    pub raw: usize,
    /// Events inserted.
    pub events: usize,
    /// Dead letters inserted.
    pub dead_letters: usize,
}

impl Store {
    /// Stores a batch. Rows go in idempotently; the ledger row goes in last, when everything else
    /// is durable. Loading the same batch twice changes nothing.
    ///
    /// Reads are inserted month by month, at most `insert_rows_max` at a time, so that each insert
    /// is stored as a whole or not at all. Of two reads of one key the first in the batch counts.
    ///
    /// # Errors
    /// [`LoadError::is_retriable`] says whether the same batch may succeed later.
    pub async fn load(&self, batch: &LoadBatch) -> Result<Loaded, LoadError> {
        if !batch.counts.balance() || batch.next_sequence < batch.first_sequence {
            return Err(LoadError::Unbalanced {
                stream: batch.stream.to_string(),
                epoch: batch.epoch,
                first_sequence: batch.first_sequence,
                received: batch.counts.received,
            });
        }
        let reads = in_key_order(&batch.reads)?;
        let started = Instant::now();

        let (raw, read_rows, events, dead_letters) = tokio::try_join!(
            self.insert_all::<RawRow<'_>, _>("raw_uplinks", &batch.raw),
            self.insert_reads(&reads),
            self.insert_all::<EventRow<'_>, _>("meter_events", &batch.events),
            self.insert_all::<DeadLetterRow<'_>, _>("dead_letters", &batch.dead_letters),
        )?;
        self.insert::<LedgerRow<'_>>("ingest_ledger", std::iter::once(LedgerRow::from(batch)))
            .await?;

        histogram!("tidemark_store_load_seconds").record(started.elapsed());
        let count = |rows: usize| u64::try_from(rows).unwrap_or(u64::MAX);
        counter!("tidemark_store_reads_total").increment(count(read_rows));
        counter!("tidemark_store_batches_total").increment(1);
        Ok(Loaded { reads: read_rows, raw, events, dead_letters })
    }

    /// Notes that dead letters were replayed at `at`. What comes of the replay is a batch of its
    /// own.
    ///
    /// # Errors
    /// [`LoadError::is_retriable`] says whether the same call may succeed later.
    pub async fn mark_replayed(
        &self,
        letters: &[DeadLetterKey],
        at: DateTime<Utc>,
    ) -> Result<(), LoadError> {
        let replayed_at = millis(at);
        for chunk in letters.chunks(self.insert_rows_max) {
            let rows = chunk.iter().map(|key| ReplayRow {
                stream: &key.stream,
                epoch: key.epoch,
                sequence: key.sequence,
                reason: &key.reason,
                replayed_at,
            });
            self.insert::<ReplayRow<'_>>("dead_letter_replays", rows).await?;
        }
        Ok(())
    }

    async fn insert_reads(&self, reads: &[&StoredRead]) -> Result<usize, LoadError> {
        for month in reads.chunk_by(|a, b| month(a) == month(b)) {
            for chunk in month.chunks(self.insert_rows_max) {
                let rows = chunk.iter().copied().map(ReadRow::from);
                self.insert::<ReadRow<'_>>("reads", rows).await?;
            }
        }
        Ok(reads.len())
    }

    async fn insert_all<'a, R, S>(
        &self,
        table: &'static str,
        values: &'a [S],
    ) -> Result<usize, LoadError>
    where
        R: RowWrite,
        R::Value<'a>: From<&'a S> + Send,
        S: Sync,
    {
        for chunk in values.chunks(self.insert_rows_max) {
            self.insert::<R>(table, chunk.iter().map(R::Value::<'a>::from)).await?;
        }
        Ok(values.len())
    }

    /// One insert: stored as a whole or not at all, durable when this returns.
    async fn insert<'a, R>(
        &self,
        table: &'static str,
        rows: impl ExactSizeIterator<Item = R::Value<'a>> + Send,
    ) -> Result<(), LoadError>
    where
        R: RowWrite,
        R::Value<'a>: Send,
    {
        let count = rows.len();
        if count == 0 {
            return Ok(());
        }
        let refused = |source| LoadError::Insert { table, rows: count, source };
        let block_rows = self.insert_rows_max.to_string();
        // Everything an insert relies on is said here: defaults differ between the embedded
        // engine, server versions and user profiles.
        let mut insert = self
            .client
            .insert::<R>(table)
            .await
            .map_err(refused)?
            .with_setting("async_insert", "0")
            .with_setting("insert_deduplicate", "0")
            .with_setting("deduplicate_blocks_in_dependent_materialized_views", "0")
            .with_setting("materialized_views_ignore_errors", "0")
            .with_setting("max_insert_block_size", &block_rows)
            .with_setting("min_insert_block_size_rows", &block_rows)
            .with_setting("wait_end_of_query", "1")
            .with_timeouts(Some(SEND_TIMEOUT), Some(self.insert_timeout));
        for row in rows {
            insert.write(&row).await.map_err(refused)?;
        }
        insert.end().await.map_err(refused)
    }
}

/// Months are the table's partitions.
fn month(read: &StoredRead) -> (i32, u32) {
    (read.measured_at.year(), read.measured_at.month())
}

/// The reads by month and key, the first of each key only.
fn in_key_order(reads: &[StoredRead]) -> Result<Vec<&StoredRead>, LoadError> {
    if let Some(read) = reads.iter().find(|r| !StoredRead::is_storable_at(r.measured_at)) {
        return Err(LoadError::UnstorableTime { meter: read.meter, at: read.measured_at });
    }
    let key = |read: &StoredRead| (read.meter, read.register, seconds(read.measured_at));
    let mut ordered: Vec<&StoredRead> = reads.iter().collect();
    // Stable: of equal keys the first stays first.
    ordered.sort_by_key(|read| (month(read), key(read)));
    ordered.dedup_by_key(|read| key(read));
    Ok(ordered)
}
