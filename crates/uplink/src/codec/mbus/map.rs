//! From records to registers: which value is whose, and which one is the total.
//!
//! In: records and the device type. Out: reads, events, the meter's clock.
//! Never here: how a record is coded (see `record`, `value`), link and security.
//!
//! Rules, in this order:
//! * Only instantaneous values are reads; of power the maximum is the maximum demand.
//! * A VIFE that makes it another quantity (per time, limit, future, a maker's own) makes it no
//!   read. Backward is the reverse register and never the total; forward is the total where the
//!   meter sends no plain one.
//! * The first record of a register is the read; later ones are repetitions.
//! * The total is storage 0, tariff 0, sub-unit 0. Numbers above 255 fit no register: those
//!   records are left out, not folded onto another.

use super::record::{Function, Record};
use super::value::Value;
use super::vif::{Aspect, Meaning};
use crate::{DecodedEvent, DecodedRead};
use chrono::{DateTime, NaiveDateTime, Utc};
use model::{EventKind, Measure, ReadQuality, Register, RegisterValue};

/// What volume and energy are for a kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Family {
    volume: Option<(Measure, Option<Measure>)>,
    energy: Option<(Measure, Option<Measure>)>,
}

const WATER: Family = Family {
    volume: Some((Measure::Volume, Some(Measure::VolumeReverse))),
    energy: Some((Measure::Heat, Some(Measure::Cold))),
};
const ENERGY: Option<(Measure, Option<Measure>)> =
    Some((Measure::EnergyImport, Some(Measure::EnergyExport)));
const HEAT: Family = Family {
    volume: Some((Measure::HeatVolume, None)),
    energy: Some((Measure::Heat, Some(Measure::Cold))),
};
const COLD: Family = Family {
    volume: Some((Measure::HeatVolume, None)),
    energy: Some((Measure::Cold, Some(Measure::Heat))),
};
/// Devices whose records of volume or energy cannot be any: allocators, sensors, detectors.
const NEITHER: Family = Family { volume: None, energy: None };
const ANY: Family = Family { volume: WATER.volume, energy: ENERGY };

/// EN 13757-3 table 13, the device types; any other is [`ANY`].
const FAMILIES: &[(u8, Family)] = &[
    (0x04, HEAT),
    (0x05, HEAT),
    (0x06, WATER),
    (0x07, WATER),
    (0x08, NEITHER),
    (0x0A, COLD),
    (0x0B, COLD),
    (0x0C, HEAT),
    (0x0D, HEAT),
    (0x10, WATER),
    (0x15, WATER),
    (0x16, WATER),
    (0x17, WATER),
    (0x18, NEITHER),
    (0x1A, NEITHER),
    (0x1B, NEITHER),
    (0x1C, NEITHER),
    (0x28, WATER),
];

fn family(device_type: u8) -> Family {
    FAMILIES.iter().find(|(known, _)| *known == device_type).map_or(ANY, |(_, family)| *family)
}

/// A bit, or a pattern of bits, of the status byte (EN 13757-3 table 9).
const STATUS: &[(u8, u8, EventKind, bool)] = &[
    (0x03, 0x02, EventKind::VendorAlarm, false),
    (0x03, 0x03, EventKind::VendorAlarm, false),
    (0x04, 0x04, EventKind::BatteryLow, false),
    (0x08, 0x08, EventKind::SensorFault, true),
    (0x10, 0x10, EventKind::VendorAlarm, false),
];

/// What records say, before dates and qualities are known.
#[derive(Debug, Clone, Default)]
pub(super) struct Mapped {
    pub(super) reads: Vec<DecodedRead>,
    pub(super) events: Vec<DecodedEvent>,
    /// The meter's clock, in its local time.
    pub(super) meter_time: Option<NaiveDateTime>,
    /// Volume or energy that only counts forwards, for when there is no plain total.
    forward: Vec<DecodedRead>,
    /// Whether every record so far had a code of the standard.
    pub(super) all_known: bool,
}

impl Mapped {
    pub(super) fn new() -> Self {
        Self { all_known: true, ..Self::default() }
    }

    /// Takes in the next record.
    pub(super) fn take(&mut self, record: &Record<'_>, device_type: u8) {
        let Some(vif) = record.vif() else {
            self.all_known = false;
            return;
        };
        let value = record.value();
        match (vif.means, value) {
            (Meaning::Date, Value::DateTime(at)) => self.clock(record, at),
            (Meaning::ErrorFlags, Value::Number { count, .. }) => self.error_flags(record, count),
            (_, Value::Number { count, exponent }) => {
                let aspect = record.aspect();
                let Some(register) = register(record, vif.means, aspect, family(device_type))
                else {
                    return;
                };
                let Some(value) = fit(RegisterValue::new(count, exponent, vif.unit)) else {
                    return;
                };
                let read = DecodedRead {
                    register,
                    value,
                    measured_at: None,
                    quality: ReadQuality::Actual,
                };
                let into =
                    if aspect == Aspect::Forward { &mut self.forward } else { &mut self.reads };
                push_first(into, read);
            }
            _ => {}
        }
    }

    /// The clock is the plain date and time of storage 0; a storage's own date is no clock.
    fn clock(&mut self, record: &Record<'_>, at: NaiveDateTime) {
        let is_now = record.function() == Function::Instantaneous
            && (record.storage, record.tariff, record.subunit) == (0, 0, 0)
            && (record.code, record.vifes.is_empty()) == (0x6D, true);
        if is_now && self.meter_time.is_none() {
            self.meter_time = Some(at);
        }
    }

    fn error_flags(&mut self, record: &Record<'_>, flags: i64) {
        let is_now = record.function() == Function::Instantaneous && record.storage == 0;
        let detail = u64::try_from(flags).unwrap_or_default();
        if is_now && detail != 0 {
            self.events.push(DecodedEvent { kind: EventKind::VendorAlarm, at: None, detail });
        }
    }

    /// The status byte's events; then everything gets the meter's time.
    pub(super) fn conclude(&mut self, status: u8, at: Option<DateTime<Utc>>) {
        for read in std::mem::take(&mut self.forward) {
            push_first(&mut self.reads, read);
        }
        let mut suspect = false;
        for (mask, value, kind, touches) in STATUS {
            if status & mask == *value {
                suspect |= touches;
                let detail = u64::from(status);
                self.events.push(DecodedEvent { kind: *kind, at: None, detail });
            }
        }
        for read in &mut self.reads {
            read.measured_at = at;
            if suspect {
                read.quality = ReadQuality::Suspect;
            }
        }
        for event in &mut self.events {
            event.at = at;
        }
    }
}

fn push_first(reads: &mut Vec<DecodedRead>, read: DecodedRead) {
    if !reads.iter().any(|earlier| earlier.register == read.register) {
        reads.push(read);
    }
}

/// What a register of a device is about, and the VIFE that says so: the way back of [`register`].
pub(super) fn meaning(device_type: u8, measure: Measure) -> Option<(Meaning, Option<u8>)> {
    const BACKWARD: u8 = 0x3C;
    let family = family(device_type);
    let reactive = Some((Measure::ReactiveImport, Some(Measure::ReactiveExport)));
    let pairs = [
        (family.volume, Meaning::Volume),
        (family.energy, Meaning::Energy),
        (reactive, Meaning::Is(Measure::ReactiveImport)),
    ];
    let of_pair = pairs.into_iter().find_map(|(pair, means)| match pair? {
        (forward, _) if forward == measure => Some((means, None)),
        (_, Some(backward)) if backward == measure => Some((means, Some(BACKWARD))),
        _ => None,
    });
    of_pair.or(Some((Meaning::Is(measure), None)))
}

/// Whose register a record is.
fn register(
    record: &Record<'_>,
    means: Meaning,
    aspect: Aspect,
    family: Family,
) -> Option<Register> {
    let pair = match means {
        Meaning::Energy => family.energy?,
        Meaning::Volume => family.volume?,
        Meaning::Is(Measure::ReactiveImport) => {
            (Measure::ReactiveImport, Some(Measure::ReactiveExport))
        }
        Meaning::Is(measure) => (measure, None),
        Meaning::Date | Meaning::Bits | Meaning::ErrorFlags | Meaning::Info => return None,
    };
    let counts = pair.0.is_cumulative();
    let measure = match (aspect, record.function()) {
        (_, Function::Minimum | Function::Error) => return None,
        (Aspect::Plain, Function::Maximum) if pair.0 == Measure::Power => Measure::MaximumDemand,
        (_, Function::Maximum) => return None,
        (Aspect::Plain | Aspect::BaseConditions, _) => pair.0,
        (Aspect::Forward, _) if counts => pair.0,
        (Aspect::Backward, _) => pair.1?,
        (Aspect::Phase(1..=3), _) if !counts && record.subunit == 0 => pair.0,
        (Aspect::Phase(_) | Aspect::Forward | Aspect::Uncorrected | Aspect::Another, _) => {
            return None;
        }
    };
    let channel = match aspect {
        Aspect::Phase(phase) => phase,
        Aspect::Plain
        | Aspect::BaseConditions
        | Aspect::Uncorrected
        | Aspect::Forward
        | Aspect::Backward
        | Aspect::Another => u8::try_from(record.subunit).ok()?,
    };
    let register = Register::of(measure)
        .channel(channel)
        .tariff(u8::try_from(record.tariff).ok()?)
        .storage(u8::try_from(record.storage).ok()?);
    Some(register)
}

/// The value within the exponents a register may have; digits below 10^-12 are cut.
fn fit(value: RegisterValue) -> Option<RegisterValue> {
    match value.exponent {
        -12..=12 => Some(value),
        13.. => value.with_exponent(12).ok(),
        _ => {
            let lost = u32::from((value.exponent + 12).unsigned_abs());
            let count = 10_i64.checked_pow(lost).map_or(0, |divisor| value.count / divisor);
            Some(RegisterValue { count, exponent: -12, ..value })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Records;
    use super::*;

    fn reads(bytes: &[u8], device_type: u8) -> Vec<(String, String)> {
        let mut mapped = Mapped::new();
        for record in Records::new(bytes, 0) {
            mapped.take(&record.unwrap(), device_type);
        }
        mapped.conclude(0, None);
        mapped.reads.iter().map(|r| (r.register.to_string(), r.value.to_string())).collect()
    }

    fn pair(register: &str, value: &str) -> (String, String) {
        (register.to_owned(), value.to_owned())
    }

    #[test]
    fn the_total_is_never_what_flowed_backwards() {
        let backward_first = [0x04, 0x93, 0x3C, 9, 0, 0, 0, 0x04, 0x13, 1, 0, 0, 0];
        let expected = [pair("volume_reverse", "0.009 m3"), pair("volume", "0.001 m3")];
        assert_eq!(reads(&backward_first, 0x07), expected);
        assert_eq!(reads(&backward_first, 0x04), [pair("heat_volume", "0.001 m3")]);
    }

    #[test]
    fn what_only_counts_forwards_is_the_total_where_there_is_no_plain_one() {
        let forward = [0x04, 0x93, 0x3B, 9, 0, 0, 0];
        assert_eq!(reads(&forward, 0x07), [pair("volume", "0.009 m3")]);
        let both = [&forward[..], &[0x04, 0x13, 1, 0, 0, 0]].concat();
        assert_eq!(reads(&both, 0x07), [pair("volume", "0.001 m3")]);
    }

    #[test]
    fn the_first_of_several_is_the_read_and_other_quantities_are_none() {
        let bytes = [
            0x14, 0x13, 8, 0, 0, 0, 0x34, 0x13, 7, 0, 0, 0, 0x04, 0x13, 1, 0, 0, 0, 0x04, 0x13, 2,
            0, 0, 0, 0x44, 0x13, 3, 0, 0, 0, 0x04, 0x93, 0x7E, 4, 0, 0, 0, 0x04, 0x93, 0xFF, 0x01,
            5, 0, 0, 0,
        ];
        let expected = [pair("volume", "0.001 m3"), pair("volume/s1", "0.003 m3")];
        assert_eq!(reads(&bytes, 0x07), expected);
        assert_eq!(reads(&bytes, 0x08), []);
    }

    #[test]
    fn a_storage_beyond_the_register_s_reach_is_left_out() {
        let bytes = [0xC4, 0x8F, 0x0F, 0x13, 1, 0, 0, 0, 0xC4, 0x8F, 0x07, 0x13, 1, 0, 0, 0];
        assert_eq!(reads(&bytes, 0x07), [pair("volume/s255", "0.001 m3")]);
    }

    #[test]
    fn every_family_row_stands_once_and_in_order() {
        assert!(FAMILIES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn a_value_finer_than_any_register_is_cut() {
        use model::Unit;
        let fine = RegisterValue::new(123_456, -14, Unit::Kilowatt);
        assert_eq!(fit(fine), Some(RegisterValue::new(1_234, -12, Unit::Kilowatt)));
        let tiny = RegisterValue::new(1, -100, Unit::Kilowatt);
        assert_eq!(fit(tiny), Some(RegisterValue::new(0, -12, Unit::Kilowatt)));
        assert_eq!(fit(RegisterValue::new(5, 100, Unit::Kilowatt)), None);
    }
}
