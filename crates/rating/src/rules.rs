//! The rules of a version in the form rating runs on.
//!
//! In: nothing. Out: plain data with every reference resolved and every number exact.
//! Never here: the words of the file (see `read_items`), arithmetic (see `rate`).

use crate::{line::ItemFacts, window::Window};
use model::{DeterminantKind, Rounding, Unit};
use rust_decimal::Decimal;
use std::{num::NonZeroU32, sync::Arc};

/// One charge item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) facts: Arc<ItemFacts>,
    /// Whom the item is for; others do not get it.
    pub(crate) when: When,
    pub(crate) rounding: Rounding,
    /// Whether the item's sum is rounded once, with a line for the difference.
    pub(crate) rounded_once: bool,
    pub(crate) rule: Rule,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rule {
    Usage(UsageRule),
    TimeOfUse(TimeOfUseRule),
    Standing(StandingRule),
    MixedUse(MixedUseRule),
    Percentage(PercentageRule),
    PowerFactor(PowerFactorRule),
    Minimum { amount: Decimal, of: Vec<usize>, per: Per },
}

/// For which customers and days something holds; an empty one always holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct When {
    pub(crate) persons_from: Option<Decimal>,
    pub(crate) persons_until: Option<Decimal>,
    /// Any of these classes.
    pub(crate) class: Vec<String>,
    /// None of these classes.
    pub(crate) unless_class: Vec<String>,
    /// Any of these calibres of the meter, in mm.
    pub(crate) calibre: Vec<Decimal>,
    /// Calendar months 1 to 12; empty is all year.
    pub(crate) months: Vec<u32>,
}

impl When {
    /// Whether it holds for everybody on every day.
    pub(crate) fn is_always(&self) -> bool {
        *self == When::default()
    }
}

/// Usage times prices: one price, or blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UsageRule {
    pub(crate) of: DeterminantKind,
    pub(crate) unit: Unit,
    /// The share of the usage that is charged (sewage at 0.9 of the water).
    pub(crate) share: Option<Decimal>,
    /// The least that is charged per bill (保底).
    pub(crate) at_least: Option<Decimal>,
    /// The most that is charged per bill.
    pub(crate) at_most: Option<Decimal>,
    /// Where blocks begin anew; `None` when no case has blocks.
    pub(crate) window: Option<Window>,
    /// The first that fits is used.
    pub(crate) cases: Vec<UsageCase>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UsageCase {
    pub(crate) when: When,
    pub(crate) scale: Scale,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scale {
    Flat(Decimal),
    /// Two or more, in order, without gaps; only the last has no end.
    Blocks(Vec<Block>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) until: Option<Bound>,
    pub(crate) price: Decimal,
}

/// Where a block ends, possibly depending on the household.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) fixed: Decimal,
    /// Added: `factor × max(0, determinant − over)`.
    pub(crate) terms: Vec<Term>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) kind: DeterminantKind,
    pub(crate) unit: Unit,
    pub(crate) over: Decimal,
    pub(crate) factor: Decimal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimeOfUseRule {
    pub(crate) unit: Unit,
    pub(crate) prices: Vec<(DeterminantKind, Decimal)>,
}

/// Due whether or not anything is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StandingRule {
    /// What the price is multiplied with; empty is once.
    pub(crate) of: Vec<(DeterminantKind, Unit)>,
    /// The unit of the product.
    pub(crate) unit: Unit,
    pub(crate) per: Per,
    pub(crate) cases: Vec<(When, StandingPrice)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StandingPrice {
    One(Decimal),
    /// Calibre in mm and its price.
    ByCalibre(Vec<(Decimal, Decimal)>),
}

/// How often a standing part is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Per {
    Bill,
    Day,
    /// Every so many months (12 is a year).
    Months {
        months: NonZeroU32,
        part: PartPeriod,
    },
}

/// What a period that is no whole number of months pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PartPeriod {
    /// Days over the days of the very month (year).
    Calendar,
    /// Days over so many days; whole months stay whole.
    Days(NonZeroU32),
    /// A begun one counts as a whole one.
    Whole,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MixedUseRule {
    pub(crate) of: DeterminantKind,
    pub(crate) unit: Unit,
    /// How a share is rounded; the last share takes what is left.
    pub(crate) places: Rounding,
    pub(crate) fixed: Vec<MixedPart>,
    pub(crate) shares: Vec<MixedPart>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MixedPart {
    /// Its place in the file, from 1.
    pub(crate) number: u8,
    /// A quantity, or percent of the rest.
    pub(crate) amount: Decimal,
    pub(crate) price: Decimal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PercentageRule {
    pub(crate) percent: Decimal,
    pub(crate) of: Vec<usize>,
    /// Only the lines of this block.
    pub(crate) of_block: Option<u8>,
    /// Of the unrounded amounts.
    pub(crate) of_exact: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PowerFactorRule {
    pub(crate) of: Vec<usize>,
    /// Taken out of the base: price per unit of usage (government funds).
    pub(crate) less_per_unit: Decimal,
    pub(crate) active_unit: Unit,
    pub(crate) reactive_unit: Unit,
    pub(crate) rows: Vec<PowerFactorRow>,
}

/// From this factor (in hundredths) until the next row begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PowerFactorRow {
    pub(crate) from_hundredths: u8,
    pub(crate) percent: Decimal,
    /// Added for every hundredth above `from_hundredths`.
    pub(crate) per_hundredth: Decimal,
}
