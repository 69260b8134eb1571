//! What makes an ingest worker stop.
//!
//! In: causes. Out: what was being done to what. Everything that passes by itself (store or broker
//! away, spool full) is waited for and never gets here.
//! Never here: what is wrong with an uplink (dead letters).

use crate::settings::SettingsError;
use store_clickhouse::{LoadError, QueryError};

/// Why a worker stopped.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The settings contradict themselves.
    #[error("settings of ingest")]
    Settings(#[from] SettingsError),
    /// Our own spool does not open.
    #[error("open the spool of ingest")]
    OpenSpool(#[from] spool::OpenError),
    /// A record cannot be spooled.
    #[error("spool uplinks of other publishers")]
    Spool {
        /// Why not.
        source: spool::AppendError,
    },
    /// Our own spool does not read back.
    #[error("read the spool of ingest")]
    ReadSpool(#[from] spool::ReadError),
    /// The store has more of our own stream than the spool ever held.
    #[error(
        "stream {stream} is stored up to {stored}, but the spool ends at {spooled}: the spool's \
         directory is an old copy; remove it"
    )]
    SpoolBehind {
        /// Our own stream.
        stream: String,
        /// The position in the store.
        stored: u64,
        /// The end of the spool.
        spooled: u64,
    },
    /// The store refuses a batch for a reason that waiting does not cure.
    #[error("load batch {stream}/{first_sequence}")]
    Load {
        /// The stream.
        stream: String,
        /// First sequence of the batch.
        first_sequence: u64,
        /// Why.
        source: LoadError,
    },
    /// The store does not answer a question, for a reason that waiting does not cure.
    #[error("ask the store")]
    Query(#[from] QueryError),
    /// A task died.
    #[error("task {task} of ingest died")]
    Task {
        /// Which one.
        task: &'static str,
        /// How.
        source: tokio::task::JoinError,
    },
    /// The shutdown took longer than it may; what is not stored is kept at its source.
    #[error("gave up storing at shutdown")]
    GaveUp,
}
