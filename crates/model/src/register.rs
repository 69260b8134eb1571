//! Registers: the counters of a meter, and exact values read from them.
//!
//! In: counts as the meter shows them. Out: register names, exact values.
//! Never here: deltas (see `determinants`), wire formats (see `uplink`).

use crate::{Quantity, Unit};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

macro_rules! measures {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $cumulative:literal;)*) => {
        /// What a register measures. The discriminant is what ClickHouse stores: never renumber.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Measure { $($(#[$doc])* $name = $code,)* }

        impl Measure {
            /// Every measure there is.
            pub const ALL: &[Measure] = &[$(Measure::$name,)*];

            /// The name in output and settings: `volume`, `energy_import`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Measure::$name => $text,)* }
            }

            /// Whether the register only counts up (until it rolls over), so that differences
            /// of reads are usage.
            #[must_use]
            pub const fn is_cumulative(self) -> bool {
                match self { $(Measure::$name => $cumulative,)* }
            }

            /// The measure with this stored code.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Measure> {
                match code { $($code => Some(Measure::$name),)* _ => None }
            }
        }
    };
}

measures! {
    /// Forward volume: what a water or gas meter bills.
    Volume = 1, "volume", true;
    /// Volume that flowed backwards.
    VolumeReverse = 2, "volume_reverse", true;
    /// Pulses of a pulse output.
    Pulses = 3, "pulses", true;
    /// Forward (imported) active energy.
    EnergyImport = 4, "energy_import", true;
    /// Reverse (exported) active energy.
    EnergyExport = 5, "energy_export", true;
    /// Combined active energy (组合有功).
    EnergyCombined = 6, "energy_combined", true;
    /// Reactive energy, forward or quadrants I + IV by the meter's setting.
    ReactiveImport = 7, "reactive_import", true;
    /// Reactive energy, reverse.
    ReactiveExport = 8, "reactive_export", true;
    /// Heat delivered.
    Heat = 9, "heat", true;
    /// Cold delivered.
    Cold = 10, "cold", true;
    /// Volume through a heat meter.
    HeatVolume = 11, "heat_volume", true;
    Flow = 20, "flow", false;
    Power = 21, "power", false;
    ReactivePower = 22, "reactive_power", false;
    ApparentPower = 23, "apparent_power", false;
    PowerFactor = 24, "power_factor", false;
    Voltage = 25, "voltage", false;
    Current = 26, "current", false;
    Frequency = 27, "frequency", false;
    /// Maximum demand in the running period.
    MaximumDemand = 28, "maximum_demand", false;
    FlowTemperature = 29, "flow_temperature", false;
    ReturnTemperature = 30, "return_temperature", false;
    TemperatureDifference = 31, "temperature_difference", false;
    Temperature = 32, "temperature", false;
    Pressure = 33, "pressure", false;
    OperatingTime = 34, "operating_time", true;
    BatteryVoltage = 35, "battery_voltage", false;
    BatteryLevel = 36, "battery_level", false;
    SignalStrength = 37, "signal_strength", false;
    Humidity = 38, "humidity", false;
    ApparentEnergy = 39, "apparent_energy", true;
    Mass = 40, "mass", true;
}

/// One register of a meter: what it measures, and which of several.
///
/// Written `volume`, `energy_import/t2` (tariff 2), `volume/s1` (first settlement day back),
/// `pulses/c2` (channel 2), or combined: `energy_import/c1/t2/s3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Register {
    /// What it measures.
    pub measure: Measure,
    /// Input or sub-unit; 0 where a meter has one.
    pub channel: u8,
    /// Tariff; 0 is the total over all tariffs.
    pub tariff: u8,
    /// Storage; 0 is the running value, n the n-th settlement back. At most 255.
    pub storage: u8,
}

impl Register {
    /// The forward volume of a water meter.
    pub const VOLUME: Register = Register::of(Measure::Volume);

    /// The running total of `measure`.
    #[must_use]
    pub const fn of(measure: Measure) -> Self {
        Self { measure, channel: 0, tariff: 0, storage: 0 }
    }

    /// The same register under tariff `tariff`.
    #[must_use]
    pub const fn tariff(self, tariff: u8) -> Self {
        Self { tariff, ..self }
    }

    /// The same register, `storage` settlements back.
    #[must_use]
    pub const fn storage(self, storage: u8) -> Self {
        Self { storage, ..self }
    }

    /// The same register on input `channel`.
    #[must_use]
    pub const fn channel(self, channel: u8) -> Self {
        Self { channel, ..self }
    }

    /// The code stored in ClickHouse: measure, channel, tariff, storage, a byte each.
    #[must_use]
    pub const fn code(self) -> u32 {
        u32::from_be_bytes([self.measure as u8, self.channel, self.tariff, self.storage])
    }

    /// The register with this stored code; `None` for a measure nobody here knows.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        let [measure, channel, tariff, storage] = code.to_be_bytes();
        Some(Self { measure: Measure::from_code(measure)?, channel, tariff, storage })
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.measure.name())?;
        for (tag, number) in [('c', self.channel), ('t', self.tariff), ('s', self.storage)] {
            if number != 0 {
                write!(f, "/{tag}{number}")?;
            }
        }
        Ok(())
    }
}

/// A register name that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a register: want a measure, then /cN, /tN, /sN, as in energy_import/t2")]
pub struct RegisterParseError(pub String);

impl FromStr for Register {
    type Err = RegisterParseError;
    fn from_str(text: &str) -> Result<Self, RegisterParseError> {
        let wrong = || RegisterParseError(text.to_owned());
        let mut parts = text.split('/');
        let name = parts.next().unwrap_or_default();
        let measure = Measure::ALL.iter().copied().find(|m| m.name() == name).ok_or_else(wrong)?;
        let mut register = Register::of(measure);
        for part in parts {
            let number = |tag| part.strip_prefix(tag).and_then(|n: &str| n.parse::<u8>().ok());
            if let Some(channel) = number('c') {
                register.channel = channel;
            } else if let Some(tariff) = number('t') {
                register.tariff = tariff;
            } else if let Some(storage) = number('s') {
                register.storage = storage;
            } else {
                return Err(wrong());
            }
        }
        Ok(register)
    }
}

impl Serialize for Register {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Register {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A value that cannot be expressed as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The two units measure different things.
    #[error("{from} is not convertible to {to}")]
    NotConvertible {
        /// The unit the value is in.
        from: Unit,
        /// The unit that was asked for.
        to: Unit,
    },
    /// The exact value would need more digits than there are.
    #[error("{count}e{exponent} has no exact value in this form")]
    NotExact {
        /// The count of the register.
        count: i64,
        /// The power of ten it stands for.
        exponent: i8,
    },
}

/// A value exactly as a register shows it: `count` × 10^`exponent` `unit`.
///
/// The count is an integer of the register's smallest unit, so rollover, comparison and storage
/// never meet a fraction: 556677.00 m3 is `55667700 × 10^-2 m3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RegisterValue {
    /// The digits, without a decimal point.
    pub count: i64,
    /// The power of ten of the last digit, -12 to 12.
    pub exponent: i8,
    /// The unit.
    pub unit: Unit,
}

impl RegisterValue {
    /// `count` × 10^`exponent` of `unit`.
    #[must_use]
    pub const fn new(count: i64, exponent: i8, unit: Unit) -> Self {
        Self { count, exponent, unit }
    }

    /// The same value with another exponent, when that is exact.
    ///
    /// # Errors
    /// When digits would be lost or the count would not fit.
    pub fn with_exponent(self, exponent: i8) -> Result<Self, ValueError> {
        let lost = ValueError::NotExact { count: self.count, exponent: self.exponent };
        let steps = i16::from(self.exponent) - i16::from(exponent);
        let factor = 10_i64.checked_pow(u32::from(steps.unsigned_abs()));
        let count = match factor {
            Some(factor) if steps >= 0 => self.count.checked_mul(factor),
            Some(factor) => (self.count % factor == 0).then_some(self.count / factor),
            None => (self.count == 0).then_some(0),
        };
        count.map(|count| Self { count, exponent, unit: self.unit }).ok_or(lost)
    }

    /// The same value in another unit of the same dimension (`kWh` as `Wh`).
    ///
    /// # Errors
    /// When the units measure different things or the exponent would leave its range.
    pub fn in_unit(self, unit: Unit) -> Result<Self, ValueError> {
        let (from_base, from_power) = self.unit.base();
        let (to_base, to_power) = unit.base();
        if from_base != to_base {
            return Err(ValueError::NotConvertible { from: self.unit, to: unit });
        }
        let exponent = self
            .exponent
            .checked_add(from_power)
            .and_then(|sum| sum.checked_sub(to_power))
            .ok_or(ValueError::NotExact { count: self.count, exponent: self.exponent })?;
        Ok(Self { count: self.count, exponent, unit })
    }

    /// The value as an exact decimal of its own unit.
    ///
    /// # Errors
    /// When it needs more than 28 decimals or 96 bits.
    pub fn to_quantity(self) -> Result<Quantity, ValueError> {
        let lost = ValueError::NotExact { count: self.count, exponent: self.exponent };
        let value = if self.exponent <= 0 {
            Decimal::try_new(self.count, u32::from(self.exponent.unsigned_abs()))
                .map_err(|_| lost)?
        } else {
            10_i64
                .checked_pow(u32::from(self.exponent.unsigned_abs()))
                .and_then(|factor| Decimal::from(self.count).checked_mul(Decimal::from(factor)))
                .ok_or(lost)?
        };
        Ok(Quantity::new(value, self.unit))
    }
}

impl fmt::Display for RegisterValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_quantity() {
            Ok(quantity) => write!(f, "{} {}", quantity.value, quantity.unit),
            Err(_) => write!(f, "{}e{} {}", self.count, self.exponent, self.unit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_register_reads_back_from_its_name_and_its_code() {
        for measure in Measure::ALL.iter().copied() {
            let register = Register::of(measure).channel(1).tariff(2).storage(3);
            assert_eq!(register.to_string().parse(), Ok(register));
            assert_eq!(Register::from_code(register.code()), Some(register));
        }
        assert_eq!(Register::VOLUME.to_string(), "volume");
        assert!("volume/x1".parse::<Register>().is_err());
        assert_eq!(Register::from_code(0xFF00_0000), None);
    }

    #[test]
    fn a_value_changes_form_only_when_nothing_is_lost() {
        let shown = RegisterValue::new(55_667_700, -2, Unit::CubicMetre);
        assert_eq!(shown.to_string(), "556677.00 m3");
        assert_eq!(
            shown.in_unit(Unit::Litre).unwrap().with_exponent(0).unwrap().count,
            556_677_000
        );
        assert_eq!(shown.with_exponent(0).unwrap().count, 556_677);
        assert!(RegisterValue::new(5, -1, Unit::CubicMetre).with_exponent(0).is_err());
        assert!(RegisterValue::new(i64::MAX, 0, Unit::Litre).with_exponent(-1).is_err());
        assert!(shown.in_unit(Unit::KilowattHour).is_err());
    }

    proptest! {
        #[test]
        fn a_finer_exponent_loses_nothing(count in -1_000_000_000i64..1_000_000_000, exponent in -6i8..6, finer in 0i8..6) {
            let value = RegisterValue::new(count, exponent, Unit::Litre);
            let fine = value.with_exponent(exponent - finer).unwrap();
            prop_assert_eq!(fine.with_exponent(exponent), Ok(value));
            prop_assert_eq!(fine.to_quantity().unwrap().value, value.to_quantity().unwrap().value);
        }

        #[test]
        fn no_count_and_exponent_panics(count: i64, exponent: i8, to: i8) {
            let value = RegisterValue::new(count, exponent, Unit::KilowattHour);
            let _same_or_error = value.with_exponent(to);
            let _unit_or_error = value.in_unit(Unit::WattHour);
            prop_assert!(!value.to_string().is_empty());
        }
    }
}
