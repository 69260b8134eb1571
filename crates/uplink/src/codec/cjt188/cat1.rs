//! The Cat.1 look-alike of CJ/T 188: same `68 … 16` and sum, another protocol inside.
//!
//! In: a report of a meter that speaks it (device type 03 at byte 9, control 97 at byte 10, the
//! length at byte 15). Out: its total as a read, its status as events, the rest as facts.
//! Never here: its other packet types, answers to it.
//!
//! It must be recognised first: read as CJ/T 188, byte 10 would be a length of 151.

use super::frame::{END, START, checksum, preamble};
use super::{ValveState, to_utc};
use crate::bytes::{Reader, bcd_byte, bcd_le};
use crate::decoded::{Decoded, DecodedEvent, Details};
use crate::profile::Profile;
use crate::{DecodedRead, UplinkError};
use chrono::{NaiveDate, NaiveDateTime};
use model::{DeviceKey, EventKind, Measure, ReadQuality, Register, RegisterValue, Unit};

/// Bytes before the data: 68, type, address, device type, control, instruction, report, length.
const HEADER: usize = 16;

/// Shortest data of the one packet type read here; the spare bytes behind it may be missing.
const POSTPAID_BYTES_MIN: usize = 62;

/// What a report says beside its reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// T as sent.
    pub meter_type: u8,
    /// The address as sent, low byte first.
    pub address: [u8; 7],
    /// Always 03.
    pub device_type: u8,
    /// Always 97 in a report.
    pub control: u8,
    /// Why it reports: 1 timed, 2 button, 4 card, 8 valve, 16 magnet.
    pub reporting_type: u16,
    /// Always 03, postpaid standard.
    pub packet_type: u8,
    /// How many bytes the header announces.
    pub data_length: u8,
    /// The maker, as sent.
    pub manufacturer: u16,
    /// Payment, valve and resolution bits.
    pub table_type: u16,
    /// The IMEI, 15 digits; `None` when it is no number.
    pub imei: Option<u64>,
    /// The ICCID as sent, ten bytes of digits.
    pub iccid: [u8; 10],
    /// Supply voltage in mV.
    pub voltage_mv: u16,
    /// Received power in dBm.
    pub signal_dbm: i8,
    /// Reports since the meter was made: a step of more than one is a gap.
    pub cumulative_report_count: u16,
    /// Reports today.
    pub daily_report_count: u16,
    /// Minutes between reports; `None` when the meter reports by days or hours.
    pub reporting_interval_min: Option<u16>,
    /// The status word.
    pub status: u16,
    /// Where the valve stands; `None` for the reserved pattern.
    pub valve: Option<ValveState>,
    /// Total in litres.
    pub cumulative_litres: u32,
    /// Today's usage in litres.
    pub daily_litres: u32,
    /// This month's usage in litres.
    pub monthly_litres: u32,
    /// The meter's clock in local time; `None` when it is absurd.
    pub meter_time: Option<NaiveDateTime>,
    /// The bytes behind the documented table.
    pub spare: Vec<u8>,
}

impl Facts {
    /// The smallest step the counters make, in litres: 1, 10, 100 or 1000.
    #[must_use]
    pub const fn resolution_litres(&self) -> u16 {
        match self.table_type & 3 {
            0 => 1,
            1 => 10,
            2 => 100,
            _ => 1000,
        }
    }
}

/// Status bits (maker's section 6); the valve stands in the lowest two.
const STATUS: &[(u16, u16, EventKind)] = &[
    (0x0003, 0x0001, EventKind::ValveClosed),
    (0x0003, 0x0003, EventKind::ValveFault),
    (0x0020, 0x0020, EventKind::BatteryLow),
    (0x0040, 0x0040, EventKind::Magnet),
    (0x0080, 0x0080, EventKind::Tamper),
];

/// Whether `bytes` is a report of this protocol and not CJ/T 188: its two fixed bytes stand where
/// CJ/T 188 has control and length, and its own length fits the frame.
#[must_use]
pub fn looks_alike(bytes: &[u8]) -> bool {
    let body = bytes.get(preamble(bytes)..).unwrap_or_default();
    let announced = body.get(15).map(|length| HEADER + usize::from(*length) + 2);
    body.first() == Some(&START)
        && body.get(9) == Some(&0x03)
        && body.get(10) == Some(&0x97)
        // As CJ/T 188 it would have to be a read-address request of 151 data bytes.
        && (announced == Some(body.len()) || body.len() < 0x97 + 13)
}

/// Reads one report.
///
/// # Errors
/// When it is damaged, truncated or another packet type.
pub fn decode(bytes: &[u8], profile: &'static Profile) -> Result<Decoded, UplinkError> {
    let start = preamble(bytes);
    let body = bytes.get(start..).unwrap_or_default();
    let facts = Box::new(report(body, start)?);
    let at = facts.meter_time.and_then(|local| to_utc(local, profile.utc_offset_minutes));
    let read = |measure, count, unit, exponent| DecodedRead {
        register: Register::of(measure),
        value: RegisterValue::new(count, exponent, unit),
        measured_at: at,
        quality: ReadQuality::Actual,
    };
    let total = i64::from(facts.cumulative_litres);
    let reads = vec![
        read(Measure::Volume, total, Unit::Litre, 0),
        read(Measure::BatteryVoltage, i64::from(facts.voltage_mv), Unit::Volt, -3),
        read(Measure::SignalStrength, i64::from(facts.signal_dbm), Unit::DecibelMilliwatt, 0),
    ];
    let events = STATUS
        .iter()
        .filter(|(mask, value, _)| facts.status & mask == *value)
        .map(|(_, _, kind)| DecodedEvent { kind: *kind, at, detail: u64::from(facts.status) })
        .collect();
    Ok(Decoded {
        profile: "cat1",
        codec_version: profile.codec_version,
        device: bcd_le(&facts.address).ok().map(DeviceKey::Cjt188),
        reads,
        events,
        details: Details::Cat1(facts),
    })
}

/// The fields in the order of the maker's section 3.3; numbers are high byte first.
fn report(body: &[u8], base: usize) -> Result<Facts, UplinkError> {
    let mut reader = Reader::new(body, base);
    reader.u8("start byte")?;
    let meter_type = reader.u8("meter type")?;
    let address = reader.array("address")?;
    let device_type = reader.u8("device type")?;
    let control = reader.u8("control code")?;
    reader.take(2, "instruction number")?;
    let reporting_type = u16::from_be_bytes(reader.array("reporting type")?);
    let length_offset = reader.offset();
    let data_length = reader.u8("data length")?;
    check(body, base, length_offset, data_length)?;
    let packet_offset = reader.offset();
    let packet_type = reader.u8("packet type")?;
    if packet_type != 0x03 {
        let value = u64::from(packet_type);
        return Err(UplinkError::Unsupported { what: "packet type", value, offset: packet_offset });
    }
    if usize::from(data_length) < POSTPAID_BYTES_MIN {
        return Err(UplinkError::LengthMismatch {
            what: "data of packet type 03",
            offset: length_offset,
            announced: usize::from(data_length),
            found: POSTPAID_BYTES_MIN,
        });
    }
    let manufacturer = u16::from_be_bytes(reader.array("manufacturer")?);
    let table_type = u16::from_be_bytes(reader.array("table type")?);
    reader.take(4, "versions")?;
    let imei = imei(reader.array("IMEI")?);
    let iccid = reader.array("ICCID")?;
    let voltage_mv = u16::from_be_bytes(reader.array("voltage")?);
    let signal_dbm = i8::from_be_bytes(reader.array("signal strength")?);
    reader.take(2, "signal quality")?;
    let cumulative_report_count = u16::from_be_bytes(reader.array("report count")?);
    let daily_report_count = u16::from_be_bytes(reader.array("daily report count")?);
    let scheme = reader.u8("reporting mode")?;
    let interval = u16::from_be_bytes(reader.array("reporting interval")?);
    reader.take(3, "reporting mode")?;
    let status = u16::from_be_bytes(reader.array("status")?);
    let cumulative_litres = u32::from_be_bytes(reader.array("total")?);
    let daily_litres = u32::from_be_bytes(reader.array("daily usage")?);
    let monthly_litres = u32::from_be_bytes(reader.array("monthly usage")?);
    let meter_time = clock(reader.array("clock")?);
    let spare = usize::from(data_length) - POSTPAID_BYTES_MIN;
    let spare = reader.take(spare, "spare bytes")?.to_vec();
    let valve = match status & 3 {
        0 => Some(ValveState::Open),
        1 => Some(ValveState::Closed),
        3 => Some(ValveState::Fault),
        _ => None,
    };
    Ok(Facts {
        meter_type,
        address,
        device_type,
        control,
        reporting_type,
        packet_type,
        data_length,
        manufacturer,
        table_type,
        imei,
        iccid,
        voltage_mv,
        signal_dbm,
        cumulative_report_count,
        daily_report_count,
        reporting_interval_min: (scheme == 0xC0).then_some(interval),
        status,
        valve,
        cumulative_litres,
        daily_litres,
        monthly_litres,
        meter_time,
        spare,
    })
}

/// Length, checksum and end byte.
fn check(body: &[u8], base: usize, length_offset: usize, length: u8) -> Result<(), UplinkError> {
    let announced = HEADER + usize::from(length) + 2;
    let Some((summed, [found, end])) = body.split_last_chunk::<2>() else {
        return Err(UplinkError::NotRecognised);
    };
    if announced != body.len() {
        return Err(UplinkError::LengthMismatch {
            what: "bytes of the frame",
            offset: length_offset,
            announced,
            found: body.len(),
        });
    }
    let checksum_offset = base + summed.len();
    if *end != END {
        return Err(UplinkError::Malformed {
            what: "end byte",
            offset: checksum_offset + 1,
            found: *end,
            expected: "16",
        });
    }
    let computed = checksum(summed);
    if computed != *found {
        return Err(UplinkError::ChecksumMismatch {
            offset: checksum_offset,
            found: u32::from(*found),
            computed: u32::from(computed),
        });
    }
    Ok(())
}

/// Fifteen digits, high first, then a filler nibble.
fn imei(bytes: [u8; 8]) -> Option<u64> {
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]).take(15);
    nibbles
        .map(|digit| (digit <= 9).then_some(u64::from(digit)))
        .try_fold(0, |number, digit| Some(number * 10 + digit?))
}

/// Year, month, day, hour, minute, second, two digits each.
fn clock([year, month, day, hour, minute, second]: [u8; 6]) -> Option<NaiveDateTime> {
    let pair = |byte| bcd_byte(byte).map(u32::from);
    let year = i32::try_from(2000 + pair(year)?).ok()?;
    NaiveDate::from_ymd_opt(year, pair(month)?, pair(day)?)?.and_hms_opt(
        pair(hour)?,
        pair(minute)?,
        pair(second)?,
    )
}
