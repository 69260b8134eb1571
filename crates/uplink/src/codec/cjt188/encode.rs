//! Building CJ/T 188 frames: answers for simulators, requests and valve commands for meters.
//!
//! In: an address and values. Out: bytes on the wire. The tables of the decoder are walked here
//! too. Never here: when to send what.

use super::frame::{END, PREAMBLE, START, checksum};
use super::table::{self, Family, Field};
use super::{UnitPosition, ValveAction, unit, walk};
use crate::bytes::put_bcd_le;
use chrono::{Datelike, NaiveDateTime, Timelike};
use model::{Register, RegisterValue};

/// An answer to build.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// T.
    pub meter_type: u8,
    /// The address as a number, maker code first.
    pub address: u64,
    /// C, `0x81` for the standard's answers.
    pub control: u8,
    /// The data identifier in the standard's order.
    pub data_identifier: u16,
    /// L, where an identifier has several forms (heat of 2004 and 2018).
    pub length: Option<usize>,
    /// Whether to send the identifier bytes swapped.
    pub swapped: bool,
    /// The sequence byte.
    pub sequence: u8,
    /// Where to put the units.
    pub unit_position: UnitPosition,
    /// What the registers show; a register that is not here is sent as zero.
    pub reads: &'a [(Register, RegisterValue)],
    /// The meter's clock in local time; all zero when there is none.
    pub clock: Option<NaiveDateTime>,
    /// The status word.
    pub status: u32,
}

/// Why a frame could not be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// No table for this identifier, meter type and length.
    #[error("no form for identifier {data_identifier:04X} of meter type {meter_type:02X}")]
    NoForm {
        /// The identifier asked for.
        data_identifier: u16,
        /// The meter type asked for.
        meter_type: u8,
    },
    /// A value does not fit its digits or has no unit code.
    #[error("{register} does not fit its field")]
    ValueDoesNotFit {
        /// Which register.
        register: Register,
    },
    /// An address of more than 14 digits, or data beyond what the length byte can say.
    #[error("{0} does not fit its field")]
    FieldDoesNotFit(&'static str),
}

/// The frame around `data`, with four FE bytes before it when `preamble`.
///
/// # Errors
/// When address or data do not fit.
pub fn encode_frame(
    meter_type: u8,
    address: u64,
    control: u8,
    data: &[u8],
    preamble: bool,
) -> Result<Vec<u8>, EncodeError> {
    let mut wire = Vec::with_capacity(7);
    put_bcd_le(&mut wire, address, 7).ok_or(EncodeError::FieldDoesNotFit("address"))?;
    around(meter_type, &wire, control, data, preamble)
}

fn around(
    meter_type: u8,
    address: &[u8],
    control: u8,
    data: &[u8],
    preamble: bool,
) -> Result<Vec<u8>, EncodeError> {
    let length =
        u8::try_from(data.len()).map_err(|_| EncodeError::FieldDoesNotFit("data length"))?;
    let lead = if preamble { 4 } else { 0 };
    let mut bytes = vec![PREAMBLE; lead];
    bytes.extend_from_slice(&[START, meter_type]);
    bytes.extend_from_slice(address);
    bytes.extend_from_slice(&[control, length]);
    bytes.extend_from_slice(data);
    bytes.push(checksum(bytes.get(lead..).unwrap_or_default()));
    bytes.push(END);
    Ok(bytes)
}

fn head(data_identifier: u16, swapped: bool, sequence: u8) -> Vec<u8> {
    let [high, low] = data_identifier.to_be_bytes();
    if swapped { vec![low, high, sequence] } else { vec![high, low, sequence] }
}

/// A request to read `data_identifier`; to every meter on the line when `address` is `None`.
///
/// # Errors
/// When the address does not fit.
pub fn encode_read_request(
    meter_type: u8,
    address: Option<u64>,
    data_identifier: u16,
    sequence: u8,
) -> Result<Vec<u8>, EncodeError> {
    let control = if data_identifier == table::ADDRESS { 0x03 } else { 0x01 };
    let data = head(data_identifier, false, sequence);
    match address {
        Some(address) => encode_frame(meter_type, address, control, &data, true),
        None => around(meter_type, &super::WILDCARD, control, &data, true),
    }
}

/// A valve command (A017).
///
/// # Errors
/// When the address does not fit.
pub fn encode_valve_command(
    meter_type: u8,
    address: u64,
    action: ValveAction,
    sequence: u8,
) -> Result<Vec<u8>, EncodeError> {
    let mut data = head(table::VALVE, false, sequence);
    data.push(action.code());
    encode_frame(meter_type, address, 0x04, &data, true)
}

/// A meter's answer to a valve command, with its status word.
///
/// # Errors
/// When the address does not fit.
pub fn encode_valve_answer(
    meter_type: u8,
    address: u64,
    sequence: u8,
    status: u16,
) -> Result<Vec<u8>, EncodeError> {
    let mut data = head(table::VALVE, false, sequence);
    data.extend_from_slice(&status.to_be_bytes());
    encode_frame(meter_type, address, 0x84, &data, true)
}

/// A meter's answer to the question for its address.
///
/// # Errors
/// When the address does not fit.
pub fn encode_address_answer(
    meter_type: u8,
    address: u64,
    sequence: u8,
) -> Result<Vec<u8>, EncodeError> {
    encode_frame(meter_type, address, 0x83, &head(table::ADDRESS, false, sequence), true)
}

/// A meter's answer that it cannot: to control code `request`, with its status word.
///
/// # Errors
/// When the address does not fit.
pub fn encode_abnormal(
    meter_type: u8,
    address: u64,
    request: u8,
    sequence: u8,
    status: u16,
) -> Result<Vec<u8>, EncodeError> {
    let [high, low] = status.to_be_bytes();
    encode_frame(meter_type, address, request | 0xC0, &[sequence, high, low], true)
}

/// A meter's answer with values, by the same table the decoder walks.
///
/// # Errors
/// When there is no such form or a value does not fit it.
pub fn encode_answer(answer: &Answer<'_>) -> Result<Vec<u8>, EncodeError> {
    let (meter_type, data_identifier) = (answer.meter_type, answer.data_identifier);
    let no_form = EncodeError::NoForm { data_identifier, meter_type };
    let form = table::form_of(meter_type, answer.control, data_identifier, answer.length)
        .ok_or(no_form)?;
    let family = Family::of(meter_type).ok_or(no_form)?;
    let position = form.unit_position.unwrap_or(answer.unit_position);
    let back = u8::try_from(data_identifier.saturating_sub(form.first).saturating_add(1));
    let mut data = head(data_identifier, answer.swapped, answer.sequence);
    for field in form.fields {
        match *field {
            Field::Quantity { subject, storage, bytes, decimals } => {
                let storage = if form.counts_back { back.unwrap_or(u8::MAX) } else { storage };
                let register = Register::of(family.measure(subject)).storage(storage);
                put_quantity(&mut data, answer, position, register, bytes, decimals)?;
            }
            Field::Fixed { measure, bytes, decimals, unit } => {
                let register = Register::of(measure);
                let value = look_up(answer, register)
                    .map(|value| value.in_unit(unit).and_then(|v| v.with_exponent(-decimals)));
                let count = match value {
                    None => 0,
                    Some(Ok(value)) => value.count,
                    Some(Err(_)) => return Err(EncodeError::ValueDoesNotFit { register }),
                };
                put_digits(&mut data, register, count, bytes)?;
            }
            Field::Clock => put_clock(&mut data, answer.clock),
            Field::Status { bytes } => {
                let word = answer.status.to_be_bytes();
                let from = word.len().saturating_sub(usize::from(bytes));
                data.extend_from_slice(word.get(from..).unwrap_or_default());
            }
            Field::ValveCode => data.push(ValveAction::Open.code()),
            Field::Signal => {
                let register = Register::of(model::Measure::SignalStrength);
                let dbm = look_up(answer, register).map_or(0, |value| value.count);
                let dbm = i16::try_from(dbm);
                let dbm = dbm.map_err(|_| EncodeError::ValueDoesNotFit { register })?;
                data.extend_from_slice(&dbm.to_be_bytes());
            }
            Field::Imei => data.extend_from_slice(&[0; 8]),
            Field::Skip(bytes) => data.resize(data.len() + bytes, 0),
            Field::Rest => data.resize(form.length.unwrap_or(data.len()), 0),
        }
    }
    encode_frame(meter_type, answer.address, answer.control, &data, true)
}

fn look_up(answer: &Answer<'_>, register: Register) -> Option<RegisterValue> {
    answer.reads.iter().find(|(named, _)| *named == register).map(|(_, value)| *value)
}

/// Digits and unit: in the value's own unit, or its tenfold or hundredfold when it is too long.
fn put_quantity(
    data: &mut Vec<u8>,
    answer: &Answer<'_>,
    position: UnitPosition,
    register: Register,
    bytes: usize,
    decimals: i8,
) -> Result<(), EncodeError> {
    let does_not_fit = EncodeError::ValueDoesNotFit { register };
    let value = look_up(answer, register)
        .or_else(|| zero(register))
        .filter(|value| walk::measures(register.measure, value.unit))
        .ok_or(does_not_fit)?;
    for power in 0..=2_u8 {
        let code = unit::code(value.unit, power);
        let exponent = i8::try_from(power).ok().map(|power| power - decimals);
        let shown = exponent.and_then(|exponent| value.with_exponent(exponent).ok());
        let (Some(code), Some(shown)) = (code, shown) else {
            continue;
        };
        let mut digits = Vec::with_capacity(bytes);
        if put_digits(&mut digits, register, shown.count, bytes).is_err() {
            continue;
        }
        if position == UnitPosition::Before {
            data.push(code);
            data.extend_from_slice(&digits);
        } else {
            data.extend_from_slice(&digits);
            data.push(code);
        }
        return Ok(());
    }
    Err(does_not_fit)
}

/// What stands for a register the caller gave no value for.
fn zero(register: Register) -> Option<RegisterValue> {
    use model::Unit;
    let units = [Unit::CubicMetre, Unit::KilowattHour, Unit::Kilowatt, Unit::CubicMetrePerHour];
    let unit = units.into_iter().find(|unit| walk::measures(register.measure, *unit))?;
    Some(RegisterValue::new(0, 0, unit))
}

fn put_digits(
    data: &mut Vec<u8>,
    register: Register,
    count: i64,
    bytes: usize,
) -> Result<(), EncodeError> {
    let does_not_fit = EncodeError::ValueDoesNotFit { register };
    let count = u64::try_from(count).map_err(|_| does_not_fit)?;
    put_bcd_le(data, count, bytes).ok_or(does_not_fit)
}

fn put_clock(data: &mut Vec<u8>, clock: Option<NaiveDateTime>) {
    let Some(clock) = clock else {
        data.resize(data.len() + 7, 0);
        return;
    };
    let year = clock.year().unsigned_abs();
    let parts = [
        clock.second(),
        clock.minute(),
        clock.hour(),
        clock.day(),
        clock.month(),
        year % 100,
        year / 100 % 100,
    ];
    data.extend(
        parts.map(|part| u8::try_from(((part / 10) << 4) | (part % 10)).unwrap_or_default()),
    );
}
