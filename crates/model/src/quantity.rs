//! Units and exact quantities.
//!
//! In: decimals and unit names. Out: quantities that only combine with their own kind.
//! Never here: prices (see `money`), register counts (see `register`).

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

macro_rules! units {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $base:ident * 10 ^ $power:literal;)*) => {
        /// A unit of measure, as meters report it and rate schedules ask for it.
        ///
        /// The discriminant is what ClickHouse stores: never renumber.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Unit { $($(#[$doc])* $name = $code,)* }

        impl Unit {
            /// Every unit there is.
            pub const ALL: &[Unit] = &[$(Unit::$name,)*];

            /// The way the unit is written: `m3`, `kWh`.
            #[must_use]
            pub const fn symbol(self) -> &'static str {
                match self { $(Unit::$name => $text,)* }
            }

            /// The unit of the same dimension it counts in, and the power of ten between them:
            /// `kWh` is `(Wh, 3)`.
            #[must_use]
            pub const fn base(self) -> (Unit, i8) {
                match self { $(Unit::$name => (Unit::$base, $power),)* }
            }

            /// The code stored in ClickHouse.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self { $(Unit::$name => $code,)* }
            }

            /// The unit with this stored code.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Unit> {
                match code { $($code => Some(Unit::$name),)* _ => None }
            }
        }
    };
}

units! {
    /// A plain count.
    One = 0, "1", One * 10 ^ 0;
    /// Pulses of a pulse output; what one is worth stands in the registry.
    Pulse = 1, "pulse", Pulse * 10 ^ 0;
    CubicMetre = 2, "m3", Litre * 10 ^ 3;
    Litre = 3, "l", Litre * 10 ^ 0;
    CubicMetrePerHour = 4, "m3/h", LitrePerHour * 10 ^ 3;
    LitrePerHour = 5, "l/h", LitrePerHour * 10 ^ 0;
    WattHour = 6, "Wh", WattHour * 10 ^ 0;
    KilowattHour = 7, "kWh", WattHour * 10 ^ 3;
    MegawattHour = 8, "MWh", WattHour * 10 ^ 6;
    Joule = 9, "J", Joule * 10 ^ 0;
    Kilojoule = 10, "kJ", Joule * 10 ^ 3;
    Megajoule = 11, "MJ", Joule * 10 ^ 6;
    Gigajoule = 12, "GJ", Joule * 10 ^ 9;
    Watt = 13, "W", Watt * 10 ^ 0;
    Kilowatt = 14, "kW", Watt * 10 ^ 3;
    Megawatt = 15, "MW", Watt * 10 ^ 6;
    KilojoulePerHour = 16, "kJ/h", JoulePerHour * 10 ^ 3;
    MegajoulePerHour = 17, "MJ/h", JoulePerHour * 10 ^ 6;
    GigajoulePerHour = 18, "GJ/h", JoulePerHour * 10 ^ 9;
    JoulePerHour = 19, "J/h", JoulePerHour * 10 ^ 0;
    KilovarHour = 20, "kvarh", VarHour * 10 ^ 3;
    VarHour = 21, "varh", VarHour * 10 ^ 0;
    KilovoltAmpereHour = 22, "kVAh", VoltAmpereHour * 10 ^ 3;
    VoltAmpereHour = 23, "VAh", VoltAmpereHour * 10 ^ 0;
    Kilovar = 24, "kvar", Var * 10 ^ 3;
    Var = 25, "var", Var * 10 ^ 0;
    KilovoltAmpere = 26, "kVA", VoltAmpere * 10 ^ 3;
    VoltAmpere = 27, "VA", VoltAmpere * 10 ^ 0;
    Volt = 28, "V", Volt * 10 ^ 0;
    Ampere = 29, "A", Ampere * 10 ^ 0;
    Hertz = 30, "Hz", Hertz * 10 ^ 0;
    DegreeCelsius = 31, "°C", DegreeCelsius * 10 ^ 0;
    Kelvin = 32, "K", Kelvin * 10 ^ 0;
    Bar = 33, "bar", Bar * 10 ^ 0;
    Second = 34, "s", Second * 10 ^ 0;
    Minute = 35, "min", Minute * 10 ^ 0;
    Hour = 36, "h", Hour * 10 ^ 0;
    Day = 37, "d", Day * 10 ^ 0;
    Month = 38, "month", Month * 10 ^ 0;
    Percent = 39, "%", Percent * 10 ^ 0;
    Millimetre = 40, "mm", Millimetre * 10 ^ 0;
    Person = 41, "person", Person * 10 ^ 0;
    DecibelMilliwatt = 42, "dBm", DecibelMilliwatt * 10 ^ 0;
    Kilogram = 43, "kg", Kilogram * 10 ^ 0;
    KilogramPerHour = 44, "kg/h", KilogramPerHour * 10 ^ 0;
    Household = 45, "household", Household * 10 ^ 0;
    Meter = 46, "meter", Meter * 10 ^ 0;
    Millivolt = 47, "mV", Millivolt * 10 ^ 0;
}

/// A unit name nobody here knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown unit {0:?}")]
pub struct UnknownUnit(pub String);

impl FromStr for Unit {
    type Err = UnknownUnit;
    fn from_str(text: &str) -> Result<Self, UnknownUnit> {
        let wanted = if text == "m³" { "m3" } else { text };
        Unit::ALL
            .iter()
            .copied()
            .find(|unit| unit.symbol() == wanted)
            .ok_or_else(|| UnknownUnit(text.to_owned()))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol())
    }
}

impl Serialize for Unit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.symbol())
    }
}

impl<'de> Deserialize<'de> for Unit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An operation on quantities that has no meaning or no room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Two units that do not mix.
    #[error("{left} and {right} do not mix")]
    UnitMismatch {
        /// Unit of the first operand.
        left: Unit,
        /// Unit of the second operand.
        right: Unit,
    },
    /// The exact result does not fit 96 bits and 28 decimals.
    #[error("the result does not fit an exact decimal")]
    Overflow,
}

/// An exact amount of something billable: `12.345 m3`.
///
/// Arithmetic is checked: different units are an error, never a conversion by surprise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Quantity {
    /// How much.
    pub value: Decimal,
    /// Of what.
    pub unit: Unit,
}

impl Quantity {
    /// `value` of `unit`.
    #[must_use]
    pub const fn new(value: Decimal, unit: Unit) -> Self {
        Self { value, unit }
    }

    /// Nothing of `unit`.
    #[must_use]
    pub const fn zero(unit: Unit) -> Self {
        Self { value: Decimal::ZERO, unit }
    }

    /// The sum.
    ///
    /// # Errors
    /// When the units differ or the sum does not fit.
    pub fn checked_add(self, other: Self) -> Result<Self, QuantityError> {
        self.combine(other, Decimal::checked_add)
    }

    /// The difference.
    ///
    /// # Errors
    /// When the units differ or the difference does not fit.
    pub fn checked_sub(self, other: Self) -> Result<Self, QuantityError> {
        self.combine(other, Decimal::checked_sub)
    }

    /// Scaled by a plain number (a multiplier, a ratio).
    ///
    /// # Errors
    /// When the product does not fit.
    pub fn checked_scale(self, by: Decimal) -> Result<Self, QuantityError> {
        self.value
            .checked_mul(by)
            .map(|value| Self { value, unit: self.unit })
            .ok_or(QuantityError::Overflow)
    }

    fn combine(
        self,
        other: Self,
        with: fn(Decimal, Decimal) -> Option<Decimal>,
    ) -> Result<Self, QuantityError> {
        if self.unit != other.unit {
            return Err(QuantityError::UnitMismatch { left: self.unit, right: other.unit });
        }
        with(self.value, other.value)
            .map(|value| Self { value, unit: self.unit })
            .ok_or(QuantityError::Overflow)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.value.normalize(), self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rust_decimal_macros::dec;

    #[test]
    fn every_unit_reads_back_from_its_symbol_and_its_code() {
        for unit in Unit::ALL.iter().copied() {
            assert_eq!(unit.symbol().parse(), Ok(unit));
            assert_eq!(Unit::from_code(unit.code()), Some(unit));
            assert_eq!(unit.base().0.base(), (unit.base().0, 0), "{unit} has a base with a base");
        }
        assert_eq!("m³".parse(), Ok(Unit::CubicMetre));
        assert!("gallon".parse::<Unit>().is_err());
    }

    #[test]
    fn water_and_energy_do_not_mix() {
        let water = Quantity::new(dec!(1), Unit::CubicMetre);
        let energy = Quantity::new(dec!(1), Unit::KilowattHour);
        let error = water.checked_add(energy).unwrap_err();
        assert_eq!(error.to_string(), "m3 and kWh do not mix");
        assert_eq!(water.checked_add(water).unwrap().to_string(), "2 m3");
    }

    #[test]
    fn overflow_is_an_answer() {
        let most = Quantity::new(Decimal::MAX, Unit::CubicMetre);
        assert_eq!(most.checked_add(most), Err(QuantityError::Overflow));
        assert_eq!(most.checked_scale(dec!(2)), Err(QuantityError::Overflow));
    }
}
