//! CJ/T 188-2004 and -2018: water, heat and gas meters.
//!
//! In: one frame, with or without FE preamble, of a meter or to a meter. Out: its address,
//! control and identifier, and the reads and events of an answer; frames and commands encoded.
//! Never here: SM4 security of the 2018 edition, prices and purchases (read over, not reported).
//!
//! Frame (§5 of the standard): `68 T A0..A6 C L DATA CS 16`, address low byte first, CS the sum
//! of all bytes before it. DATA begins with two identifier bytes and a sequence byte. Makers swap
//! the identifier bytes, put the unit before the value, and define status bits of their own:
//! [`Settings`] says which, or plausibility decides.

pub mod cat1;
mod encode;
mod frame;
mod table;
mod unit;
mod walk;

pub use encode::{
    Answer, EncodeError, encode_abnormal, encode_address_answer, encode_answer, encode_frame,
    encode_read_request, encode_valve_answer, encode_valve_command,
};
pub use frame::{Frame, WILDCARD, begins, frame, names};
pub use table::{MIRRORED_STATUS, STANDARD_STATUS, StatusBit};

use crate::bytes::Reader;
use crate::decoded::{Decoded, DecodedEvent, Details};
use crate::profile::Profile;
use crate::{DecodedRead, UplinkError};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use model::{DeviceKey, EventKind, ReadQuality};

/// What a maker does its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Where the unit byte of a quantity stands.
    pub unit_position: UnitPosition,
    /// What the status bits mean.
    pub status: &'static [StatusBit],
}

/// Where the unit byte of a quantity stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnitPosition {
    /// After the value, as the standard says.
    After,
    /// Before the value, as some makers do.
    Before,
    /// After when every unit there fits its quantity, else before when every unit there does.
    ByPlausibility,
}

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Somebody asks a meter.
    Request,
    /// Somebody changes a meter.
    Command,
    /// A meter answers or reports.
    Response,
    /// A meter answers that it cannot.
    Abnormal,
}

impl Kind {
    /// The name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Command => "command",
            Self::Response => "response",
            Self::Abnormal => "abnormal",
        }
    }
}

/// What a valve is told (data identifier A017).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValveAction {
    /// 55: open.
    Open,
    /// 99: close.
    Close,
    /// A maker's own code: 66 release to open, 77 release to close, 00 ask.
    Vendor(u8),
}

impl ValveAction {
    /// The byte on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Open => 0x55,
            Self::Close => 0x99,
            Self::Vendor(code) => code,
        }
    }

    /// The action of this byte.
    #[must_use]
    pub const fn of(code: u8) -> Self {
        match code {
            0x55 => Self::Open,
            0x99 => Self::Close,
            other => Self::Vendor(other),
        }
    }

    /// The name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "valve_open",
            Self::Close => "valve_close",
            Self::Vendor(0x66) => "valve_release_to_open",
            Self::Vendor(0x77) => "valve_release_to_close",
            Self::Vendor(0) => "valve_ask",
            Self::Vendor(_) => "valve_vendor",
        }
    }
}

/// Where a valve stands, by the status word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValveState {
    /// Open.
    Open,
    /// Closed.
    Closed,
    /// At neither end.
    Fault,
}

impl ValveState {
    /// The name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Fault => "abnormal",
        }
    }
}

/// The status word as sent, 2 or 4 bytes, first byte first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatusWord {
    /// The bytes as one number: `00 FF` is `0x00FF`.
    pub raw: u32,
    /// How many bytes there were.
    pub bytes: u8,
}

/// What a frame says beside its reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// T: 10 cold water, 11 hot water, 20 heat, 30 gas and so on, as the byte on the wire.
    pub meter_type: u8,
    /// The address as sent, low byte first.
    pub address: [u8; 7],
    /// C as sent.
    pub control: u8,
    /// What the frame is for.
    pub kind: Kind,
    /// The data identifier in the standard's order; `None` in an abnormal answer.
    pub data_identifier: Option<u16>,
    /// Whether the two identifier bytes came swapped.
    pub swapped: bool,
    /// The sequence byte.
    pub sequence: Option<u8>,
    /// The meter's clock, in the meter's local time; `None` where there is none or it is absurd.
    pub meter_time: Option<NaiveDateTime>,
    /// The status word.
    pub status: Option<StatusWord>,
    /// Where the valve stands, by the profile's status bits.
    pub valve: Option<ValveState>,
    /// What the valve is told.
    pub action: Option<ValveAction>,
    /// Where the unit bytes stood, where there were any.
    pub unit_position: Option<UnitPosition>,
    /// The IMEI of the module, where the report carries it.
    pub imei: Option<u64>,
    /// Foreign bytes after the frame.
    pub trailing: usize,
}

impl Facts {
    /// The address as the number it is printed as, maker code first; `None` for wildcards.
    #[must_use]
    pub fn device(&self) -> Option<DeviceKey> {
        crate::bytes::bcd_le(&self.address).ok().map(DeviceKey::Cjt188)
    }
}

/// Reads one frame.
///
/// # Errors
/// When the frame is no CJ/T 188 frame, damaged, or holds an identifier, length, unit or digit
/// this codec does not read; every error names its offset.
pub fn decode(
    bytes: &[u8],
    profile: &'static Profile,
    settings: &Settings,
) -> Result<Decoded, UplinkError> {
    if cat1::looks_alike(bytes) {
        return cat1::decode(bytes, profile);
    }
    let frame = frame(bytes)?;
    let mut decoded = Decoded::nothing(profile);
    let facts = read_body(&frame, profile, settings, &mut decoded.reads, &mut decoded.events)?;
    decoded.device = facts.device();
    decoded.details = Details::Cjt188(facts);
    Ok(decoded)
}

fn read_body(
    frame: &Frame<'_>,
    profile: &Profile,
    settings: &Settings,
    reads: &mut Vec<DecodedRead>,
    events: &mut Vec<DecodedEvent>,
) -> Result<Facts, UplinkError> {
    let mut facts = Facts {
        meter_type: frame.meter_type,
        address: frame.address,
        control: frame.control,
        kind: frame.kind()?,
        data_identifier: None,
        swapped: false,
        sequence: None,
        meter_time: None,
        status: None,
        valve: None,
        action: None,
        unit_position: None,
        imei: None,
        trailing: frame.trailing,
    };
    let mut reader = Reader::new(frame.data, frame.data_offset);
    if facts.kind == Kind::Abnormal {
        return abnormal(frame, reader, facts, settings, events);
    }
    let offset = reader.offset();
    let wire = reader.array("data identifier")?;
    let value = u16::from_be_bytes(wire);
    let known = table::identifier(wire);
    if known.is_none() && facts.kind == Kind::Response {
        let value = u64::from(value);
        return Err(UplinkError::Unsupported { what: "data identifier", value, offset });
    }
    let (data_identifier, swapped) = known.unwrap_or((value, false));
    facts.data_identifier = Some(data_identifier);
    facts.swapped = swapped;
    facts.sequence = Some(reader.u8("sequence byte")?);
    match facts.kind {
        Kind::Request | Kind::Abnormal => {}
        Kind::Command => {
            if data_identifier == table::VALVE {
                facts.action = Some(ValveAction::of(reader.u8("valve code")?));
            }
        }
        Kind::Response => {
            let form = table::form(frame, data_identifier)?;
            let mut walker = walk::Walker { form, facts: &mut facts, reads, settings };
            walker.walk(reader)?;
            let bits = form.status.unwrap_or(settings.status);
            conclude(&mut facts, profile, bits, reads, events);
            if form.frozen {
                reads.retain(|read| read.measured_at.is_some());
            }
        }
    }
    Ok(facts)
}

/// An abnormal answer (§5.3.4): sequence byte and status word, nothing else.
fn abnormal(
    frame: &Frame<'_>,
    mut reader: Reader<'_>,
    mut facts: Facts,
    settings: &Settings,
    events: &mut Vec<DecodedEvent>,
) -> Result<Facts, UplinkError> {
    if frame.data.len() != 3 {
        return Err(UplinkError::LengthMismatch {
            what: "data of an abnormal answer",
            offset: frame.data_offset.saturating_sub(1),
            announced: frame.data.len(),
            found: 3,
        });
    }
    facts.sequence = Some(reader.u8("sequence byte")?);
    let raw = u32::from(u16::from_be_bytes(reader.array("status word")?));
    facts.status = Some(StatusWord { raw, bytes: 2 });
    events.push(DecodedEvent { kind: EventKind::CommandRefused, at: None, detail: u64::from(raw) });
    status_events(&mut facts, settings.status, None, events);
    Ok(facts)
}

/// Dates the reads by the meter's clock and reads the status word.
fn conclude(
    facts: &mut Facts,
    profile: &Profile,
    bits: &[StatusBit],
    reads: &mut [DecodedRead],
    events: &mut Vec<DecodedEvent>,
) {
    let at = facts.meter_time.and_then(|local| to_utc(local, profile.utc_offset_minutes));
    let suspect = status_events(facts, bits, at, events);
    for read in reads {
        read.measured_at = at;
        if suspect {
            read.quality = ReadQuality::Suspect;
        }
    }
}

/// Turns the status word into valve state and events; says whether a fault touches measuring.
fn status_events(
    facts: &mut Facts,
    bits: &[StatusBit],
    at: Option<DateTime<Utc>>,
    events: &mut Vec<DecodedEvent>,
) -> bool {
    let Some(status) = facts.status else {
        return false;
    };
    // The bits speak of the first two bytes; longer words are a maker's own and stay raw.
    let word = if status.bytes == 4 { status.raw >> 16 } else { status.raw };
    let mut suspect = false;
    facts.valve = Some(ValveState::Open);
    for bit in bits {
        if word & u32::from(bit.mask) == u32::from(bit.value) {
            if bit.event == EventKind::ValveClosed {
                facts.valve = Some(ValveState::Closed);
            } else if bit.event == EventKind::ValveFault {
                facts.valve = Some(ValveState::Fault);
            }
            suspect |= bit.suspect;
            events.push(DecodedEvent { kind: bit.event, at, detail: u64::from(status.raw) });
        }
    }
    suspect
}

/// The meter's local time in UTC.
pub(super) fn to_utc(local: NaiveDateTime, utc_offset_minutes: i16) -> Option<DateTime<Utc>> {
    local
        .checked_sub_signed(TimeDelta::minutes(i64::from(utc_offset_minutes)))
        .map(|utc| utc.and_utc())
}

#[cfg(test)]
mod tests;
