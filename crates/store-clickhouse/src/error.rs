//! Errors of the store, one enum per operation, and which of them are worth another try.
//!
//! In: errors of the `clickhouse` crate. Out: what was being done, the cause as `source`.
//! Never here: retrying.

use chrono::{DateTime, Utc};
use clickhouse::error::Error;
use model::MeterId;

/// Why a schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The server refused a statement or could not be reached.
    #[error("migration {number} ({name}) of ClickHouse database {database}")]
    Refused {
        /// Database that was being migrated.
        database: String,
        /// Number of the statement; 0 is what comes before the first.
        number: u32,
        /// Its name.
        name: &'static str,
        /// What the server or the network said.
        source: Error,
    },
    /// A statement that was applied before reads differently now.
    #[error(
        "migration {number} ({name}) was applied to ClickHouse database {database} with another \
         text: either the database is of another program version or the utility's UTC offset changed"
    )]
    Changed {
        /// Database that was being migrated.
        database: String,
        /// Number of the statement.
        number: u32,
        /// Its name.
        name: &'static str,
    },
    /// The database has been migrated by a newer program.
    #[error("ClickHouse database {database} is at migration {found}, this program knows {known}")]
    Newer {
        /// Database that was being migrated.
        database: String,
        /// Highest migration in it.
        found: u32,
        /// Highest migration known here.
        known: u32,
    },
    /// The offset is not a time zone's.
    #[error("UTC offset of {minutes} minutes: want -1439 to 1439")]
    Offset {
        /// What was asked for.
        minutes: i32,
    },
}

/// Why a batch could not be loaded. Nothing of it is in the ledger; parts of it may be stored, and
/// loading it again is harmless.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The server refused the rows or could not be reached.
    #[error("insert {rows} rows into {table}")]
    Insert {
        /// Table of the insert.
        table: &'static str,
        /// Rows of the insert.
        rows: usize,
        /// What the server or the network said.
        source: Error,
    },
    /// The counts of the batch contradict each other; a defect of the caller.
    #[error(
        "batch {stream}/{epoch}/{first_sequence}: received {received} is not stored + duplicate + \
         rejected, or the sequence runs backwards"
    )]
    Unbalanced {
        /// Stream of the batch.
        stream: String,
        /// Epoch of the batch.
        epoch: u64,
        /// First sequence of the batch.
        first_sequence: u64,
        /// Uplinks received.
        received: u64,
    },
    /// A time that the column cannot hold; see `StoredRead::is_storable_at`.
    #[error("read of meter {meter} at {at}: no storable time")]
    UnstorableTime {
        /// The meter.
        meter: MeterId,
        /// The time.
        at: DateTime<Utc>,
    },
}

impl LoadError {
    /// Whether the same batch may succeed later without anybody's help: the server is away, busy,
    /// out of memory or disk. Everything else needs a person.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Insert { source, .. } => is_retriable(source),
            Self::Unbalanced { .. } | Self::UnstorableTime { .. } => false,
        }
    }
}

/// Why a question could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The server refused the query or could not be reached.
    #[error("query {query}")]
    Refused {
        /// Name of the query.
        query: &'static str,
        /// What the server or the network said.
        source: Error,
    },
    /// The answer holds something this program cannot have stored.
    #[error("query {query}: {column} {value} is unknown to this program version")]
    Unknown {
        /// Name of the query.
        query: &'static str,
        /// Column of the answer.
        column: &'static str,
        /// What stands there.
        value: String,
    },
}

impl QueryError {
    /// Whether the same query may succeed later without anybody's help.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Refused { source, .. } => is_retriable(source),
            Self::Unknown { .. } => false,
        }
    }
}

impl MigrateError {
    /// Whether the same migration may succeed later without anybody's help.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Refused { source, .. } => is_retriable(source),
            Self::Changed { .. } | Self::Newer { .. } | Self::Offset { .. } => false,
        }
    }
}

/// Exception codes of ClickHouse that pass by themselves.
const PASSING: &[u32] = &[
    3,    // UNEXPECTED_END_OF_FILE
    75,   // CANNOT_WRITE_TO_FILE_DESCRIPTOR
    159,  // TIMEOUT_EXCEEDED
    160,  // TOO_SLOW
    164,  // READONLY, while a server starts
    202,  // TOO_MANY_SIMULTANEOUS_QUERIES
    203,  // NO_FREE_CONNECTION
    209,  // SOCKET_TIMEOUT
    210,  // NETWORK_ERROR
    236,  // ABORTED, on shutdown
    241,  // MEMORY_LIMIT_EXCEEDED
    242,  // TABLE_IS_READ_ONLY
    243,  // NOT_ENOUGH_SPACE
    252,  // TOO_MANY_PARTS
    279,  // ALL_CONNECTION_TRIES_FAILED
    285,  // TOO_FEW_LIVE_REPLICAS
    319,  // UNKNOWN_STATUS_OF_INSERT
    394,  // QUERY_WAS_CANCELLED
    425,  // SYSTEM_ERROR
    439,  // CANNOT_SCHEDULE_TASK
    473,  // DEADLOCK_AVOIDED
    745,  // SERVER_OVERLOADED
    999,  // KEEPER_EXCEPTION
    1001, // STD_EXCEPTION
];

fn is_retriable(error: &Error) -> bool {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the enum is another crate's and non-exhaustive; a new kind needs a person"
    )]
    match error {
        Error::Network(_) | Error::TimedOut => true,
        Error::BadResponse(text) => match exception_code(text) {
            Some(code) => PASSING.contains(&code),
            None => passing_status(text),
        },
        _ => false,
    }
}

/// The code of `Code: 60. DB::Exception: …`.
fn exception_code(text: &str) -> Option<u32> {
    let rest = text.trim_start().strip_prefix("Code: ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..digits)?.parse().ok()
}

/// Whether a bare HTTP status, perhaps of a proxy, passes by itself.
fn passing_status(text: &str) -> bool {
    ["429 ", "502 ", "503 ", "504 "].iter().any(|status| text.starts_with(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_is_tried_again_only_when_waiting_can_help() {
        let bad = |text: &str| Error::BadResponse(text.to_owned());
        let cases = [
            (Error::Network("connection refused".into()), true),
            (Error::TimedOut, true),
            (bad("Code: 241. DB::Exception: memory limit"), true),
            (bad("Code: 252. DB::Exception: too many parts"), true),
            (bad("Code: 210"), true),
            (bad("503 Service Unavailable"), true),
            (bad("Code: 60. DB::Exception: no such table"), false),
            (bad("Code: 516. DB::Exception: authentication failed"), false),
            (bad("404 Not Found"), false),
            (Error::SchemaMismatch("x".to_owned()), false),
            (Error::RowNotFound, false),
        ];
        for (source, retriable) in cases {
            let text = source.to_string();
            let error = LoadError::Insert { table: "reads", rows: 1, source };
            assert_eq!(error.is_retriable(), retriable, "{text}");
        }
    }
}
