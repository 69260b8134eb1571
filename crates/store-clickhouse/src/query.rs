//! Questions to the store, right before any merge.
//!
//! In: meters, instants, filters. Out: plain values, in a stated order, of bounded number.
//! Never here: writing; tolerance for half an answer.

use crate::{
    BoundaryRead, Counts, DeadLetterOnFile, Position, QueryError, RawUplink, ReadKey, Store,
    StoredRead,
    rows::{
        BoundaryBack, DeadLetterBack, RAW_COLUMNS, READ_COLUMNS, RawBack, ReadBack, millis,
        seconds, shared,
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use clickhouse::{Row, RowOwned, RowRead, query::Query};
use model::{MeterId, Register};
use serde::Deserialize;
use std::{ops::Range, sync::Arc, time::Duration};

/// Meters or keys per query: a parameter stays below the server's limit of 128 KiB per form field.
const KEYS_PER_QUERY: usize = 8_000;
/// How much longer than the server's own limit we wait for its answer.
const GRACE: Duration = Duration::from_secs(5);

/// Totals over everything ever taken in, from the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Uplinks by how they ended.
    pub counts: Counts,
    /// Batches in the ledger.
    pub batches: u64,
    /// When the last batch was put together.
    pub last_stored_at: Option<DateTime<Utc>>,
}

/// How many rows the tables hold, repeated ones counted once. Reads every key: for reports, not
/// for a page that refreshes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowTotals {
    /// Reads of any verdict.
    pub reads: u64,
    /// Reads that may be billed.
    pub accepted: u64,
    /// Reads that wait for a person.
    pub held: u64,
    /// Reads that can never be billed.
    pub refused: u64,
    /// Meter events.
    pub events: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Dead letters that were never replayed.
    pub dead_letters_open: u64,
}

/// What came in during one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// Beginning of the minute.
    pub minute: DateTime<Utc>,
    /// Uplinks by how they ended.
    pub counts: Counts,
}

/// Which dead letters; the default is the newest hundred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Only with this reason code.
    pub reason: Option<String>,
    /// Only of this stream.
    pub stream: Option<String>,
    /// Received at or after.
    pub from: Option<DateTime<Utc>>,
    /// Received before.
    pub until: Option<DateTime<Utc>>,
    /// Only those replayed (`true`) or still open (`false`).
    pub replayed: Option<bool>,
    /// At most so many, newest first.
    pub limit: u32,
}

impl Default for DeadLetterFilter {
    fn default() -> Self {
        Self { reason: None, stream: None, from: None, until: None, replayed: None, limit: 100 }
    }
}

/// Which raw uplinks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawFilter {
    /// Of one meter, received in `from ≤ t < until`.
    Meter {
        /// The meter.
        meter: MeterId,
        /// Beginning.
        from: DateTime<Utc>,
        /// End, outside.
        until: DateTime<Utc>,
    },
    /// Of one stream's epoch, by sequence number.
    Stream {
        /// The stream.
        stream: Arc<str>,
        /// Its epoch.
        epoch: u64,
        /// The sequence numbers.
        sequences: Range<u64>,
    },
}

#[derive(Row, Deserialize)]
struct PositionBack {
    stream: String,
    epoch: u64,
    next_sequence: u64,
}

#[derive(Row, Deserialize)]
struct CountsBack {
    key: i64,
    batches: u64,
    received: u64,
    stored: u64,
    duplicate: u64,
    rejected: u64,
}

impl CountsBack {
    const fn counts(&self) -> Counts {
        Counts {
            received: self.received,
            stored: self.stored,
            duplicate: self.duplicate,
            rejected: self.rejected,
        }
    }
}

#[derive(Row, Deserialize)]
struct RefusalBack {
    reason: String,
    letters: u64,
}

#[derive(Row, Deserialize)]
struct RowTotalsBack {
    reads: u64,
    accepted: u64,
    held: u64,
    refused: u64,
    events: u64,
    dead_letters: u64,
    dead_letters_open: u64,
}

const SUMS: &str = "count() AS batches, sum(received) AS received, sum(stored) AS stored, \
     sum(duplicate) AS duplicate, sum(rejected) AS rejected FROM ingest_ledger FINAL";

impl Store {
    /// Whether the server answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), QueryError> {
        self.ask::<u8>("ping", self.server.query_raw("SELECT 1")).await.map(|_one| ())
    }

    /// Where to go on in a stream: after the last stored uplink of its highest epoch. `None` for a
    /// stream nobody has heard of.
    ///
    /// # Errors
    /// When the server cannot answer.
    pub async fn position(&self, stream: &str) -> Result<Option<Position>, QueryError> {
        let query = self
            .client
            .query_raw(
                "SELECT stream, epoch, max(next_sequence) AS next_sequence FROM ingest_ledger \
                 WHERE stream = {stream:String} GROUP BY stream, epoch ORDER BY epoch DESC LIMIT 1",
            )
            .param("stream", stream);
        let rows = self.ask::<PositionBack>("position", query).await?;
        Ok(rows.first().map(|row| Position { epoch: row.epoch, next_sequence: row.next_sequence }))
    }

    /// The position of every stream, by name.
    ///
    /// # Errors
    /// When the server cannot answer.
    pub async fn positions(&self) -> Result<Vec<(Arc<str>, Position)>, QueryError> {
        let query = self.client.query_raw(
            "SELECT stream, epoch, max(next_sequence) AS next_sequence FROM ingest_ledger \
             GROUP BY stream, epoch ORDER BY stream, epoch DESC LIMIT 1 BY stream",
        );
        let rows = self.ask::<PositionBack>("positions", query).await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let position = Position { epoch: row.epoch, next_sequence: row.next_sequence };
                (shared(row.stream), position)
            })
            .collect())
    }

    /// The last accepted read of every register of the given meters, by meter and register. From
    /// the daily rollup; see [`Store::boundary_reads_by_day`] for its one reservation.
    ///
    /// # Errors
    /// When the server cannot answer.
    pub async fn latest_reads(&self, meters: &[MeterId]) -> Result<Vec<BoundaryRead>, QueryError> {
        const NAME: &str = "latest_reads";
        let mut found = Vec::with_capacity(meters.len());
        for chunk in meters.chunks(KEYS_PER_QUERY) {
            let query = self
                .client
                .query_raw(
                    "SELECT meter, register, last.1 AS measured_at, last.3 AS count, \
                     last.4 AS exponent, last.5 AS unit, last.6 AS quality, last.7 AS stored_at \
                     FROM (SELECT d.meter AS meter, d.register AS register, max(d.last) AS last \
                       FROM reads_daily AS d WHERE d.meter IN {meters:Array(UInt32)} \
                       GROUP BY meter, register) \
                     ORDER BY meter, register",
                )
                .param("meters", numbers(chunk));
            for row in self.ask::<BoundaryBack>(NAME, query).await? {
                found.push(row.into_read(NAME)?);
            }
        }
        Ok(found)
    }

    /// The reads stored under the given keys, whatever their verdict, by key within each 8000
    /// keys asked for.
    ///
    /// # Errors
    /// When the server cannot answer.
    pub async fn existing_reads(&self, keys: &[ReadKey]) -> Result<Vec<StoredRead>, QueryError> {
        const NAME: &str = "existing_reads";
        let sql = format!(
            "SELECT {READ_COLUMNS} FROM reads FINAL \
             WHERE (meter, register, measured_at) IN ( \
               SELECT key.1, key.2, toDateTime(key.3, 'UTC') FROM (SELECT arrayJoin(arrayZip( \
                 {{meters:Array(UInt32)}}, {{registers:Array(UInt32)}}, {{times:Array(UInt32)}} \
               )) AS key)) \
             AND measured_at BETWEEN toDateTime({{first:UInt32}}, 'UTC') \
               AND toDateTime({{last:UInt32}}, 'UTC') \
             ORDER BY meter, register, measured_at"
        );
        let mut found = Vec::new();
        for chunk in keys.chunks(KEYS_PER_QUERY) {
            let times: Vec<u32> = chunk.iter().map(|(_, _, at)| seconds(*at)).collect();
            let query = self
                .client
                .query_raw(&sql)
                .param("meters", chunk.iter().map(|(m, _, _)| m.number()).collect::<Vec<_>>())
                .param("registers", chunk.iter().map(|(_, r, _)| r.code()).collect::<Vec<_>>())
                .param("first", times.iter().min())
                .param("last", times.iter().max())
                .param("times", times);
            for row in self.ask::<ReadBack>(NAME, query).await? {
                found.push(row.into_read(NAME)?);
            }
        }
        Ok(found)
    }

    /// How many of these reads are not in the store: 0 after a successful load. For checking a
    /// load by counting back.
    ///
    /// # Errors
    /// When the server cannot answer.
    pub async fn missing_reads(&self, reads: &[StoredRead]) -> Result<usize, QueryError> {
        let mut keys: Vec<ReadKey> = reads.iter().map(StoredRead::key).collect();
        keys.sort_unstable();
        keys.dedup();
        let found = self.existing_reads(&keys).await?.len();
        Ok(keys.len().saturating_sub(found))
    }

    /// The last accepted read of each of the given registers in `at - tolerance < t ≤ at`, among
    /// what was stored up to `stored_until`; by meter and register. A register without such a read
    /// is absent. The same question gives the same answer for ever.
    ///
    /// # Errors
    /// When the server cannot answer.
    pub async fn boundary_reads(
        &self,
        meters: &[MeterId],
        registers: &[Register],
        at: DateTime<Utc>,
        tolerance: TimeDelta,
        stored_until: DateTime<Utc>,
    ) -> Result<Vec<BoundaryRead>, QueryError> {
        // FINAL first finds the one row of each key; verdict and time of storing are asked after.
        self.boundary(
            "boundary_reads",
            "SELECT meter, register, last.1 AS measured_at, last.2 AS count, last.3 AS exponent, \
             last.4 AS unit, last.5 AS quality, last.6 AS stored_at \
             FROM (SELECT r.meter AS meter, r.register AS register, \
                 max((r.measured_at, r.count, r.exponent, r.unit, r.quality, r.stored_at)) AS last \
               FROM reads AS r FINAL \
               WHERE r.meter IN {meters:Array(UInt32)} AND r.register IN {registers:Array(UInt32)} \
                 AND r.measured_at > toDateTime({after:UInt32}, 'UTC') \
                 AND r.measured_at <= toDateTime({at:UInt32}, 'UTC') \
                 AND r.stored_at <= fromUnixTimestamp64Milli({stored_until:Int64}, 'UTC') \
                 AND r.verdict = 0 \
               GROUP BY meter, register) \
             ORDER BY meter, register",
            BoundaryQuestion { meters, registers, at, tolerance, stored_until },
        )
        .await
    }

    /// The same as [`Store::boundary_reads`] for an `at` that is a local midnight, from the daily
    /// rollup: many times faster over many meters.
    ///
    /// Two reservations. A rollup row whose read was stored after `stored_until` hides an earlier
    /// one: such registers are absent here, though `boundary_reads` may know them. And where one
    /// key was stored twice with different verdicts, the rollup counts the accepted one even if
    /// the other came first. Ask `boundary_reads` for what is billed.
    ///
    /// # Errors
    /// When the server cannot answer.
    pub async fn boundary_reads_by_day(
        &self,
        meters: &[MeterId],
        registers: &[Register],
        at: DateTime<Utc>,
        tolerance: TimeDelta,
        stored_until: DateTime<Utc>,
    ) -> Result<Vec<BoundaryRead>, QueryError> {
        // A rollup day is (midnight, midnight]; the days that may hold a read of the window are
        // those of its ends, whatever the utility's offset, which is less than a day.
        self.boundary(
            "boundary_reads_by_day",
            "SELECT meter, register, last.1 AS measured_at, last.3 AS count, last.4 AS exponent, \
             last.5 AS unit, last.6 AS quality, last.7 AS stored_at \
             FROM (SELECT d.meter AS meter, d.register AS register, max(d.last) AS last \
               FROM reads_daily AS d \
               WHERE d.meter IN {meters:Array(UInt32)} AND d.register IN {registers:Array(UInt32)} \
                 AND d.day >= toDate(toDateTime({after:UInt32}, 'UTC')) - 1 \
                 AND d.day <= toDate(toDateTime({at:UInt32}, 'UTC')) + 1 \
                 AND d.last.1 <= toDateTime({at:UInt32}, 'UTC') \
               GROUP BY meter, register) \
             WHERE last.1 > toDateTime({after:UInt32}, 'UTC') \
               AND last.7 <= fromUnixTimestamp64Milli({stored_until:Int64}, 'UTC') \
             ORDER BY meter, register",
            BoundaryQuestion { meters, registers, at, tolerance, stored_until },
        )
        .await
    }

    async fn boundary(
        &self,
        name: &'static str,
        sql: &str,
        question: BoundaryQuestion<'_>,
    ) -> Result<Vec<BoundaryRead>, QueryError> {
        let BoundaryQuestion { meters, registers, at, tolerance, stored_until } = question;
        let registers: Vec<u32> = registers.iter().map(|register| register.code()).collect();
        let after = at.checked_sub_signed(tolerance).unwrap_or(DateTime::<Utc>::MIN_UTC);
        let mut found = Vec::with_capacity(meters.len());
        for chunk in meters.chunks(KEYS_PER_QUERY) {
            let query = self
                .client
                .query_raw(sql)
                .param("meters", numbers(chunk))
                .param("registers", &registers)
                .param("after", seconds(after))
                .param("at", seconds(at))
                .param("stored_until", millis(stored_until));
            for row in self.ask::<BoundaryBack>(name, query).await? {
                found.push(row.into_read(name)?);
            }
        }
        Ok(found)
    }

    /// The reads of one meter measured in `from ≤ t < until`, whatever their verdict, by register
    /// and time; at most `limit`.
    ///
    /// # Errors
    /// When the server cannot answer.
    pub async fn reads_between(
        &self,
        meter: MeterId,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<StoredRead>, QueryError> {
        const NAME: &str = "reads_between";
        let sql = format!(
            "SELECT {READ_COLUMNS} FROM reads FINAL \
             WHERE meter = {{meter:UInt32}} \
               AND measured_at >= toDateTime({{from:UInt32}}, 'UTC') \
               AND measured_at < toDateTime({{until:UInt32}}, 'UTC') \
             ORDER BY register, measured_at LIMIT {{limit:UInt32}}"
        );
        let query = self
            .client
            .query_raw(&sql)
            .param("meter", meter.number())
            .param("from", seconds(from))
            .param("until", seconds(until))
            .param("limit", limit);
        let rows = self.ask::<ReadBack>(NAME, query).await?;
        rows.into_iter().map(|row| row.into_read(NAME)).collect()
    }

    /// Totals over everything ever taken in.
    ///
    /// # Errors
    /// When the server cannot answer.
    pub async fn totals(&self) -> Result<Totals, QueryError> {
        let sql = format!("SELECT toUnixTimestamp64Milli(max(stored_at)) AS key, {SUMS}");
        let rows = self.ask::<CountsBack>("totals", self.client.query_raw(&sql)).await?;
        Ok(rows.first().map_or_else(Totals::default, |row| Totals {
            counts: row.counts(),
            batches: row.batches,
            last_stored_at: DateTime::from_timestamp_millis(row.key).filter(|_| row.batches > 0),
        }))
    }

    /// What came in per minute since `since`, oldest first; minutes in which nothing came in are
    /// absent. At most the 1440 newest.
    ///
    /// # Errors
    /// When the server cannot answer.
    pub async fn activity(&self, since: DateTime<Utc>) -> Result<Vec<Activity>, QueryError> {
        let sql = format!(
            "SELECT toInt64(toUnixTimestamp(toStartOfMinute(stored_at))) AS key, {SUMS} \
             WHERE stored_at >= fromUnixTimestamp64Milli({{since:Int64}}, 'UTC') \
             GROUP BY key ORDER BY key DESC LIMIT 1440"
        );
        let query = self.client.query_raw(&sql).param("since", millis(since));
        let rows = self.ask::<CountsBack>("activity", query).await?;
        Ok(rows
            .into_iter()
            .rev()
            .map(|row| Activity {
                minute: DateTime::from_timestamp(row.key, 0).unwrap_or_default(),
                counts: row.counts(),
            })
            .collect())
    }

    /// How many rows the tables hold.
    ///
    /// # Errors
    /// When the server cannot answer.
    pub async fn row_totals(&self) -> Result<RowTotals, QueryError> {
        let query = self.client.query_raw(
            "SELECT reads, accepted, held, refused, events, dead_letters, \
               toUInt64(dead_letters - replayed) AS dead_letters_open \
             FROM (SELECT count() AS reads, countIf(verdict = 0) AS accepted, \
                 countIf(verdict = 1) AS held, countIf(verdict = 2) AS refused FROM reads FINAL) AS r, \
               (SELECT count() AS events FROM meter_events FINAL) AS e, \
               (SELECT count() AS dead_letters, toUInt64(countIf((stream, epoch, sequence, reason) \
                   IN (SELECT stream, epoch, sequence, reason FROM dead_letter_replays))) AS replayed \
                 FROM dead_letters FINAL) AS d",
        );
        let rows = self.ask::<RowTotalsBack>("row_totals", query).await?;
        Ok(rows.first().map_or_else(RowTotals::default, |row| RowTotals {
            reads: row.reads,
            accepted: row.accepted,
            held: row.held,
            refused: row.refused,
            events: row.events,
            dead_letters: row.dead_letters,
            dead_letters_open: row.dead_letters_open,
        }))
    }

    /// How many dead letters there are for each reason, the most frequent first.
    ///
    /// # Errors
    /// When the server cannot answer.
    pub async fn refusals(&self) -> Result<Vec<(String, u64)>, QueryError> {
        let query = self.client.query_raw(
            "SELECT reason, count() AS letters FROM dead_letters FINAL \
             GROUP BY reason ORDER BY letters DESC, reason",
        );
        let rows = self.ask::<RefusalBack>("refusals", query).await?;
        Ok(rows.into_iter().map(|row| (row.reason, row.letters)).collect())
    }

    /// Dead letters, newest first.
    ///
    /// # Errors
    /// When the server cannot answer.
    pub async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetterOnFile>, QueryError> {
        const NAME: &str = "dead_letters";
        let from = filter.from.map_or(i64::MIN / 2_000_000, millis);
        let until = filter.until.map_or(i64::MAX / 2_000_000, millis);
        let replayed = match filter.replayed {
            None => "all",
            Some(true) => "replayed",
            Some(false) => "open",
        };
        let query = self
            .client
            .query_raw(
                "SELECT l.stream AS stream, l.epoch AS epoch, l.sequence AS sequence, \
                   l.reason AS reason, message, frame_offset, raw, source, device, codec, \
                   codec_version, received_at, stored_at, replayed_ms AS replayed_at \
                 FROM dead_letters AS l FINAL \
                 LEFT JOIN (SELECT stream, epoch, sequence, reason, \
                     toUnixTimestamp64Milli(max(replayed_at)) AS replayed_ms \
                   FROM dead_letter_replays GROUP BY stream, epoch, sequence, reason) AS p \
                   ON l.stream = p.stream AND l.epoch = p.epoch AND l.sequence = p.sequence \
                   AND l.reason = p.reason \
                 WHERE ({reason:String} = '' OR l.reason = {reason:String}) \
                   AND ({stream:String} = '' OR l.stream = {stream:String}) \
                   AND toUnixTimestamp64Milli(received_at) >= {from:Int64} \
                   AND toUnixTimestamp64Milli(received_at) < {until:Int64} \
                   AND ({replayed:String} = 'all' OR \
                     if(replayed_ms > 0, 'replayed', 'open') = {replayed:String}) \
                 ORDER BY received_at DESC, stream, epoch, sequence, reason \
                 LIMIT {limit:UInt32}",
            )
            .param("reason", filter.reason.as_deref().unwrap_or_default())
            .param("stream", filter.stream.as_deref().unwrap_or_default())
            .param("from", from)
            .param("until", until)
            .param("replayed", replayed)
            .param("limit", filter.limit);
        let rows = self.ask::<DeadLetterBack>(NAME, query).await?;
        rows.into_iter().map(|row| row.into_letter(NAME)).collect()
    }

    /// Uplinks as they came, in the order of their sequence (by stream) or of reception (by
    /// meter); at most `limit`.
    ///
    /// # Errors
    /// When the server cannot answer.
    pub async fn raw_uplinks(
        &self,
        filter: &RawFilter,
        limit: u32,
    ) -> Result<Vec<RawUplink>, QueryError> {
        const NAME: &str = "raw_uplinks";
        let query = match filter {
            RawFilter::Meter { meter, from, until } => self
                .client
                .query_raw(&format!(
                    "SELECT {RAW_COLUMNS} FROM raw_uplinks FINAL WHERE meter = {{meter:UInt32}} \
                     AND received_at >= fromUnixTimestamp64Milli({{from:Int64}}, 'UTC') \
                     AND received_at < fromUnixTimestamp64Milli({{until:Int64}}, 'UTC') \
                     ORDER BY received_at, stream, epoch, sequence LIMIT {{limit:UInt32}}"
                ))
                .param("meter", meter.number())
                .param("from", millis(*from))
                .param("until", millis(*until)),
            RawFilter::Stream { stream, epoch, sequences } => self
                .client
                .query_raw(&format!(
                    "SELECT {RAW_COLUMNS} FROM raw_uplinks FINAL WHERE stream = {{stream:String}} \
                     AND epoch = {{epoch:UInt64}} AND sequence >= {{from:UInt64}} \
                     AND sequence < {{until:UInt64}} \
                     ORDER BY sequence, meter LIMIT 1 BY sequence LIMIT {{limit:UInt32}}"
                ))
                .param("stream", stream.as_ref())
                .param("epoch", epoch)
                .param("from", sequences.start)
                .param("until", sequences.end),
        };
        let rows = self.ask::<RawBack>(NAME, query.param("limit", limit)).await?;
        rows.into_iter().map(|row| row.into_raw(NAME)).collect()
    }

    /// Asks, within the time the settings allow.
    async fn ask<T>(&self, query: &'static str, question: Query) -> Result<Vec<T>, QueryError>
    where
        T: RowOwned + RowRead,
    {
        let answer = question
            .with_setting("max_execution_time", self.query_timeout.as_secs().to_string())
            .with_setting("do_not_merge_across_partitions_select_final", "1")
            .fetch_all::<T>();
        tokio::time::timeout(self.query_timeout.saturating_add(GRACE), answer)
            .await
            .unwrap_or(Err(clickhouse::error::Error::TimedOut))
            .map_err(|source| QueryError::Refused { query, source })
    }
}

struct BoundaryQuestion<'a> {
    meters: &'a [MeterId],
    registers: &'a [Register],
    at: DateTime<Utc>,
    tolerance: TimeDelta,
    stored_until: DateTime<Utc>,
}

fn numbers(meters: &[MeterId]) -> Vec<u32> {
    meters.iter().map(|meter| meter.number()).collect()
}
