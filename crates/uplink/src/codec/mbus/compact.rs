//! Compact frames: values without their record heads, which an earlier full telegram gave.
//!
//! In: full telegrams, to remember their heads; compact ones. Out: the full data again.
//! Never here: where the memory is kept, files, time.
//!
//! A compact frame is `signature(2) CRC(2) values…` (EN 13757-3 annex G): the signature is the CRC
//! over all record heads, the second CRC the one over the full data. A memory that does not fit is
//! found out by that.

use super::link::crc;
use super::record::{Record, Records, fixed_bytes};
use super::value;
use crate::UplinkError;
use crate::bytes::Reader;
use std::collections::VecDeque;

/// How many formats are remembered; the oldest makes room.
const FORMATS_MAX: usize = 256;

/// Record heads of meters that send a full telegram only now and then, so that a reader has
/// something to start with. Each is proven by its own signature.
const KNOWN: &[&[u8]] = &[
    // Water, volume and volume at the target date, then temperatures or flows.
    &[0x02, 0xFF, 0x20, 0x04, 0x13, 0x44, 0x13],
    &[0x02, 0xFF, 0x20, 0x04, 0x13, 0x44, 0x13, 0x61, 0x5B, 0x61, 0x67],
    &[0x02, 0xFF, 0x20, 0x04, 0x13, 0x44, 0x13, 0x61, 0x5B, 0x51, 0x67],
    &[0x02, 0xFF, 0x20, 0x04, 0x13, 0x52, 0x3B],
    &[0x02, 0xFF, 0x20, 0x04, 0x13, 0x44, 0x13, 0xA1, 0x01, 0x5B, 0x81, 0x01, 0xE7, 0xFF, 0x0F],
    &[
        0x02, 0xFF, 0x20, 0x04, 0x13, 0x92, 0x01, 0x3B, 0xA1, 0x01, 0x5B, 0x81, 0x01, 0xE7, 0xFF,
        0x0F,
    ],
    // Heat, energy and volume with those of the target date.
    &[0x03, 0x06, 0x43, 0x06, 0x03, 0x14, 0x42, 0x6C, 0x02, 0x2D, 0x01, 0xFF, 0x21],
    &[0x03, 0x0F, 0x43, 0x0F, 0x03, 0x14, 0x42, 0x6C, 0x02, 0x2D, 0x01, 0xFF, 0x21],
    &[
        0x04, 0x06, 0x04, 0xFF, 0x07, 0x04, 0xFF, 0x08, 0x04, 0x14, 0x04, 0x3B, 0x02, 0x59, 0x02,
        0x5D, 0x04, 0xFF, 0x22, 0x02, 0x6C, 0x44, 0x06, 0x44, 0x14, 0x42, 0x6C,
    ],
];

/// The record heads seen so far, by signature.
#[derive(Debug, Clone, Default)]
pub struct FormatMemory {
    formats: VecDeque<(u16, Vec<u8>)>,
}

impl FormatMemory {
    /// Remembers the heads of full data, whatever they are.
    pub(super) fn learn(&mut self, body: &[u8]) {
        let heads: Result<Vec<&[u8]>, UplinkError> =
            Records::new(body, 0).map(|record| record.map(|record| record.head)).collect();
        if let Ok(heads) = heads {
            self.learn_heads(heads.concat());
        }
    }

    /// Remembers these heads.
    pub(super) fn learn_heads(&mut self, heads: Vec<u8>) {
        let signature = crc(&heads);
        let known =
            self.formats.iter().any(|(seen, format)| *seen == signature && *format == heads);
        if heads.is_empty() || known {
            return;
        }
        if self.formats.len() == FORMATS_MAX {
            self.formats.pop_front();
        }
        self.formats.push_back((signature, heads));
    }

    /// How many formats were learned.
    #[must_use]
    pub fn len(&self) -> usize {
        self.formats.len()
    }

    /// Whether none was learned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.formats.is_empty()
    }

    fn find(&self, signature: u16) -> impl Iterator<Item = &[u8]> {
        let learned = self.formats.iter().rev().filter(move |(seen, _)| *seen == signature);
        let known = KNOWN.iter().copied().filter(move |heads| crc(heads) == signature);
        learned.map(|(_, heads)| heads.as_slice()).chain(known)
    }
}

/// The full data of a compact frame whose data begin at `base`.
///
/// # Errors
/// When no format of this signature is known, or none of them makes data the CRC fits.
pub(super) fn expand(
    compact: &[u8],
    base: usize,
    memory: &FormatMemory,
) -> Result<Vec<u8>, UplinkError> {
    let mut reader = Reader::new(compact, base);
    let signature = u16::from_le_bytes(reader.array("format signature")?);
    let crc_at = reader.offset();
    let wanted = u16::from_le_bytes(reader.array("CRC of the full data")?);
    let mut computed = None;
    for heads in memory.find(signature) {
        let full = merge(heads, reader)?;
        let found = crc(&full);
        if found == wanted {
            return Ok(full);
        }
        computed = Some(found);
    }
    Err(match computed {
        Some(computed) => UplinkError::ChecksumMismatch {
            offset: crc_at,
            found: u32::from(wanted),
            computed: u32::from(computed),
        },
        None => UplinkError::Unsupported {
            what: "compact frame before its full telegram, signature",
            value: u64::from(signature),
            offset: base,
        },
    })
}

/// Heads and values, one after the other.
fn merge(heads: &[u8], mut values: Reader<'_>) -> Result<Vec<u8>, UplinkError> {
    let mut full = Vec::with_capacity(heads.len() + values.remaining().len());
    let mut rest = heads;
    while let Some(head) = Record::head_of(rest) {
        full.extend_from_slice(head);
        rest = rest.get(head.len()..).unwrap_or_default();
        let kind = head.first().map_or(0, |dif| dif & 0x0F);
        let length = if kind == 0x0D {
            let lvar = values.u8("LVAR")?;
            full.push(lvar);
            value::variable_bytes(lvar).unwrap_or_default()
        } else {
            fixed_bytes(kind)
        };
        full.extend_from_slice(values.take(length, "values of a compact frame")?);
    }
    full.extend_from_slice(values.remaining());
    Ok(full)
}

/// Splits full data into what a compact frame carries, for simulators.
pub(super) fn compress(full: &[u8]) -> Result<Vec<u8>, UplinkError> {
    let mut heads = Vec::new();
    let mut values = Vec::new();
    for record in Records::new(full, 0) {
        let record = record?;
        heads.extend_from_slice(record.head);
        values.extend(record.lvar);
        values.extend_from_slice(record.data);
    }
    let mut compact = crc(&heads).to_le_bytes().to_vec();
    compact.extend_from_slice(&crc(full).to_le_bytes());
    compact.extend_from_slice(&values);
    Ok(compact)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &[u8] = &[0x04, 0x13, 1, 2, 0, 0, 0x0D, 0x78, 0x02, b'B', b'A', 0x42, 0x6C, 1, 2];

    #[test]
    fn a_compact_frame_reads_only_after_its_full_one() {
        let compact = compress(FULL).unwrap();
        let mut memory = FormatMemory::default();
        let error = expand(&compact, 10, &memory).unwrap_err();
        assert_eq!((error.code(), error.offset()), ("unsupported", Some(10)));
        memory.learn(FULL);
        assert_eq!(expand(&compact, 10, &memory).unwrap(), FULL);
        let mut damaged = compact;
        damaged[5] ^= 1;
        let error = expand(&damaged, 10, &memory).unwrap_err();
        assert_eq!((error.code(), error.offset()), ("checksum_mismatch", Some(12)));
    }

    #[test]
    fn the_memory_stays_small() {
        let mut memory = FormatMemory::default();
        for storage in 0..1_000_u16 {
            let [low, high] = storage.to_le_bytes();
            memory.learn_heads(vec![low, high]);
            memory.learn_heads(vec![low, high]);
        }
        assert_eq!(memory.len(), FORMATS_MAX);
        assert!(!memory.is_empty());
        memory.learn(&[0x04, 0x13]);
        assert_eq!(memory.len(), FORMATS_MAX);
    }

    #[test]
    fn formats_known_from_the_start_have_different_signatures() {
        let signatures: std::collections::BTreeSet<u16> = KNOWN.iter().map(|h| crc(h)).collect();
        assert_eq!(signatures.len(), KNOWN.len());
        let whole = |heads: &[u8]| {
            let mut rest = heads;
            while let Some(head) = Record::head_of(rest) {
                rest = &rest[head.len()..];
            }
            rest.is_empty()
        };
        assert!(KNOWN.iter().all(|heads| whole(heads)));
    }
}
