//! A durable segmented log: bytes go in, come out in order, and go away when told.
//!
//! In: records (opaque bytes). Out: their sequence numbers once they are on disk, the records
//! again from any position, as often as asked, until they are trimmed.
//! Never here: what a record means, sockets, async, the wall clock.
//!
//! One writer ([`Spool`]), any number of readers ([`SpoolReader`]) and one or more [`Trimmer`]s
//! of one process. A record is durable when [`Spool::append`] returns: one write and one
//! `fdatasync` for the whole group. Readers never see anything else. Sequence numbers start at 0
//! for a fresh directory, have no gaps and are never used twice within one epoch; the epoch is
//! a random number drawn when the directory is created, so a reader far away can tell a spool
//! that was replaced from one that was reopened.
//!
//! On disk: `lock` (held while open), `epoch`, and segments `<first sequence>.seg`, each a run of
//! records `length u32 | crc32c u32 | sequence u64 | bytes`, little endian. Only the last segment
//! can have a torn tail (power lost in the middle of a write); it is cut off at [`Spool::open`].
//! A record that does not read back before that point is a damaged disk, and opening says so.

mod append;
mod directory;
mod read;
mod record;
mod shared;

pub use append::{AppendError, Spool, Trimmer};
pub use directory::OpenError;
pub use read::{ReadError, SpoolReader};
pub use record::RECORD_BYTES_MAX;

use serde::Deserialize;
use std::path::PathBuf;

/// Where a spool lives and how large it may become.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolSettings {
    /// The directory; created when it is missing. One spool, one process.
    pub dir: PathBuf,
    /// A segment is closed at this size, and only whole segments are given back to the disk.
    pub segment_bytes: u64,
    /// Records are refused ([`AppendError::Full`]) beyond this size; at least two segments.
    pub max_bytes: u64,
}

impl Default for SpoolSettings {
    fn default() -> Self {
        Self { dir: PathBuf::from("spool"), segment_bytes: 16 << 20, max_bytes: 4 << 30 }
    }
}
