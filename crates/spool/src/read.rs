//! The reading side: records from any position, durable ones only.
//!
//! In: a sequence number. Out: the records from there on.
//! Never here: writing, trimming.

use crate::{
    record::{self, HEADER_BYTES, Parsed},
    shared::Shared,
};
use std::{fs::File, io, os::unix::fs::FileExt, path::PathBuf, sync::Arc, time::Duration};

/// Bytes fetched from a segment at once, at least.
const FETCH_BYTES: usize = 64 << 10;

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// They were trimmed.
    #[error("record {wanted} was trimmed; the oldest kept is {first}")]
    Trimmed {
        /// The record asked for.
        wanted: u64,
        /// The oldest one kept.
        first: u64,
    },
    /// A durable record does not read back as it was written.
    #[error("spool: record {sequence} is damaged at byte {offset} of {path}")]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// The record.
        sequence: u64,
    },
    /// The disk refused.
    #[error("spool: read {path}")]
    Io {
        /// The segment.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads a spool beside its writer.
#[derive(Debug)]
pub struct SpoolReader {
    shared: Arc<Shared>,
    open: Option<Position>,
}

/// An open segment and the record start found last.
#[derive(Debug)]
struct Position {
    first: u64,
    file: File,
    sequence: u64,
    offset: u64,
}

/// Where the records asked for lie.
struct Place {
    first: u64,
    /// The sequence behind the last durable record of the segment.
    until: u64,
    bytes: u64,
    seek: (u64, u64),
}

impl SpoolReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, open: None }
    }

    /// The epoch of the spool.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// The oldest record kept.
    #[must_use]
    pub fn first_sequence(&self) -> u64 {
        self.shared.state().first()
    }

    /// The sequence behind the last durable record.
    #[must_use]
    pub fn durable_next(&self) -> u64 {
        self.shared.state().durable_next
    }

    /// Waits until record `from` is durable or `timeout` has passed; returns
    /// [`SpoolReader::durable_next`].
    #[must_use]
    pub fn wait(&self, from: u64, timeout: Duration) -> u64 {
        let state = self.shared.state();
        let waited = self
            .shared
            .grown
            .wait_timeout_while(state, timeout, |state| state.durable_next <= from)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        waited.0.durable_next
    }

    /// The records from `from` on: at most `max_records`, and no more than `max_bytes` of them
    /// unless the first alone is larger. Ends early at a segment's end; empty when nothing from
    /// `from` on is durable yet.
    ///
    /// # Errors
    /// When `from` was trimmed, or the disk fails or has changed what was written.
    pub fn read(
        &mut self,
        from: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
        let Some(place) = self.place(from)? else {
            return Ok(Vec::new());
        };
        let result = self.collect(&place, from, max_records, max_bytes);
        if let Err(ReadError::Io { source, .. }) = &result
            && source.kind() == io::ErrorKind::NotFound
        {
            // Trimmed between looking it up and opening it.
            let first = self.first_sequence();
            if first > from {
                return Err(ReadError::Trimmed { wanted: from, first });
            }
        }
        if result.is_err() {
            self.open = None;
        }
        result
    }

    fn place(&self, from: u64) -> Result<Option<Place>, ReadError> {
        let state = self.shared.state();
        if from < state.first() {
            return Err(ReadError::Trimmed { wanted: from, first: state.first() });
        }
        if from >= state.durable_next {
            return Ok(None);
        }
        let after = state.segments.partition_point(|segment| segment.first <= from);
        let until = state.segments.get(after).map_or(state.durable_next, |next| next.first);
        Ok(after.checked_sub(1).and_then(|index| state.segments.get(index)).map(|segment| Place {
            first: segment.first,
            until,
            bytes: segment.bytes,
            seek: segment.seek(from),
        }))
    }

    fn collect(
        &mut self,
        place: &Place,
        from: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
        let path = self.shared.segment_path(place.first);
        let io_error = |source| ReadError::Io { path: path.clone(), source };
        let epoch = self.shared.epoch;
        let mut at = match self.open.take() {
            Some(open) if open.first == place.first && open.sequence == from => open,
            other => {
                let file = match other {
                    Some(open) if open.first == place.first => open.file,
                    _ => File::open(&path).map_err(io_error)?,
                };
                let (sequence, offset) = place.seek;
                Position { first: place.first, file, sequence, offset }
            }
        };
        let mut records = Vec::new();
        let mut taken = 0_usize;
        let mut fetch = FETCH_BYTES.max(max_bytes.min(1 << 20) + HEADER_BYTES);
        let mut buffer = Vec::new();
        'segment: while at.sequence < place.until && records.len() < max_records {
            let left = usize::try_from(place.bytes.saturating_sub(at.offset)).unwrap_or(usize::MAX);
            buffer.resize(fetch.min(left), 0);
            at.file.read_exact_at(&mut buffer, at.offset).map_err(io_error)?;
            let mut rest = buffer.as_slice();
            while at.sequence < place.until && records.len() < max_records {
                match record::parse(epoch, at.sequence, rest) {
                    Parsed::Record { bytes, frame } => {
                        if at.sequence >= from {
                            taken = taken.saturating_add(bytes.len());
                            if taken > max_bytes && !records.is_empty() {
                                break 'segment;
                            }
                            records.push((at.sequence, bytes.to_vec()));
                        }
                        at.sequence += 1;
                        at.offset += u64::try_from(frame).unwrap_or(u64::MAX);
                        rest = rest.get(frame..).unwrap_or_default();
                    }
                    // Fetched only in part: go on behind what is read, with room for the record.
                    Parsed::Short { need }
                        if u64::try_from(need)
                            .is_ok_and(|need| need <= place.bytes.saturating_sub(at.offset)) =>
                    {
                        fetch = fetch.max(need);
                        continue 'segment;
                    }
                    Parsed::Short { .. } | Parsed::Broken => return Err(damaged(path, &at)),
                }
            }
        }
        self.open = Some(at);
        Ok(records)
    }
}

fn damaged(path: PathBuf, at: &Position) -> ReadError {
    ReadError::Damaged { path, offset: at.offset, sequence: at.sequence }
}
