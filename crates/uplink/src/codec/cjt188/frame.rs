//! The frame around the data: `68 T A0..A6 C L DATA CS 16`.
//!
//! In: bytes of a line or a radio. Out: the fields, after length, end byte and checksum fit.
//! Never here: what the data mean.

use super::Kind;
use crate::UplinkError;
use crate::bytes::{Reader, bcd_le};
use model::DeviceKey;

/// The address every meter on a line answers to.
pub const WILDCARD: [u8; 7] = [0xAA; 7];

pub(super) const START: u8 = 0x68;
pub(super) const END: u8 = 0x16;
pub(super) const PREAMBLE: u8 = 0xFE;

/// How many FE bytes may stand before a frame; the standard says 2 to 4, lines add more.
const PREAMBLE_BYTES_MAX: usize = 32;

/// How many foreign bytes may stand after a frame.
const TRAILING_BYTES_MAX: usize = 4;

/// Bytes of a frame beside its data.
const OVERHEAD: usize = 13;

/// One frame, whole and undamaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// T, the kind of meter.
    pub meter_type: u8,
    /// The address as sent, low byte first.
    pub address: [u8; 7],
    /// C, the control code.
    pub control: u8,
    /// The data field.
    pub data: &'a [u8],
    /// Where the data field begins in the payload.
    pub data_offset: usize,
    /// Foreign bytes after the frame.
    pub trailing: usize,
}

impl Frame<'_> {
    /// What the frame is for (§5.3.3: bit 7 from a meter, bit 6 abnormal, bits 5 to 0 the function).
    pub(super) fn kind(&self) -> Result<Kind, UplinkError> {
        match (self.control & 0x80 != 0, self.control & 0x40 != 0, self.control & 0x3F) {
            (true, true, _) => Ok(Kind::Abnormal),
            (true, false, _) => Ok(Kind::Response),
            // 21 is a maker's own second way of reading (answers A1).
            (false, false, 0x01 | 0x03 | 0x09 | 0x21) => Ok(Kind::Request),
            (false, false, _) => Ok(Kind::Command),
            (false, true, _) => Err(UplinkError::Unsupported {
                what: "control code",
                value: u64::from(self.control),
                offset: self.data_offset.saturating_sub(2),
            }),
        }
    }
}

/// The frame in `bytes`: FE preamble and up to four foreign bytes behind it are tolerated.
///
/// # Errors
/// When it does not begin with 68, is too short, its length, end byte or checksum do not fit.
pub fn frame(bytes: &[u8]) -> Result<Frame<'_>, UplinkError> {
    let start = preamble(bytes);
    let body = bytes.get(start..).unwrap_or_default();
    let mut reader = Reader::new(body, start);
    let first = reader.u8("start byte")?;
    if first != START {
        let expected = "68 after FE bytes";
        return Err(UplinkError::Malformed {
            what: "start byte",
            offset: start,
            found: first,
            expected,
        });
    }
    let meter_type = reader.u8("meter type")?;
    let address = reader.array("address")?;
    let control = reader.u8("control code")?;
    let length_offset = reader.offset();
    let length = usize::from(reader.u8("length")?);
    let total = length + OVERHEAD;
    let trailing = body.len().checked_sub(total).filter(|left| *left <= TRAILING_BYTES_MAX).ok_or(
        UplinkError::LengthMismatch {
            what: "bytes of the frame",
            offset: length_offset,
            announced: total,
            found: body.len(),
        },
    )?;
    let data_offset = reader.offset();
    let data = reader.take(length, "data")?;
    let checksum_offset = reader.offset();
    let found = reader.u8("checksum")?;
    let end_offset = reader.offset();
    let end = reader.u8("end byte")?;
    if end != END {
        let expected = "16";
        return Err(UplinkError::Malformed {
            what: "end byte",
            offset: end_offset,
            found: end,
            expected,
        });
    }
    let computed = checksum(body.get(..total.saturating_sub(2)).unwrap_or_default());
    if computed != found {
        return Err(UplinkError::ChecksumMismatch {
            offset: checksum_offset,
            found: u32::from(found),
            computed: u32::from(computed),
        });
    }
    Ok(Frame { meter_type, address, control, data, data_offset, trailing })
}

/// The device a frame names, read without checking the frame: for identifying only.
#[must_use]
pub fn names(bytes: &[u8]) -> Option<DeviceKey> {
    let body = bytes.get(preamble(bytes)..)?;
    let address = body.get(2..9)?;
    (body.first() == Some(&START)).then(|| bcd_le(address).ok().map(DeviceKey::Cjt188))?
}

/// How many FE bytes stand before the frame.
pub(super) fn preamble(bytes: &[u8]) -> usize {
    bytes.iter().take(PREAMBLE_BYTES_MAX).take_while(|byte| **byte == PREAMBLE).count()
}

/// The sum of the bytes, modulo 256.
pub(super) fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// Whether `bytes` begin like a frame of this standard and not like one of its neighbours that
/// begin with 68 too: DL/T 645 (a second 68 after six address bytes, its own length fits) and
/// wired M-Bus (68 L L 68).
#[must_use]
pub fn begins(bytes: &[u8]) -> bool {
    let start = preamble(bytes);
    let body = bytes.get(start..).unwrap_or_default();
    let at = |position: usize| body.get(position).copied();
    let dlt645 = at(7) == Some(START)
        && at(9).is_some_and(|length| at(usize::from(length) + 11) == Some(END))
        && at(10).is_none_or(|length| at(usize::from(length) + 12) != Some(END));
    let mbus = at(3) == Some(START) && at(1) == at(2);
    at(0) == Some(START) && !dlt645 && !mbus
}
