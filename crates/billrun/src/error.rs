//! Why a run or an explanation stops.
//!
//! In: causes from both stores. Out: one error per operation, naming what and where.
//! Never here: accounts that cannot be billed; those wait, the run goes on.

use chrono::{DateTime, Utc};
use model::BillId;
use store_clickhouse::QueryError;
use store_postgres::{CycleError, DatabaseError, FinishRunError, ReadBillError, WriteBillsError};

/// Why a run stopped. What was written stays; starting again goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A book has no cycle of that name, or no book has.
    #[error("there is no cycle {cycle:?} of {}", book.as_deref().unwrap_or("any book"))]
    UnknownCycle {
        /// The book asked for; `None` when all were.
        book: Option<String>,
        /// The cycle asked for.
        cycle: String,
    },
    /// The cycle is not over at the cutoff: reads for its end cannot be there yet.
    #[error("cycle {cycle} of book {book} ends at {ends_at}, after the cutoff {cutoff}")]
    CycleNotOver {
        /// The book.
        book: String,
        /// The cycle.
        cycle: String,
        /// When it ends.
        ends_at: DateTime<Utc>,
        /// The cutoff of the run.
        cutoff: DateTime<Utc>,
    },
    /// Somebody else runs this cycle right now.
    #[error(
        "cycle {cycle} of book {book} is being billed by another run{}",
        since.map(|since| format!(", since {since}")).unwrap_or_default()
    )]
    Busy {
        /// The book.
        book: String,
        /// The cycle.
        cycle: String,
        /// Since when, if the other run got so far as to say so.
        since: Option<DateTime<Utc>>,
    },
    /// Postgres does not say what is to be billed.
    #[error("read what cycle {cycle} of book {book} has to bill")]
    Registry {
        /// The book.
        book: String,
        /// The cycle.
        cycle: String,
        /// Why not.
        source: CycleError,
    },
    /// ClickHouse does not give the reads.
    #[error("read the bounds of cycle {cycle} of book {book}")]
    Reads {
        /// The book.
        book: String,
        /// The cycle.
        cycle: String,
        /// Why not.
        source: QueryError,
    },
    /// The run cannot be begun in Postgres.
    #[error("start the run of cycle {cycle} of book {book}")]
    Start {
        /// The book.
        book: String,
        /// The cycle.
        cycle: String,
        /// Why not.
        source: DatabaseError,
    },
    /// A page of bills cannot be written.
    #[error("write bills of cycle {cycle} of book {book}")]
    Write {
        /// The book.
        book: String,
        /// The cycle.
        cycle: String,
        /// Why not.
        source: WriteBillsError,
    },
    /// The run cannot be finished.
    #[error("finish the run of cycle {cycle} of book {book}")]
    Finish {
        /// The book.
        book: String,
        /// The cycle.
        cycle: String,
        /// Why not.
        source: FinishRunError,
    },
    /// A task of ours died: a defect.
    #[error("a worker of the run died")]
    Worker(#[source] tokio::task::JoinError),
    /// Totals do not fit an exact decimal.
    #[error("the sums of the run do not fit")]
    Sum(#[from] model::MoneyError),
}

/// Why a bill cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// There is no such bill.
    #[error("there is no bill {0}")]
    UnknownBill(BillId),
    /// The account has no live bill in the cycle, or there is no such account or cycle.
    #[error("account {account} has no bill in cycle {cycle}")]
    NoBill {
        /// The account number.
        account: String,
        /// The cycle's name.
        cycle: String,
    },
    /// Postgres does not give it.
    #[error("read {what}")]
    Read {
        /// Which bill.
        what: String,
        /// Why not.
        source: ReadBillError,
    },
    /// Postgres does not give the cycles.
    #[error("look for cycle {cycle}")]
    Cycle {
        /// The cycle's name.
        cycle: String,
        /// Why not.
        source: CycleError,
    },
}
