//! Money, prices and the named ways to round.
//!
//! In: exact decimals. Out: money that adds up, rounded once by a rule with a name.
//! Never here: which rule a tariff uses, currencies other than the utility's own.

use crate::{Quantity, Unit};
use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An operation on money that has no room or no meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The exact result does not fit 96 bits and 28 decimals.
    #[error("the amount does not fit an exact decimal")]
    Overflow,
    /// A price per one unit met a quantity of another.
    #[error("a price per {per} cannot price a quantity in {of}")]
    UnitMismatch {
        /// What the price is for.
        per: Unit,
        /// What the quantity is in.
        of: Unit,
    },
}

/// An amount of the utility's currency (yuan), exact; negative is a credit.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Money(Decimal);

impl Money {
    /// Nothing.
    pub const ZERO: Money = Money(Decimal::ZERO);

    /// This many yuan.
    #[must_use]
    pub const fn yuan(amount: Decimal) -> Self {
        Self(amount)
    }

    /// The decimal behind it, in yuan.
    #[must_use]
    pub const fn as_decimal(self) -> Decimal {
        self.0
    }

    /// The sum.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        self.0.checked_add(other.0).map(Self).ok_or(MoneyError::Overflow)
    }

    /// The difference.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn checked_sub(self, other: Self) -> Result<Self, MoneyError> {
        self.0.checked_sub(other.0).map(Self).ok_or(MoneyError::Overflow)
    }

    /// Scaled by a plain number (a percentage, a day share).
    ///
    /// # Errors
    /// When the product does not fit.
    pub fn checked_scale(self, by: Decimal) -> Result<Self, MoneyError> {
        self.0.checked_mul(by).map(Self).ok_or(MoneyError::Overflow)
    }

    /// The sum of many amounts; totals add rounded lines and never round.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn checked_sum(amounts: impl IntoIterator<Item = Self>) -> Result<Self, MoneyError> {
        amounts.into_iter().try_fold(Self::ZERO, Self::checked_add)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What one unit of something costs: `1.62 yuan per m3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Price {
    /// Yuan per unit.
    pub yuan: Decimal,
    /// The unit it is for.
    pub per: Unit,
}

impl Price {
    /// `yuan` per unit of `per`.
    #[must_use]
    pub const fn new(yuan: Decimal, per: Unit) -> Self {
        Self { yuan, per }
    }

    /// Quantity times price, exact.
    ///
    /// # Errors
    /// When the units differ or the product does not fit.
    pub fn times(self, quantity: Quantity) -> Result<Money, MoneyError> {
        if self.per != quantity.unit {
            return Err(MoneyError::UnitMismatch { per: self.per, of: quantity.unit });
        }
        quantity.value.checked_mul(self.yuan).map(Money).ok_or(MoneyError::Overflow)
    }
}

/// How a digit that must go is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoundingMode {
    /// 四舍五入: half away from zero.
    HalfUp,
    /// Half to the even digit (banker's).
    HalfEven,
    /// Towards zero (truncate).
    Down,
    /// Away from zero.
    Up,
}

/// A rounding rule: how many decimals stay, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rounding {
    /// Decimals that stay; 2 is the fen (分), 1 the jiao (角).
    pub places: u32,
    /// The rule for the rest.
    pub mode: RoundingMode,
}

impl Rounding {
    /// To the fen, half up: what a tariff does unless it says otherwise.
    pub const FEN_HALF_UP: Rounding = Rounding { places: 2, mode: RoundingMode::HalfUp };

    /// The amount under this rule; always carries `places` decimals.
    #[must_use]
    pub fn apply(self, amount: Money) -> Money {
        Money(self.apply_decimal(amount.0))
    }

    /// The same rule for a number that is not money (a power factor, a day share).
    #[must_use]
    pub fn apply_decimal(self, number: Decimal) -> Decimal {
        let strategy = match self.mode {
            RoundingMode::HalfUp => RoundingStrategy::MidpointAwayFromZero,
            RoundingMode::HalfEven => RoundingStrategy::MidpointNearestEven,
            RoundingMode::Down => RoundingStrategy::ToZero,
            RoundingMode::Up => RoundingStrategy::AwayFromZero,
        };
        let mut rounded = number.round_dp_with_strategy(self.places, strategy);
        rounded.rescale(self.places);
        rounded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rust_decimal_macros::dec;

    #[test]
    fn the_named_rules_differ_where_they_should() {
        let exact = Money::yuan(dec!(74.925));
        let cases = [
            (RoundingMode::HalfUp, "74.93"),
            (RoundingMode::HalfEven, "74.92"),
            (RoundingMode::Down, "74.92"),
            (RoundingMode::Up, "74.93"),
        ];
        for (mode, expected) in cases {
            assert_eq!(Rounding { places: 2, mode }.apply(exact).to_string(), expected, "{mode:?}");
        }
        assert_eq!(Rounding::FEN_HALF_UP.apply(Money::yuan(dec!(-0.005))).to_string(), "-0.01");
        assert_eq!(Rounding::FEN_HALF_UP.apply(Money::yuan(dec!(3))).to_string(), "3.00");
    }

    #[test]
    fn a_price_prices_only_its_own_unit() {
        let price = Price::new(dec!(1.62), Unit::CubicMetre);
        let water = Quantity::new(dec!(18), Unit::CubicMetre);
        assert_eq!(price.times(water).unwrap().to_string(), "29.16");
        let energy = Quantity::new(dec!(18), Unit::KilowattHour);
        assert_eq!(
            price.times(energy).unwrap_err().to_string(),
            "a price per m3 cannot price a quantity in kWh"
        );
    }

    proptest! {
        #[test]
        fn rounding_moves_an_amount_by_less_than_one_unit_of_the_last_place(
            mantissa in -1_000_000_000_000i64..1_000_000_000_000, scale in 0u32..9, places in 0u32..4,
        ) {
            let exact = Decimal::new(mantissa, scale);
            for mode in [RoundingMode::HalfUp, RoundingMode::HalfEven, RoundingMode::Down, RoundingMode::Up] {
                let rounded = Rounding { places, mode }.apply_decimal(exact);
                prop_assert!((rounded - exact).abs() < Decimal::new(1, places));
                prop_assert_eq!(rounded.scale(), places);
            }
        }
    }
}
