//! The fixed structure of EN 1434-3 (CI 73 by wire): identification and two counters.
//!
//! In: 16 bytes. Out: at most two reads, device id, access number, status.
//! Never here: records; meters of today send those.

use super::value::{self, Value};
use crate::bytes::Reader;
use crate::{DecodedRead, UplinkError};
use model::{Measure, ReadQuality, Register, RegisterValue, Unit};

/// What a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Energy,
    Power,
    Volume,
    Flow,
}

use Subject::{Energy, Flow, Power, Volume};

/// Units of a counter (EN 1434-3 table 6): the first code, its unit and power of ten; the next two
/// codes are its tenfold and hundredfold.
const UNITS: &[(u8, Unit, i8, Subject)] = &[
    (0x02, Unit::WattHour, 0, Energy),
    (0x05, Unit::KilowattHour, 0, Energy),
    (0x08, Unit::MegawattHour, 0, Energy),
    (0x0B, Unit::Kilojoule, 0, Energy),
    (0x0E, Unit::Megajoule, 0, Energy),
    (0x11, Unit::Gigajoule, 0, Energy),
    (0x14, Unit::Watt, 0, Power),
    (0x17, Unit::Kilowatt, 0, Power),
    (0x1A, Unit::Megawatt, 0, Power),
    (0x1D, Unit::KilojoulePerHour, 0, Power),
    (0x20, Unit::MegajoulePerHour, 0, Power),
    (0x23, Unit::GigajoulePerHour, 0, Power),
    (0x26, Unit::Litre, -3, Volume),
    (0x29, Unit::Litre, 0, Volume),
    (0x2C, Unit::CubicMetre, 0, Volume),
    (0x2F, Unit::LitrePerHour, -3, Flow),
    (0x32, Unit::LitrePerHour, 0, Flow),
    (0x35, Unit::CubicMetrePerHour, 0, Flow),
];

/// The unit code that means "as the first counter, at the fixed date".
const SAME_STORED: u8 = 0x3E;

const BINARY: u8 = 0x01;
const STORED: u8 = 0x02;

/// The fixed structure, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fixed {
    /// The identification number as sent, low byte first.
    pub(super) identification: [u8; 4],
    /// The device type.
    pub(super) device_type: u8,
    /// The access number.
    pub(super) access: u8,
    /// The status byte.
    pub(super) status: u8,
    /// What the counters show.
    pub(super) reads: Vec<DecodedRead>,
}

/// Reads the fixed structure.
pub(super) fn read(bytes: &[u8], base: usize) -> Result<Fixed, UplinkError> {
    let mut reader = Reader::new(bytes, base);
    let identification = reader.array("identification number")?;
    let access = reader.u8("access number")?;
    let status = reader.u8("status")?;
    let [first, second] = reader.array("units")?;
    let device_type = (second >> 6) << 2 | first >> 6;
    let (first, second) = (first & 0x3F, second & 0x3F);
    let storage = u8::from(status & STORED != 0);
    let mut reads = Vec::new();
    let counters = if second == SAME_STORED {
        [(first, storage), (first, 1)]
    } else {
        [(first, storage), (second, storage)]
    };
    for (code, storage) in counters {
        let digits: [u8; 4] = reader.array("counter")?;
        let value = if status & BINARY == 0 { value::bcd(&digits) } else { value::signed(&digits) };
        if let (Value::Number { count, .. }, Some((unit, exponent, subject))) = (value, unit(code))
        {
            let measure = measure(subject, device_type);
            reads.push(DecodedRead {
                register: Register::of(measure).storage(storage),
                value: RegisterValue::new(count, exponent, unit),
                measured_at: None,
                quality: ReadQuality::Actual,
            });
        }
    }
    Ok(Fixed { identification, device_type, access, status, reads })
}

fn unit(code: u8) -> Option<(Unit, i8, Subject)> {
    let (first, unit, exponent, subject) = UNITS.iter().rev().find(|(first, ..)| *first <= code)?;
    let step = i8::try_from(code - first).ok().filter(|step| *step <= 2)?;
    Some((*unit, exponent + step, *subject))
}

/// Device types of EN 1434-3 table 5: 4 is heat.
const fn measure(subject: Subject, device_type: u8) -> Measure {
    match (subject, device_type) {
        (Volume, 0x04) => Measure::HeatVolume,
        (Volume, _) => Measure::Volume,
        (Energy, 0x04) => Measure::Heat,
        (Energy, _) => Measure::EnergyImport,
        (Power, _) => Measure::Power,
        (Flow, _) => Measure::Flow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_counters_share_one_structure() {
        let bytes = [1, 2, 3, 4, 9, 0, 0x05, 0x69, 0x31, 0x65, 0, 0, 0x69, 0, 0, 0];
        let fixed = read(&bytes, 0).unwrap();
        let shown: Vec<String> =
            fixed.reads.iter().map(|r| format!("{} {}", r.register, r.value)).collect();
        assert_eq!(shown, ["heat 6531 kWh", "heat_volume 69 l"]);
        assert_eq!(fixed.device_type, 0x04);
        let binary = [1, 2, 3, 4, 9, 1, 0xED, 0x7E, 0xE8, 3, 0, 0, 1, 0, 0, 0];
        let fixed = read(&binary, 0).unwrap();
        let shown: Vec<String> =
            fixed.reads.iter().map(|r| format!("{} {}", r.register, r.value)).collect();
        assert_eq!(shown, ["volume 10000 m3", "volume/s1 10 m3"]);
    }
}
