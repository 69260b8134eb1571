//! Building a native frame, as a meter does; for simulators and tests.
//!
//! In: dated reads and events. Out: a frame, clear with its checksum or sealed.
//! Never here: when to send.

use super::decode::trailer_bytes;
use super::{FRAME_BYTES_MAX, Header, MAGIC_V1, READS_MAX, SEALED, SUSPECT, seal};
use chrono::{DateTime, Utc};
use model::{EventKind, Register, Unit};
use serde::Serialize;

/// Reads of one register at a fixed interval, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series<'a> {
    /// Which counter.
    pub register: Register,
    /// The unit of the counts.
    pub unit: Unit,
    /// The power of ten of their last digit, -12 to 12.
    pub exponent: i8,
    /// When the first was read, to the second.
    pub start: DateTime<Utc>,
    /// Seconds from one to the next.
    pub step_s: u32,
    /// What the register showed each time; at least one.
    pub counts: &'a [i64],
    /// Whether the meter doubts them.
    pub suspect: bool,
}

/// An event to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventOut {
    /// What happened.
    pub kind: EventKind,
    /// When, to the second.
    pub at: DateTime<Utc>,
    /// A status word for people; 0 where there is none.
    pub detail: u64,
}

/// Why no frame could be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A series without reads, or more of something than its count can say.
    #[error("{0} are none or too many for one frame")]
    Count(&'static str),
    /// The frame would be longer than a meter may send.
    #[error("the frame has {got} bytes, more than {FRAME_BYTES_MAX}")]
    TooLong {
        /// How many.
        got: usize,
    },
    /// Two counts are further apart than a number says, or a time before 1970 is the base.
    #[error("a value or a time is out of range")]
    OutOfRange,
}

/// A clear frame with its checksum.
///
/// # Errors
/// When it would not fit, or a series is empty.
pub fn encode(
    serial: u64,
    counter: u32,
    series: &[Series<'_>],
    events: &[EventOut],
) -> Result<Vec<u8>, EncodeError> {
    let (mut frame, _) = body(&Header { serial, counter, sealed: false }, series, events)?;
    let checksum = crc32c::crc32c(&frame);
    frame.extend_from_slice(&checksum.to_le_bytes());
    Ok(frame)
}

/// A sealed frame.
///
/// # Errors
/// When it would not fit, or a series is empty.
pub fn encode_sealed(
    serial: u64,
    counter: u32,
    series: &[Series<'_>],
    events: &[EventOut],
    key: &[u8; 16],
) -> Result<Vec<u8>, EncodeError> {
    let header = Header { serial, counter, sealed: true };
    let (mut frame, start) = body(&header, series, events)?;
    seal::close(&mut frame, start, &header, key);
    Ok(frame)
}

/// Clear header and clear body, and where the body begins.
fn body(
    header: &Header,
    series: &[Series<'_>],
    events: &[EventOut],
) -> Result<(Vec<u8>, usize), EncodeError> {
    let reads: usize = series.iter().map(|series| series.counts.len()).sum();
    if reads > READS_MAX {
        return Err(EncodeError::Count("reads"));
    }
    let instants = series.iter().map(|s| s.start).chain(events.iter().map(|e| e.at));
    let base = instants.min().map_or(0, |first| first.timestamp());
    let mut out = Out(vec![MAGIC_V1, if header.sealed { SEALED } else { 0 }]);
    out.put(&header.serial)?;
    out.put(&header.counter)?;
    let start = out.0.len();
    out.put(&u64::try_from(base).map_err(|_| EncodeError::OutOfRange)?)?;
    out.put(&u8::try_from(series.len()).map_err(|_| EncodeError::Count("series"))?)?;
    for series in series {
        put_series(&mut out, series, base)?;
    }
    out.put(&u8::try_from(events.len()).map_err(|_| EncodeError::Count("events"))?)?;
    for event in events {
        out.put(&(event.kind as u8))?;
        out.put(&(event.at.timestamp() - base))?;
        out.put(&event.detail)?;
    }
    let got = out.0.len() + trailer_bytes(header.sealed);
    if got > FRAME_BYTES_MAX {
        return Err(EncodeError::TooLong { got });
    }
    Ok((out.0, start))
}

fn put_series(out: &mut Out, series: &Series<'_>, base: i64) -> Result<(), EncodeError> {
    let (first, later) = series.counts.split_first().ok_or(EncodeError::Count("reads"))?;
    let Register { measure, channel, tariff, storage } = series.register;
    out.put(&(if series.suspect { SUSPECT } else { 0 }))?;
    out.put(&[measure as u8, channel, tariff, storage])?;
    out.put(&(series.unit.code(), series.exponent))?;
    out.put(&(series.start.timestamp() - base))?;
    out.put(&series.step_s)?;
    out.put(first)?;
    out.put(&u32::try_from(later.len()).map_err(|_| EncodeError::Count("reads"))?)?;
    let mut before = *first;
    for count in later {
        out.put(&count.checked_sub(before).ok_or(EncodeError::OutOfRange)?)?;
        before = *count;
    }
    Ok(())
}

struct Out(Vec<u8>);

impl Out {
    fn put<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let bytes = std::mem::take(&mut self.0);
        self.0 = postcard::to_extend(value, bytes).map_err(|_| EncodeError::OutOfRange)?;
        Ok(())
    }
}
