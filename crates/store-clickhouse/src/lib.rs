//! The meter-data store: reads, raw uplinks, events, dead letters and the ledger of what came in.
//!
//! In: batches of decoded and judged uplinks, each with its place in a gateway's stream. Out: the
//! place to resume from, the last accepted read of a register at an instant, single reads,
//! dead letters, totals that balance.
//! Never here: decoding, judging, money, Postgres, knowledge of what stands behind the URL
//! (a real ClickHouse server or the embedded engine).
//!
//! # Invariants
//! - One read per meter, register and second of measurement. The first stored version stays; a
//!   later row with the same key never changes an answer, neither before nor after a merge.
//! - A batch may be loaded any number of times. Its ledger row goes in last, so the position in
//!   the ledger never lies beyond what is stored.
//! - Inserts are synchronous and never rely on the server's insert deduplication.
//!
//! # Meanings of time
//! `measured_at`: when the register showed the value (seconds). `received_at`: when the uplink
//! reached us. `stored_at`: when the batch was put together for this store; cutoffs compare it.

mod connect;
mod error;
mod load;
mod query;
mod rows;
mod schema;
mod settings;
mod types;

pub use connect::{ConnectError, Store};
pub use error::{LoadError, MigrateError, QueryError};
pub use load::Loaded;
pub use query::{Activity, DeadLetterFilter, RawFilter, RowTotals, Totals};
pub use settings::ClickhouseSettings;
pub use types::{
    BoundaryRead, Counts, DeadLetter, DeadLetterKey, DeadLetterOnFile, LoadBatch, Position,
    RawUplink, ReadKey, StoredEvent, StoredRead,
};
