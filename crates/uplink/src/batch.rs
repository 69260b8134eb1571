//! Batches: what travels between a gateway and ingest in one MQTT publish, and the watermark
//! that travels back.
//!
//! In: encoded envelopes with consecutive sequence numbers. Out: one block of bytes, checked
//! record by record. Never here: MQTT, the spool, what an envelope says.
//!
//! Layout, numbers little-endian: version `u8` · header length `u16` · header crc32c `u32` ·
//! header (`postcard`: gateway, epoch, first sequence, oldest kept, record count) · then per record
//! length `u32` · crc32c `u32` · bytes. Record *n* has the sequence `first_sequence + n`.

use serde::{Deserialize, Serialize};

/// The topic under which gateways publish batches, one level per gateway below it.
pub const UP_TOPIC: &str = "tidemark/up";

/// The topic under which ingest publishes watermarks, one level per gateway below it.
pub const STORED_TOPIC: &str = "tidemark/stored";

/// The largest batch, in bytes. Gateways publish 8 to 24 KiB; the rest is room for one oversized
/// record.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;

/// The most records of a batch.
pub const RECORDS_MAX: usize = 4096;

/// The longest gateway name, in bytes.
pub const GATEWAY_BYTES_MAX: usize = 64;

/// What a batch costs beside its records: at most this for the header …
pub const HEADER_BYTES_MAX: usize = 128;

/// … and this for each record.
pub const RECORD_OVERHEAD_BYTES: usize = 8;

const BATCH_VERSION: u8 = 2;
const WATERMARK_VERSION: u8 = 1;

/// Whose records these are, and where in that gateway's stream they belong.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BatchHeader {
    /// The gateway: letters, digits, `-`, `_`, `.`, at most [`GATEWAY_BYTES_MAX`].
    pub gateway: String,
    /// Counts the spool's lives: sequence numbers of another epoch are another stream.
    pub epoch: u64,
    /// The sequence number of the first record.
    pub first_sequence: u64,
    /// The oldest record the gateway still has: never after `first_sequence`. A store that lacks
    /// what lies below it (a new one, or one restored from a backup) can wait for ever and not get
    /// it.
    pub oldest_kept: u64,
}

/// Bytes that are not a batch or not a watermark.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end early.
    #[error("batch ends at byte {offset}, {need} more expected")]
    Truncated {
        /// Where the missing bytes begin.
        offset: usize,
        /// How many are missing at least.
        need: usize,
    },
    /// Longer than any batch.
    #[error("batch has {got} bytes, more than {BATCH_BYTES_MAX}")]
    TooLong {
        /// How many came.
        got: usize,
    },
    /// More records than any batch.
    #[error("batch announces {got} records, more than {RECORDS_MAX}")]
    TooManyRecords {
        /// How many.
        got: u32,
    },
    /// Written by another version of this crate.
    #[error("{what} version {got}, this program knows {known}")]
    Version {
        /// Batch or watermark.
        what: &'static str,
        /// The version byte.
        got: u8,
        /// The one version this program reads.
        known: u8,
    },
    /// The header does not follow the layout.
    #[error("batch header is malformed")]
    Header(#[source] postcard::Error),
    /// The gateway's name cannot stand in a topic.
    #[error("batch gateway name {0:?} is not 1 to 64 letters, digits, '-', '_' or '.'")]
    Gateway(String),
    /// The checksum does not fit the bytes.
    #[error("{what} at byte {offset}: crc32c is {computed:08x}, announced {announced:08x}")]
    Checksum {
        /// Header, record or watermark.
        what: &'static str,
        /// Where its bytes begin.
        offset: usize,
        /// Over the bytes that came.
        computed: u32,
        /// What the sender announced.
        announced: u32,
    },
    /// Bytes remain after the last record.
    #[error("batch has {left} bytes after its last record")]
    Trailing {
        /// How many.
        left: usize,
    },
    /// The gateway sends what it says it no longer has.
    #[error("batch begins with record {first_sequence}, but the oldest kept is {oldest_kept}")]
    OldestKept {
        /// The first record.
        first_sequence: u64,
        /// The oldest one kept.
        oldest_kept: u64,
    },
    /// Sequence numbers would pass the last one there is.
    #[error("batch sequence numbers overflow")]
    SequenceOverflow,
}

/// Whether `name` can be a gateway's: 1 to [`GATEWAY_BYTES_MAX`] letters, digits, `-`, `_`, `.`.
#[must_use]
pub fn is_gateway_name(name: &str) -> bool {
    (1..=GATEWAY_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// One publish: `records` in order, the first with `header.first_sequence`.
///
/// The publisher stays below [`BATCH_BYTES_MAX`] and [`RECORDS_MAX`]; a batch beyond them encodes,
/// but does not decode.
#[must_use]
pub fn encode_batch(header: &BatchHeader, records: &[&[u8]]) -> Vec<u8> {
    let size: usize = records.iter().map(|r| r.len() + RECORD_OVERHEAD_BYTES).sum();
    let mut bytes = Vec::with_capacity(HEADER_BYTES_MAX + size);
    let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
    // Writing plain fields into a growing vector has no way to fail.
    let head = postcard::to_extend(&(header, count), Vec::with_capacity(HEADER_BYTES_MAX))
        .unwrap_or_default();
    bytes.push(BATCH_VERSION);
    bytes.extend_from_slice(&u16::try_from(head.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&head).to_le_bytes());
    bytes.extend_from_slice(&head);
    for record in records {
        bytes.extend_from_slice(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(record).to_le_bytes());
        bytes.extend_from_slice(record);
    }
    bytes
}

/// The header and the records of one publish, every one checked.
///
/// # Errors
/// When anything is missing, damaged, beyond a limit or left over: a batch is whole or refused.
pub fn decode_batch(bytes: &[u8]) -> Result<(BatchHeader, Vec<&[u8]>), BatchError> {
    if bytes.len() > BATCH_BYTES_MAX {
        return Err(BatchError::TooLong { got: bytes.len() });
    }
    let mut reader = Reader { bytes, offset: 0 };
    let [version] = reader.array()?;
    check_version("batch", version, BATCH_VERSION)?;
    let header_length = u16::from_le_bytes(reader.array()?);
    let announced = u32::from_le_bytes(reader.array()?);
    let head = reader.checked("header", usize::from(header_length), announced)?;
    let ((header, count), left) =
        postcard::take_from_bytes::<(BatchHeader, u32)>(head).map_err(BatchError::Header)?;
    if !left.is_empty() {
        return Err(BatchError::Trailing { left: left.len() });
    }
    if !is_gateway_name(&header.gateway) {
        return Err(BatchError::Gateway(header.gateway));
    }
    let BatchHeader { first_sequence, oldest_kept, .. } = header;
    if oldest_kept > first_sequence {
        return Err(BatchError::OldestKept { first_sequence, oldest_kept });
    }
    let records_announced = usize::try_from(count).unwrap_or(usize::MAX);
    if records_announced > RECORDS_MAX {
        return Err(BatchError::TooManyRecords { got: count });
    }
    first_sequence.checked_add(u64::from(count)).ok_or(BatchError::SequenceOverflow)?;
    let mut records = Vec::with_capacity(records_announced);
    for _ in 0..records_announced {
        let length = u32::from_le_bytes(reader.array()?);
        let announced = u32::from_le_bytes(reader.array()?);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        records.push(reader.checked("record", length, announced)?);
    }
    match bytes.len() - reader.offset {
        0 => Ok((header, records)),
        left => Err(BatchError::Trailing { left }),
    }
}

/// How far a gateway's stream is stored: everything below `next_sequence` may leave its spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Watermark {
    /// The spool's epoch this speaks of.
    pub epoch: u64,
    /// The first sequence number that is not stored yet.
    pub next_sequence: u64,
}

impl Watermark {
    /// The bytes of this watermark: version, `postcard`, crc32c. It lets a gateway delete, so a
    /// damaged one must not be believed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = postcard::to_extend(self, vec![WATERMARK_VERSION]).unwrap_or_default();
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The watermark in `bytes`, all of them.
    ///
    /// # Errors
    /// When they are truncated, damaged or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        let (body, crc) = bytes
            .split_last_chunk::<4>()
            .ok_or(BatchError::Truncated { offset: bytes.len(), need: 4 })?;
        let (computed, announced) = (crc32c::crc32c(body), u32::from_le_bytes(*crc));
        if computed != announced {
            return Err(BatchError::Checksum { what: "watermark", offset: 0, computed, announced });
        }
        let (&version, fields) =
            body.split_first().ok_or(BatchError::Truncated { offset: 0, need: 1 })?;
        check_version("watermark", version, WATERMARK_VERSION)?;
        let (watermark, left) = postcard::take_from_bytes(fields).map_err(BatchError::Header)?;
        if left.is_empty() { Ok(watermark) } else { Err(BatchError::Trailing { left: left.len() }) }
    }
}

fn check_version(what: &'static str, got: u8, known: u8) -> Result<(), BatchError> {
    if got == known { Ok(()) } else { Err(BatchError::Version { what, got, known }) }
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], BatchError> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let taken = rest.get(..length).ok_or(BatchError::Truncated {
            offset: self.bytes.len(),
            need: length.saturating_sub(rest.len()),
        })?;
        self.offset += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BatchError> {
        let offset = self.bytes.len();
        self.take(N)?.try_into().map_err(|_| BatchError::Truncated { offset, need: N })
    }

    fn checked(
        &mut self,
        what: &'static str,
        length: usize,
        announced: u32,
    ) -> Result<&'a [u8], BatchError> {
        let offset = self.offset;
        let bytes = self.take(length)?;
        let computed = crc32c::crc32c(bytes);
        if computed == announced {
            Ok(bytes)
        } else {
            Err(BatchError::Checksum { what, offset, computed, announced })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn header() -> BatchHeader {
        BatchHeader {
            gateway: "gw-1".to_owned(),
            epoch: 3,
            first_sequence: 1_000_000,
            oldest_kept: 999_000,
        }
    }

    #[test]
    fn an_empty_batch_is_a_batch() {
        let bytes = encode_batch(&header(), &[]);
        assert_eq!(decode_batch(&bytes), Ok((header(), vec![])));
    }

    #[test]
    fn a_batch_says_what_is_wrong_with_it() {
        let bytes = encode_batch(&header(), &[b"one", b"two"]);
        let mut damaged = bytes.clone();
        *damaged.last_mut().unwrap() ^= 1;
        let error = decode_batch(&damaged).unwrap_err().to_string();
        assert!(error.starts_with("record at byte 39: crc32c is "), "{error}");
        let short = bytes.get(..bytes.len() - 1).unwrap();
        assert_eq!(decode_batch(short), Err(BatchError::Truncated { offset: 41, need: 1 }));
        let topic = BatchHeader { gateway: "a/#".to_owned(), ..header() };
        let error = decode_batch(&encode_batch(&topic, &[])).unwrap_err();
        assert_eq!(error, BatchError::Gateway("a/#".to_owned()));
        let last = BatchHeader { first_sequence: u64::MAX, ..header() };
        let error = decode_batch(&encode_batch(&last, &[b"x"])).unwrap_err();
        assert_eq!(error, BatchError::SequenceOverflow);
        let gone = BatchHeader { oldest_kept: 1_000_001, ..header() };
        let error = decode_batch(&encode_batch(&gone, &[])).unwrap_err().to_string();
        assert_eq!(error, "batch begins with record 1000000, but the oldest kept is 1000001");
        let mut older = bytes.clone();
        *older.first_mut().unwrap() = 1;
        let error = decode_batch(&older).unwrap_err().to_string();
        assert_eq!(error, "batch version 1, this program knows 2");
    }

    proptest! {
        #[test]
        fn a_batch_reads_back(records in vec(vec(any::<u8>(), 0..60), 0..20), epoch: u64, first in 0..u64::MAX - 100, kept: u64) {
            let oldest_kept = kept.min(first);
            let header = BatchHeader { epoch, first_sequence: first, oldest_kept, ..header() };
            let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
            let bytes = encode_batch(&header, &records);
            prop_assert_eq!(decode_batch(&bytes), Ok((header, records)));
        }

        #[test]
        fn a_flipped_bit_spoils_the_batch(records in vec(vec(any::<u8>(), 0..40), 0..5), position: prop::sample::Index, bit in 0..8u8) {
            let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
            let mut bytes = encode_batch(&header(), &records);
            *position.get_mut(&mut bytes) ^= 1 << bit;
            prop_assert!(decode_batch(&bytes).is_err());
        }

        #[test]
        fn a_flipped_bit_spoils_the_watermark(epoch: u64, next_sequence: u64, position: prop::sample::Index, bit in 0..8u8) {
            let watermark = Watermark { epoch, next_sequence };
            let mut bytes = watermark.encode();
            prop_assert_eq!(Watermark::decode(&bytes), Ok(watermark));
            *position.get_mut(&mut bytes) ^= 1 << bit;
            prop_assert!(Watermark::decode(&bytes).is_err());
        }

        #[test]
        fn no_bytes_panic_as_a_batch(mut bytes in vec(any::<u8>(), 0..200), version in 1..=2u8) {
            if let Some(first) = bytes.first_mut() {
                *first = version;
            }
            prop_assert!(Watermark::decode(&bytes).is_err() || bytes.len() >= 7);
            if let Ok((header, records)) = decode_batch(&bytes) {
                prop_assert!(decode_batch(&encode_batch(&header, &records)).is_ok());
            }
        }
    }
}
