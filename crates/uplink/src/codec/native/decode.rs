//! Reading a native frame.
//!
//! In: the frame, clear or already unsealed. Out: reads and events.
//! Never here: keys.

use super::{
    CHECKSUM_BYTES, FRAME_BYTES_MAX, Header, MAGIC_V1, READS_MAX, SEALED, SUSPECT, TAG_BYTES,
};
use crate::bytes::Reader;
use crate::decoded::{Decoded, DecodedEvent, Details};
use crate::profile::Profile;
use crate::{DecodedRead, UplinkError};
use chrono::{DateTime, Utc};
use model::{DeviceKey, EventKind, Measure, ReadQuality, Register, RegisterValue, Unit};

/// The header of a native frame and where its body begins.
///
/// # Errors
/// When the frame is too short or too long, not native, or of another version.
pub fn header(bytes: &[u8]) -> Result<(Header, usize), UplinkError> {
    if bytes.len() > FRAME_BYTES_MAX {
        let got = bytes.len();
        return Err(UplinkError::Oversized { what: "native frame", got, limit: FRAME_BYTES_MAX });
    }
    let mut reader = Reader::new(bytes, 0);
    let magic = reader.u8("first byte")?;
    if magic != MAGIC_V1 {
        let expected = "D1 (native frame, version 1)";
        return Err(UplinkError::Malformed {
            what: "first byte",
            offset: 0,
            found: magic,
            expected,
        });
    }
    let flags = reader.u8("flags")?;
    if flags & !SEALED != 0 {
        let expected = "00 or 01";
        return Err(UplinkError::Malformed { what: "flags", offset: 1, found: flags, expected });
    }
    let mut fields = Fields::new(reader.remaining(), reader.offset());
    let serial = fields.next("serial number")?;
    let counter = fields.next("frame counter")?;
    Ok((Header { serial, counter, sealed: flags & SEALED != 0 }, fields.offset()))
}

/// The device a frame names; `None` when it is no native frame.
#[must_use]
pub fn names(bytes: &[u8]) -> Option<DeviceKey> {
    header(bytes).ok().map(|(header, _)| DeviceKey::Serial(header.serial))
}

/// Splits a frame that came clear into its header and its body, after its checksum fits.
fn clear_body(bytes: &[u8]) -> Result<(Header, &[u8], usize), UplinkError> {
    let (header, start) = header(bytes)?;
    if header.sealed {
        return Err(UplinkError::KeyMissing { what: "the meter's key" });
    }
    let body = bytes.get(start..).unwrap_or_default();
    let Some((body, checksum)) = body.split_last_chunk::<CHECKSUM_BYTES>() else {
        let need = CHECKSUM_BYTES.saturating_sub(body.len());
        return Err(UplinkError::Truncated { what: "checksum", offset: bytes.len(), need });
    };
    let offset = bytes.len() - CHECKSUM_BYTES;
    let computed = crc32c::crc32c(bytes.get(..offset).unwrap_or_default());
    let found = u32::from_le_bytes(*checksum);
    if computed != found {
        return Err(UplinkError::ChecksumMismatch { offset, found, computed });
    }
    Ok((header, body, start))
}

/// Reads a frame that came clear, or one that [`super::unseal`] opened: `unsealed` says which.
///
/// # Errors
/// When the frame is damaged, sealed, truncated, or its fields are out of range; every error
/// names its offset.
pub fn decode(
    bytes: &[u8],
    unsealed: bool,
    profile: &'static Profile,
) -> Result<Decoded, UplinkError> {
    let (header, body, start) = if unsealed {
        let (header, start) = header(bytes)?;
        (header, bytes.get(start..).unwrap_or_default(), start)
    } else {
        clear_body(bytes)?
    };
    let mut decoded = Decoded {
        profile: profile.name,
        codec_version: profile.codec_version,
        device: Some(DeviceKey::Serial(header.serial)),
        reads: Vec::new(),
        events: Vec::new(),
        details: Details::Native(header),
    };
    let mut fields = Fields::new(body, start);
    let base: u64 = fields.next("base time")?;
    let [series] = fields.bytes("number of series")?;
    for _ in 0..series {
        read_series(&mut fields, base, &mut decoded.reads)?;
    }
    let [events] = fields.bytes("number of events")?;
    for _ in 0..events {
        decoded.events.push(read_event(&mut fields, base)?);
    }
    match fields.rest.len() {
        0 => Ok(decoded),
        left => Err(UplinkError::LengthMismatch {
            what: "bytes of the body",
            offset: fields.offset(),
            announced: fields.offset(),
            found: fields.offset() + left,
        }),
    }
}

/// One series: a register, a unit, the first read's time and value, and a step of each after it.
fn read_series(
    fields: &mut Fields<'_>,
    base: u64,
    reads: &mut Vec<DecodedRead>,
) -> Result<(), UplinkError> {
    let flags = fields.bits("flags of a series", SUSPECT)?;
    let measure = fields.code("measure", Measure::from_code)?;
    let [channel, tariff, storage] = fields.bytes("register")?;
    let register = Register { measure, channel, tariff, storage };
    let unit = fields.code("unit", Unit::from_code)?;
    let exponent_offset = fields.offset();
    let [exponent] = fields.bytes("exponent")?;
    let exponent = i8::from_le_bytes([exponent]);
    if !(-12..=12).contains(&exponent) {
        return Err(UplinkError::Malformed {
            what: "exponent",
            offset: exponent_offset,
            found: exponent.to_le_bytes()[0],
            expected: "-12 to 12",
        });
    }
    let start: i64 = fields.next("time of the first read")?;
    let step: u32 = fields.next("seconds between reads")?;
    let first: i64 = fields.next("first value")?;
    let later_offset = fields.offset();
    let later: u32 = fields.next("number of further reads")?;
    let later = usize::try_from(later).unwrap_or(usize::MAX);
    // A further read has at least one byte, so the count cannot make us reserve more than came.
    if later > fields.rest.len() || reads.len() + later >= READS_MAX {
        return Err(UplinkError::LengthMismatch {
            what: "number of further reads",
            offset: later_offset,
            announced: later,
            found: fields.rest.len().min(READS_MAX - reads.len()),
        });
    }
    let quality = if flags & SUSPECT == 0 { ReadQuality::Actual } else { ReadQuality::Suspect };
    reads.reserve_exact(later + 1);
    let mut count = first;
    let mut seconds = i64::try_from(base).ok().and_then(|base| base.checked_add(start));
    let step = i64::from(step);
    for position in 0..=later {
        let offset = fields.offset();
        if position > 0 {
            let delta: i64 = fields.next("step of the value")?;
            count = count.checked_add(delta).ok_or(out_of_range("step of the value", offset))?;
            seconds = seconds.and_then(|seconds| seconds.checked_add(step));
        }
        reads.push(DecodedRead {
            register,
            value: RegisterValue::new(count, exponent, unit),
            measured_at: Some(instant(seconds, offset)?),
            quality,
        });
    }
    Ok(())
}

fn read_event(fields: &mut Fields<'_>, base: u64) -> Result<DecodedEvent, UplinkError> {
    let kind = fields.code("event", EventKind::from_code)?;
    let offset = fields.offset();
    let start: i64 = fields.next("time of the event")?;
    let detail = fields.next("detail of the event")?;
    let seconds = i64::try_from(base).ok().and_then(|base| base.checked_add(start));
    Ok(DecodedEvent { kind, at: Some(instant(seconds, offset)?), detail })
}

fn instant(seconds: Option<i64>, offset: usize) -> Result<DateTime<Utc>, UplinkError> {
    seconds
        .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
        .ok_or(out_of_range("time", offset))
}

const fn out_of_range(what: &'static str, offset: usize) -> UplinkError {
    UplinkError::Malformed { what, offset, found: 0xFF, expected: "a number in range" }
}

/// `postcard` fields one after the other, with offsets for errors and nothing allocated. Written
/// out here because a frame is mostly numbers of one byte, and this reads them four times faster.
struct Fields<'a> {
    rest: &'a [u8],
    end: usize,
}

impl<'a> Fields<'a> {
    const fn new(bytes: &'a [u8], base: usize) -> Self {
        Self { rest: bytes, end: base + bytes.len() }
    }

    const fn offset(&self) -> usize {
        self.end - self.rest.len()
    }

    /// The next number: `number` or `signed` of the specification.
    fn next<T: Varint>(&mut self, what: &'static str) -> Result<T, UplinkError> {
        let mut value = 0_u64;
        let mut shift = 0_u32;
        for (position, byte) in self.rest.iter().enumerate() {
            // Ten bytes have room for 70 bits: the last may only hold what 64 leave.
            if shift > 63 || (shift == 63 && *byte > 1) {
                return Err(out_of_range(what, self.offset()));
            }
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                let number = T::of(value).ok_or(out_of_range(what, self.offset()))?;
                self.rest = self.rest.get(position + 1..).unwrap_or_default();
                return Ok(number);
            }
            shift += 7;
        }
        Err(UplinkError::Truncated { what, offset: self.end, need: 1 })
    }

    fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], UplinkError> {
        let Some((bytes, rest)) = self.rest.split_first_chunk::<N>() else {
            let need = N.saturating_sub(self.rest.len());
            return Err(UplinkError::Truncated { what, offset: self.end, need });
        };
        self.rest = rest;
        Ok(*bytes)
    }

    fn bits(&mut self, what: &'static str, known: u8) -> Result<u8, UplinkError> {
        let offset = self.offset();
        let [found] = self.bytes(what)?;
        if found & !known == 0 {
            Ok(found)
        } else {
            Err(UplinkError::Malformed { what, offset, found, expected: "known flags only" })
        }
    }

    fn code<T>(
        &mut self,
        what: &'static str,
        known: impl Fn(u8) -> Option<T>,
    ) -> Result<T, UplinkError> {
        let offset = self.offset();
        let [code] = self.bytes(what)?;
        known(code).ok_or(UplinkError::Unsupported { what, value: u64::from(code), offset })
    }
}

/// A number of the specification.
trait Varint: Sized {
    fn of(value: u64) -> Option<Self>;
}

impl Varint for u64 {
    fn of(value: u64) -> Option<Self> {
        Some(value)
    }
}

impl Varint for u32 {
    fn of(value: u64) -> Option<Self> {
        Self::try_from(value).ok()
    }
}

impl Varint for i64 {
    /// Zigzag: 0, -1, 1, -2, 2 …
    fn of(value: u64) -> Option<Self> {
        let size = (value >> 1).cast_signed();
        Some(if value & 1 == 0 { size } else { !size })
    }
}

/// How many bytes follow the body on the air.
pub(super) const fn trailer_bytes(sealed: bool) -> usize {
    if sealed { TAG_BYTES } else { CHECKSUM_BYTES }
}
