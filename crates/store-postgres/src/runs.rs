//! Bill runs: who may write a cycle's bills, from which cutoff, and how the run ends.
//!
//! In: a cycle, a cutoff, the hash of the rates. Out: a guard to write with, completeness.
//! Never here: what is billed (see `billrun`).
//!
//! A guard holds an advisory lock on a connection of its own, so a second start says so and
//! leaves, and a killed process frees it. Its attempt number fences what the lock cannot: a
//! writer that lost its connection without noticing writes no more.

use crate::{Cycle, DatabaseError, Store, store::doing};
use billing::Completeness;
use chrono::{DateTime, Utc};
use model::CycleId;
use sqlx::{Connection, PgConnection, Row, postgres::PgRow};
use std::fmt;

/// First half of the lock's number; the second is the cycle's id.
const RUN_LOCK: i64 = 0x6269_6c6c << 32;

/// A run's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub(crate) i64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a run is a function of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunBasis {
    /// Reads stored later do not count.
    pub cutoff: DateTime<Utc>,
    /// See [`crate::rates_hash`].
    pub rates_hash: [u8; 32],
}

/// A started run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// What it bills.
    pub cycle: Cycle,
    /// What it is a function of: of a run taken up again, the basis it began with.
    pub basis: RunBasis,
    /// How many times it was started.
    pub attempt: u32,
}

impl Run {
    /// Whether an earlier attempt was interrupted: then bills may exist already.
    #[must_use]
    pub const fn is_resumed(&self) -> bool {
        self.attempt > 1
    }
}

/// The right to write a cycle's bills, until it is dropped.
#[derive(Debug)]
pub struct RunGuard {
    run: Run,
    lock: PgConnection,
}

impl RunGuard {
    /// The run.
    #[must_use]
    pub const fn run(&self) -> &Run {
        &self.run
    }
}

/// What became of a start.
#[derive(Debug)]
pub enum StartedRun {
    /// The run may write.
    Started(RunGuard),
    /// Another process is at it.
    AlreadyRunning {
        /// Since when, if it got so far as to say so.
        since: Option<DateTime<Utc>>,
    },
}

/// A run as the run report shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    /// Its id.
    pub id: RunId,
    /// The cycle it billed.
    pub cycle: CycleId,
    /// What it is a function of.
    pub basis: RunBasis,
    /// `running` (or interrupted), `finished`, `abandoned`.
    pub state: String,
    /// How many times it was started.
    pub attempt: u32,
    /// When it was first started.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Why a run is not finished.
#[derive(Debug, thiserror::Error)]
pub enum FinishRunError {
    /// Postgres refused or is away.
    #[error("finish the bill run")]
    Database(#[from] DatabaseError),
    /// Somebody would be silently unbilled.
    #[error(
        "run {run} leaves accounts out: {} active, but {} billed, {} held, {} excused",
        counts.active, counts.billed, counts.held, counts.excused
    )]
    LeavesOut {
        /// The run.
        run: RunId,
        /// Who ended how.
        counts: Completeness,
    },
    /// Another process has taken the run up.
    #[error("run {run} was taken up by another process")]
    TakenOver {
        /// The run.
        run: RunId,
    },
}

const RUN_COLUMNS: &str = "SELECT id, cycle_id, cutoff, rates_hash, state, attempt, started_at,
    finished_at FROM bill_runs WHERE ($1::bigint IS NULL OR cycle_id = $1)
    ORDER BY id DESC LIMIT 1";

impl Store {
    /// Starts the run of a cycle, or takes up the one that was interrupted: with the basis it
    /// began with, unless the rates have changed since; then it is abandoned for a new one.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn start_run(
        &self,
        cycle: &Cycle,
        basis: RunBasis,
        now: DateTime<Utc>,
    ) -> Result<StartedRun, DatabaseError> {
        let begin = || doing(format!("start the run of cycle {} {}", cycle.book_code, cycle.name));
        // A connection of its own: closed with the guard, and with it the lock.
        let mut lock = self.pool.acquire().await.map_err(begin())?.detach();
        let free: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(RUN_LOCK | i64::from(cycle.id))
            .fetch_one(&mut lock)
            .await
            .map_err(begin())?;
        let mut tx = lock.begin().await.map_err(begin())?;
        let running = sqlx::query(
            "SELECT id, cutoff, rates_hash, attempt, started_at FROM bill_runs
             WHERE cycle_id = $1 AND state = 'running'",
        )
        .bind(i64::from(cycle.id))
        .fetch_optional(&mut *tx)
        .await
        .map_err(begin())?;
        if !free {
            let since = running.map(|row| row.try_get("started_at")).transpose().map_err(begin())?;
            return Ok(StartedRun::AlreadyRunning { since });
        }
        let mut interrupted = None;
        if let Some(row) = running {
            let id: i64 = row.try_get("id").map_err(begin())?;
            let attempt: i32 = row.try_get("attempt").map_err(begin())?;
            let hash: &[u8] = row.try_get("rates_hash").map_err(begin())?;
            if hash == basis.rates_hash {
                let cutoff = row.try_get("cutoff").map_err(begin())?;
                sqlx::query("UPDATE bill_runs SET attempt = attempt + 1 WHERE id = $1")
                    .bind(id)
                    .execute(&mut *tx)
                    .await
                    .map_err(begin())?;
                let attempt = u32::try_from(attempt).unwrap_or(u32::MAX).saturating_add(1);
                interrupted = Some((id, RunBasis { cutoff, ..basis }, attempt));
            } else {
                sqlx::query(
                    "UPDATE bill_runs SET state = 'abandoned', finished_at = $2 WHERE id = $1",
                )
                .bind(id)
                .bind(now)
                .execute(&mut *tx)
                .await
                .map_err(begin())?;
            }
        }
        let (id, basis, attempt) = match interrupted {
            Some(interrupted) => interrupted,
            None => {
                let id: i64 = sqlx::query_scalar(
                    "INSERT INTO bill_runs (cycle_id, cutoff, rates_hash, state, started_at)
                     VALUES ($1, $2, $3, 'running', $4) RETURNING id",
                )
                .bind(i64::from(cycle.id))
                .bind(basis.cutoff)
                .bind(basis.rates_hash.as_slice())
                .bind(now)
                .fetch_one(&mut *tx)
                .await
                .map_err(begin())?;
                (id, basis, 1)
            }
        };
        tx.commit().await.map_err(begin())?;
        let run = Run { id: RunId(id), cycle: cycle.clone(), basis, attempt };
        Ok(StartedRun::Started(RunGuard { run, lock }))
    }

    /// Ends a run: every account of the book is billed, held or excused. Otherwise the run stays
    /// open and may be started again.
    ///
    /// # Errors
    /// When accounts are left out, another process has taken the run up, or Postgres is away.
    pub async fn finish_run(
        &self,
        guard: RunGuard,
        now: DateTime<Utc>,
    ) -> Result<Completeness, FinishRunError> {
        let RunGuard { run, lock } = guard;
        let counts = self.completeness(&run.cycle).await?;
        if !counts.balances() {
            return Err(FinishRunError::LeavesOut { run: run.id, counts });
        }
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let finished = sqlx::query(
            "UPDATE bill_runs SET state = 'finished', finished_at = $3, active = $4, billed = $5,
                 held = $6, excused = $7
             WHERE id = $1 AND attempt = $2 AND state = 'running'",
        )
        .bind(run.id.0)
        .bind(i64::from(run.attempt))
        .bind(now)
        .bind(number(counts.active))
        .bind(number(counts.billed))
        .bind(number(counts.held))
        .bind(number(counts.excused))
        .execute(&self.pool)
        .await
        .map_err(doing("finish the bill run"))?;
        if finished.rows_affected() == 0 {
            return Err(FinishRunError::TakenOver { run: run.id });
        }
        lock.close().await.map_err(doing("free the lock of the bill run"))?;
        Ok(counts)
    }

    /// How the accounts of the cycle's book ended, as it stands now.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn completeness(&self, cycle: &Cycle) -> Result<Completeness, DatabaseError> {
        let what = || doing("count the accounts of a cycle");
        let row = sqlx::query(
            "SELECT count(*) AS active,
                 count(*) FILTER (WHERE billed) AS billed,
                 count(*) FILTER (WHERE NOT billed AND held) AS held,
                 count(*) FILTER (WHERE NOT billed AND NOT held AND excused) AS excused
             FROM (SELECT
                 EXISTS (SELECT FROM bills b WHERE b.account_id = a.id AND b.cycle_id = $2
                     AND b.state <> 'cancelled') AS billed,
                 EXISTS (SELECT FROM held_accounts h WHERE h.account_id = a.id AND h.cycle_id = $2
                     AND h.released_at IS NULL) AS held,
                 EXISTS (SELECT FROM excused_accounts e WHERE e.account_id = a.id
                     AND e.cycle_id = $2) AS excused
                 FROM accounts a WHERE a.book_id = $1) AS ends",
        )
        .bind(i64::from(cycle.book))
        .bind(i64::from(cycle.id))
        .fetch_one(&self.pool)
        .await
        .map_err(what())?;
        let count = |column: &str| -> Result<u64, DatabaseError> {
            let count: i64 = row.try_get(column).map_err(what())?;
            Ok(u64::try_from(count).unwrap_or_default())
        };
        Ok(Completeness {
            active: count("active")?,
            billed: count("billed")?,
            held: count("held")?,
            excused: count("excused")?,
        })
    }

    /// The latest run, of one cycle or of all.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn last_run(
        &self,
        cycle: Option<CycleId>,
    ) -> Result<Option<RunSummary>, DatabaseError> {
        let row = sqlx::query(RUN_COLUMNS)
            .bind(cycle.map(i64::from))
            .fetch_optional(&self.pool)
            .await
            .map_err(doing("read the last run"))?;
        row.as_ref().map(summary).transpose().map_err(doing("read the last run"))
    }
}

fn summary(row: &PgRow) -> Result<RunSummary, sqlx::Error> {
    let decode = |error: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::Decode(error);
    let hash: &[u8] = row.try_get("rates_hash")?;
    let attempt: i32 = row.try_get("attempt")?;
    let cycle: i64 = row.try_get("cycle_id")?;
    Ok(RunSummary {
        id: RunId(row.try_get("id")?),
        cycle: CycleId::try_from(cycle).map_err(|error| decode(error.into()))?,
        basis: RunBasis {
            cutoff: row.try_get("cutoff")?,
            rates_hash: hash
                .try_into()
                .map_err(|error: std::array::TryFromSliceError| decode(error.into()))?,
        },
        state: row.try_get("state")?,
        attempt: u32::try_from(attempt).map_err(|error| decode(error.into()))?,
        started_at: row.try_get("started_at")?,
        finished_at: row.try_get("finished_at")?,
    })
}
