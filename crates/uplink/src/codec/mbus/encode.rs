//! Building M-Bus telegrams: what a meter sends, for simulators and for proving the decoder.
//!
//! In: an address, registers, dates, keys. Out: bytes on the wire or the air. The tables of the
//! decoder are walked here too. Never here: when to send what, radio timing, counters.

use super::link::{crc, sum};
use super::record::Function;
use super::vif::{self, Table};
use super::{compact, map, security};
use crate::UplinkError;
use crate::bytes::put_bcd_le;
use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike};
use model::{Register, RegisterValue};

/// Why a telegram could not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// No code of the tables means this register and unit for this device type.
    #[error("{register} has no code for its unit")]
    NoCode {
        /// Which register.
        register: Register,
    },
    /// More than fits one telegram, or a number that does not fit its field.
    #[error("{0} does not fit its field")]
    FieldDoesNotFit(&'static str),
    /// The data to be sent in compact form are no records.
    #[error("the data are no records")]
    NoRecords {
        /// Where they break.
        source: UplinkError,
    },
}

/// How to protect a telegram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal<'k> {
    /// In clear.
    None,
    /// Security mode 5.
    Mode5(&'k [u8; 16]),
    /// Security mode 7 under this message counter.
    Mode7(&'k [u8; 16], u32),
}

/// A wireless telegram to build.
#[derive(Debug, Clone, Copy)]
pub struct Telegram<'a> {
    /// Manufacturer, id, version and type of the radio in wire order.
    pub link_address: [u8; 8],
    /// The same of the meter, where the radio is not in it: makes the header a long one.
    pub meter_address: Option<[u8; 8]>,
    /// The access number.
    pub access: u8,
    /// The status byte.
    pub status: u8,
    /// Records.
    pub body: &'a [u8],
    /// How to protect it.
    pub seal: Seal<'a>,
}

const SEND_NO_REPLY: u8 = 0x44;
const EXTENSION_MODE_7: u8 = 0x10;
const MESSAGE_CONTROL: u8 = 0x25;

/// A wireless frame without checksums; see [`super::with_crc_a`] and [`super::with_crc_b`].
///
/// # Errors
/// When it would be longer than 256 bytes.
pub fn encode_wireless(telegram: &Telegram<'_>) -> Result<Vec<u8>, EncodeError> {
    let address = telegram.meter_address.unwrap_or(telegram.link_address);
    let mut clear = telegram.body.to_vec();
    let mode: u8 = match telegram.seal {
        Seal::None => 0,
        Seal::Mode5(_) => 5,
        Seal::Mode7(..) => 7,
    };
    if mode != 0 {
        clear.splice(0..0, security::CLEAR);
        let whole = clear.len().next_multiple_of(16);
        clear.resize(whole, security::CLEAR[0]);
    }
    let blocks = clear.len() / 16;
    if mode != 0 && blocks > 15 {
        return Err(EncodeError::FieldDoesNotFit("encrypted data"));
    }
    let blocks = u8::try_from(blocks & 0x0F).unwrap_or_default();
    let configuration = [if mode == 0 { 0 } else { blocks << 4 }, mode];
    let mut transport = header(telegram, configuration);
    match telegram.seal {
        Seal::None => transport.extend_from_slice(&clear),
        Seal::Mode5(key) => {
            security::seal_mode_5(key, address, telegram.access, &mut clear);
            transport.extend_from_slice(&clear);
        }
        Seal::Mode7(key, counter) => {
            let counter = counter.to_le_bytes();
            security::seal_mode_7(key, address, counter, &mut clear);
            transport.push(EXTENSION_MODE_7);
            transport.extend_from_slice(&clear);
            let mac = security::mac_mode_7(key, address, counter, MESSAGE_CONTROL, &transport);
            let mut layer = vec![0x90, 0x0F, 0x00, 0x2C, MESSAGE_CONTROL];
            layer.extend_from_slice(&counter);
            layer.extend_from_slice(&mac);
            transport.splice(0..0, layer);
        }
    }
    wireless(telegram.link_address, &transport)
}

fn header(telegram: &Telegram<'_>, configuration: [u8; 2]) -> Vec<u8> {
    let mut header = match telegram.meter_address {
        Some([m0, m1, i0, i1, i2, i3, version, kind]) => {
            vec![0x72, i0, i1, i2, i3, m0, m1, version, kind]
        }
        None => vec![0x7A],
    };
    header.extend_from_slice(&[telegram.access, telegram.status]);
    header.extend_from_slice(&configuration);
    header
}

fn wireless(address: [u8; 8], data: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let length =
        u8::try_from(data.len() + 9).map_err(|_| EncodeError::FieldDoesNotFit("frame length"))?;
    let mut frame = vec![length, SEND_NO_REPLY];
    frame.extend_from_slice(&address);
    frame.extend_from_slice(data);
    Ok(frame)
}

/// A wireless frame under an extended link layer that encrypts (CI 8D): full records, or only
/// their values where the reader has seen them in full before.
///
/// # Errors
/// When it would be longer than 256 bytes, or a compact body holds no records.
pub fn encode_extended(
    address: [u8; 8],
    access: u8,
    session: u32,
    key: &[u8; 16],
    body: &[u8],
    is_compact: bool,
) -> Result<Vec<u8>, EncodeError> {
    const CONTROL: u8 = 0x20;
    let data = if is_compact {
        compact::compress(body).map_err(|source| EncodeError::NoRecords { source })?
    } else {
        body.to_vec()
    };
    let session = (session & 0x1FFF_FFFF | 0x2000_0000).to_le_bytes();
    let mut part = vec![if is_compact { 0x79 } else { 0x78 }];
    part.extend_from_slice(&data);
    let checksum = crc(&part).to_le_bytes();
    part.splice(0..0, checksum);
    security::seal_extended(key, address, CONTROL, session, &mut part);
    let mut layer = vec![0x8D, CONTROL, access];
    layer.extend_from_slice(&session);
    layer.extend_from_slice(&part);
    wireless(address, &layer)
}

/// A wired long frame: an answer with a long header, in clear.
///
/// # Errors
/// When it would be longer than 261 bytes.
pub fn encode_wired(
    primary: u8,
    address: [u8; 8],
    access: u8,
    status: u8,
    body: &[u8],
) -> Result<Vec<u8>, EncodeError> {
    let [m0, m1, i0, i1, i2, i3, version, kind] = address;
    let mut data = vec![0x08, primary, 0x72, i0, i1, i2, i3, m0, m1, version, kind];
    data.extend_from_slice(&[access, status, 0, 0]);
    data.extend_from_slice(body);
    let length =
        u8::try_from(data.len()).map_err(|_| EncodeError::FieldDoesNotFit("frame length"))?;
    let mut frame = vec![0x68, length, length, 0x68];
    frame.extend_from_slice(&data);
    frame.extend_from_slice(&[sum(&data), 0x16]);
    Ok(frame)
}

/// How the value of a record is coded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A binary number of 1, 2, 3, 4, 6 or 8 bytes.
    Signed(i64, usize),
    /// Decimal digits of 1, 2, 3, 4 or 6 bytes; a negative number loses its top digit.
    Digits(i64, usize),
    /// The bits of a 32-bit real.
    Real(u32),
    /// A text of characters below U+0100.
    Text(String),
    /// A date.
    Date(NaiveDate),
    /// A date and time, to the minute.
    DateTime(NaiveDateTime),
}

/// A record to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord<'a> {
    /// Which value of the period.
    pub function: Function,
    /// Storage number.
    pub storage: u64,
    /// Tariff.
    pub tariff: u32,
    /// Sub-unit.
    pub subunit: u16,
    /// VIF and VIFEs as on the wire.
    pub vib: &'a [u8],
    /// The value.
    pub data: Data,
}

/// Appends a record.
///
/// # Errors
/// When a number does not fit its field.
pub fn put_record(out: &mut Vec<u8>, record: &NewRecord<'_>) -> Result<(), EncodeError> {
    let (kind, data) = coded(&record.data)?;
    let (storage, tariff, subunit) = (record.storage, record.tariff, record.subunit);
    let first = kind | record.function.code() << 4 | u8::from(storage & 1 == 1) << 6;
    let mut left = (storage >> 1, tariff, subunit);
    let mut dib = vec![first];
    while left != (0, 0, 0) {
        let storage = u8::try_from(left.0 & 0x0F).unwrap_or_default();
        let tariff = u8::try_from(left.1 & 0x03).unwrap_or_default();
        let subunit = u8::try_from(left.2 & 0x01).unwrap_or_default();
        if let Some(last) = dib.last_mut() {
            *last |= 0x80;
        }
        dib.push(storage | tariff << 4 | subunit << 6);
        left = (left.0 >> 4, left.1 >> 2, left.2 >> 1);
    }
    if dib.len() > 11 {
        return Err(EncodeError::FieldDoesNotFit("storage, tariff or sub-unit"));
    }
    out.extend_from_slice(&dib);
    out.extend_from_slice(record.vib);
    out.extend_from_slice(&data);
    Ok(())
}

/// DIF bits 3 to 0 and the bytes of a value, LVAR included.
fn coded(data: &Data) -> Result<(u8, Vec<u8>), EncodeError> {
    let does_not_fit = EncodeError::FieldDoesNotFit("value");
    match data {
        Data::Signed(number, bytes) => {
            let kind = match bytes {
                1..=4 => u8::try_from(*bytes).unwrap_or_default(),
                6 => 6,
                8 => 7,
                _ => return Err(does_not_fit),
            };
            let bits = u32::try_from(*bytes * 8 - 1).unwrap_or(63);
            let fits = *bytes == 8 || (number >> bits == 0 || number >> bits == -1);
            let wide = number.to_le_bytes();
            let part = wide.get(..*bytes).filter(|_| fits).ok_or(does_not_fit)?;
            Ok((kind, part.to_vec()))
        }
        Data::Digits(number, bytes) => {
            let kind = match bytes {
                1..=4 => 0x08 + u8::try_from(*bytes).unwrap_or_default(),
                6 => 0x0E,
                _ => return Err(does_not_fit),
            };
            let mut digits = Vec::with_capacity(*bytes);
            put_bcd_le(&mut digits, number.unsigned_abs(), *bytes).ok_or(does_not_fit.clone())?;
            match digits.last_mut() {
                Some(top) if *number < 0 && *top >> 4 == 0 => *top |= 0xF0,
                Some(_) if *number < 0 => return Err(does_not_fit),
                _ => {}
            }
            Ok((kind, digits))
        }
        Data::Real(bits) => Ok((0x05, bits.to_le_bytes().to_vec())),
        Data::Text(text) => {
            let characters: Result<Vec<u8>, _> = text.chars().rev().map(u8::try_from).collect();
            let mut bytes = characters.map_err(|_| does_not_fit.clone())?;
            let length = u8::try_from(bytes.len()).ok().filter(|length| *length <= 0xBF);
            bytes.insert(0, length.ok_or(does_not_fit)?);
            Ok((0x0D, bytes))
        }
        Data::Date(day) => Ok((0x02, date_bytes(*day).ok_or(does_not_fit)?.to_vec())),
        Data::DateTime(at) => {
            let [b0, b1] = date_bytes(at.date()).ok_or(does_not_fit)?;
            let minute = u8::try_from(at.minute()).unwrap_or_default();
            let hour = u8::try_from(at.hour()).unwrap_or_default();
            // Bit 5: the hundred years after 2000.
            Ok((0x04, vec![minute, hour | 0x20, b0, b1]))
        }
    }
}

/// Type G; `None` outside the years 2000 to 2080.
fn date_bytes(day: NaiveDate) -> Option<[u8; 2]> {
    let year = day.year().checked_sub(2000).and_then(|year| u8::try_from(year).ok())?;
    let (month, day) = (u8::try_from(day.month()).ok()?, u8::try_from(day.day()).ok()?);
    (year <= 80).then_some([day | (year & 0x07) << 5, month | (year & 0x78) << 1])
}

/// Appends what a register shows, by the tables the decoder walks: 4 bytes, or 8 where it does
/// not fit those.
///
/// # Errors
/// When no code means this register in this unit for this device type.
pub fn put_read(
    out: &mut Vec<u8>,
    device_type: u8,
    register: Register,
    value: RegisterValue,
) -> Result<(), EncodeError> {
    let no_code = EncodeError::NoCode { register };
    let (means, vife) = map::meaning(device_type, register.measure).ok_or(no_code.clone())?;
    let coded = CODED_TABLES.iter().find_map(|(table, prefix)| {
        let (code, count) = vif::code(*table, means, value)?;
        Some((*prefix, code, count))
    });
    let (prefix, code, count) = coded.ok_or(no_code)?;
    let extension = if vife.is_some() { 0x80 } else { 0x00 };
    let vib: Vec<u8> = prefix.iter().copied().chain([code | extension]).chain(vife).collect();
    // All ones would mean "no value" for a counter; digits have their own minus.
    let data = match (count, i32::try_from(count)) {
        (-1, _) => Data::Digits(count, 4),
        (_, Ok(_)) => Data::Signed(count, 4),
        (_, Err(_)) => Data::Signed(count, 8),
    };
    let record = NewRecord {
        function: Function::Instantaneous,
        storage: u64::from(register.storage),
        tariff: u32::from(register.tariff),
        subunit: u16::from(register.channel),
        vib: &vib,
        data,
    };
    put_record(out, &record)
}

/// The tables of codes, and what stands before a code of each.
const CODED_TABLES: &[(Table, &[u8])] =
    &[(Table::Primary, &[]), (Table::Fb, &[0xFB]), (Table::Fd, &[0xFD])];

/// Appends the meter's clock.
///
/// # Errors
/// When its year is not one of 2000 to 2080.
pub fn put_clock(out: &mut Vec<u8>, at: NaiveDateTime) -> Result<(), EncodeError> {
    let record = NewRecord {
        function: Function::Instantaneous,
        storage: 0,
        tariff: 0,
        subunit: 0,
        vib: &[0x6D],
        data: Data::DateTime(at),
    };
    put_record(out, &record)
}
