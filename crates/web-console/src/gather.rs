//! Takes the numbers of the first page, once for all viewers.
//!
//! In: both stores, asked at an interval. Out: snapshots; where a database is away, the numbers
//! known before, and its name. Never here: markup, SQL.

use crate::{CycleLine, Refused, Snapshot, StreamLine};
use chrono::{DateTime, SecondsFormat, Utc};
use model::clock::Clock;
use std::{sync::Arc, time::Duration};
use store_clickhouse::QueryError;
use store_postgres::CycleError;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

/// How many cycles the page shows.
const CYCLES_SHOWN: usize = 24;
/// Counting rows reads every key: once in so many snapshots.
const COUNT_ROWS_EVERY: u32 = 10;

/// Asks both stores.
pub(crate) struct Gatherer {
    clickhouse: store_clickhouse::Store,
    postgres: store_postgres::Store,
    clock: Clock,
    latest: Snapshot,
    taken: Option<Instant>,
    round: u32,
}

impl Gatherer {
    pub(crate) fn new(
        clickhouse: store_clickhouse::Store,
        postgres: store_postgres::Store,
        clock: Clock,
    ) -> Self {
        Self { clickhouse, postgres, clock, latest: Snapshot::default(), taken: None, round: 0 }
    }

    /// Publishes a snapshot at every interval until `shutdown`.
    pub(crate) async fn run(
        mut self,
        interval: Duration,
        publish: watch::Sender<Arc<Snapshot>>,
        shutdown: CancellationToken,
    ) {
        let mut tick = tokio::time::interval(interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            self.take().await;
            publish.send_replace(Arc::new(self.latest.clone()));
        }
    }

    async fn take(&mut self) {
        let mut away = Vec::new();
        if let Err(error) = self.take_readings().await {
            tracing::warn!(%error, "clickhouse does not answer the console");
            away.push("ClickHouse");
        }
        if let Err(error) = self.take_money().await {
            tracing::warn!(%error, "postgres does not answer the console");
            away.push("Postgres");
        }
        self.latest.away = (!away.is_empty()).then(|| away.join(", "));
        self.latest.taken_at = written(self.clock.now());
        self.round = self.round.wrapping_add(1);
    }

    async fn take_readings(&mut self) -> Result<(), QueryError> {
        let counts = self.clickhouse.totals().await?.counts;
        let now = Instant::now();
        let grown = counts.received.saturating_sub(self.latest.received);
        self.latest.uplinks_per_second = self.taken.map_or(0, |taken| {
            let elapsed_ms = now.duration_since(taken).as_millis().max(1);
            u64::try_from(u128::from(grown) * 1000 / elapsed_ms).unwrap_or(u64::MAX)
        });
        self.taken = Some(now);
        self.latest.received = counts.received;
        self.latest.stored = counts.stored;
        self.latest.duplicate = counts.duplicate;
        self.latest.rejected = counts.rejected;
        self.latest.streams = self
            .clickhouse
            .positions()
            .await?
            .into_iter()
            .map(|(name, position)| StreamLine {
                name: name.to_string(),
                next_sequence: position.next_sequence,
            })
            .collect();
        if self.round.is_multiple_of(COUNT_ROWS_EVERY) {
            self.latest.reads = self.clickhouse.row_totals().await?.reads;
            self.latest.refused = self
                .clickhouse
                .refusals()
                .await?
                .into_iter()
                .map(|(reason, uplinks)| Refused { reason, uplinks })
                .collect();
        }
        Ok(())
    }

    async fn take_money(&mut self) -> Result<(), CycleError> {
        let counts = self.postgres.live_counts(self.clock.now()).await?;
        self.latest.books = counts.books;
        self.latest.accounts = counts.accounts;
        self.latest.meters = counts.meters;
        let mut cycles = self.postgres.cycles().await?;
        cycles.sort_by(|a, b| b.name.cmp(&a.name).then_with(|| a.book_code.cmp(&b.book_code)));
        let mut lines = Vec::with_capacity(cycles.len().min(CYCLES_SHOWN));
        for cycle in cycles.into_iter().take(CYCLES_SHOWN) {
            let completeness = self.postgres.completeness(&cycle).await?;
            let totals = self.postgres.cycle_totals(&cycle).await?;
            lines.push(CycleLine {
                book: cycle.book_code,
                name: cycle.name,
                active: completeness.active,
                billed: completeness.billed,
                held: completeness.held,
                excused: completeness.excused,
                amount: totals.sum_of_bills.to_string(),
            });
        }
        self.latest.cycles = lines;
        Ok(())
    }
}

fn written(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
