//! What rating answers: charge lines with their working, their sum, what goes to the tier ledger.
//!
//! In: results of the rules. Out: values to store, print and post.
//! Never here: how amounts come about (see `rate`), bill numbers.

use crate::WindowUse;
use chrono::NaiveDate;
use model::{Money, Period, Price, Quantity, Unit};
use std::{fmt, sync::Arc};

/// What all lines of one charge item share; one allocation per item of a version.
#[derive(Debug, PartialEq, Eq)]
pub struct ItemFacts {
    /// The id in the schedule: `water`. Tier ledger rows carry it.
    pub id: Arc<str>,
    /// Where the money is posted: `revenue.water`, `agency.sewage` (R037).
    pub ledger_account: String,
    /// Whether the money is collected for somebody else (代征).
    pub agency: bool,
    /// The Chinese label on the bill.
    pub label_zh: String,
    /// The English label on the bill.
    pub label_en: String,
    /// The word for the currency in workings.
    pub currency: String,
}

/// Which rule of its item made a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Clause {
    /// One price for every unit.
    Flat,
    /// A block (tier); numbers count from 1.
    Block {
        /// Which block.
        number: u8,
        /// Of how many.
        of: u8,
    },
    /// Usage that stands outside the blocks.
    OutsideBlocks,
    /// The price of a time of use.
    TimeOfUse(model::DeterminantKind),
    /// A standing or capacity part: due without any usage.
    Standing,
    /// A part of a mixed use that has a fixed quantity.
    MixedFixed {
        /// Which part, from 1.
        number: u8,
    },
    /// A part of a mixed use that has a share of the rest.
    MixedShare {
        /// Which part, from 1.
        number: u8,
    },
    /// A percentage of other items.
    Percentage,
    /// The power-factor adjustment; the factor it was looked up with, in hundredths.
    PowerFactor {
        /// 91 for 0.91.
        hundredths: u8,
    },
    /// What lifts the sum of items to a minimum.
    Minimum,
    /// What makes lines rounded one by one add up to a sum rounded once.
    RoundingDifference,
}

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Clause::Flat => f.write_str("flat price"),
            Clause::Block { number, of } => write!(f, "block {number} of {of}"),
            Clause::OutsideBlocks => f.write_str("outside the blocks"),
            Clause::TimeOfUse(kind) => {
                write!(f, "time of use {}", kind.name().trim_start_matches("usage_"))
            }
            Clause::Standing => f.write_str("standing part"),
            Clause::MixedFixed { number } => write!(f, "mixed use part {number}, fixed quantity"),
            Clause::MixedShare { number } => write!(f, "mixed use part {number}, share"),
            Clause::Percentage => f.write_str("percentage of other items"),
            Clause::PowerFactor { hundredths } => {
                write!(f, "power factor {}.{:02}", hundredths / 100, hundredths % 100)
            }
            Clause::Minimum => f.write_str("minimum charge"),
            Clause::RoundingDifference => f.write_str("rounding difference"),
        }
    }
}

/// A share of whole pricing periods, as an exact fraction: `18/30` of a month, `90/365` of a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Proration {
    /// Days (or whole periods).
    pub numerator: u32,
    /// Days that make one whole period; never 0.
    pub denominator: std::num::NonZeroU32,
}

impl Proration {
    /// One whole period.
    pub const WHOLE: Proration = Proration { numerator: 1, denominator: std::num::NonZeroU32::MIN };

    /// Whether it is exactly one period.
    #[must_use]
    pub const fn is_whole(self) -> bool {
        self.numerator == self.denominator.get()
    }
}

impl fmt::Display for Proration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.denominator.get() == 1 {
            write!(f, "{}", self.numerator)
        } else {
            write!(f, "{}/{}", self.numerator, self.denominator)
        }
    }
}

/// One priced item of a bill (计费明细), with everything needed to recompute it.
///
/// `exact = quantity × price × proration`; `amount` is `exact` under the schedule's rounding rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeLine {
    /// The item: id, ledger account, labels.
    pub item: Arc<ItemFacts>,
    /// Which of the item's rules.
    pub clause: Clause,
    /// How much was priced.
    pub quantity: Quantity,
    /// What one unit costs.
    pub price: Price,
    /// The share of pricing periods, for standing parts.
    pub proration: Proration,
    /// The unrounded product.
    pub exact: Money,
    /// The rounded product: what is billed.
    pub amount: Money,
    /// The block (tier) number from 1, where there is one (R042).
    pub tier: Option<u8>,
    /// The days of service the line is for.
    pub service: Period,
    /// The first day of the rate version that made the line: with the schedule's name it
    /// identifies the version (R004).
    pub version_from: NaiveDate,
}

impl ChargeLine {
    /// The item's id in the schedule.
    #[must_use]
    pub fn item_id(&self) -> &str {
        &self.item.id
    }

    /// Where the money is posted.
    #[must_use]
    pub fn ledger_account(&self) -> &str {
        &self.item.ledger_account
    }

    /// The Chinese label.
    #[must_use]
    pub fn label_zh(&self) -> &str {
        &self.item.label_zh
    }

    /// The English label.
    #[must_use]
    pub fn label_en(&self) -> &str {
        &self.item.label_en
    }

    /// One line a customer can check with a pocket calculator:
    /// `20 m3 × 1.62 yuan/m3 = 32.40`. Rendered only when asked for.
    #[must_use]
    pub const fn working(&self) -> Working<'_> {
        Working(self)
    }
}

/// The working of a charge line, rendered by `Display`.
#[derive(Debug, Clone, Copy)]
pub struct Working<'a>(&'a ChargeLine);

impl fmt::Display for Working<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.0;
        let currency = &line.item.currency;
        if line.clause == Clause::RoundingDifference {
            return write!(f, "rounding difference {}", line.amount);
        }
        if line.price.per == Unit::Percent {
            // The price of one percent of a base: show the base.
            let base = line.price.yuan.checked_mul(rust_decimal::Decimal::ONE_HUNDRED);
            let base = base.unwrap_or(line.price.yuan).normalize();
            write!(f, "{} % of {base} {currency}", line.quantity.value.normalize())?;
        } else if line.quantity.unit == Unit::One {
            write!(f, "{} × {} {currency}", line.quantity.value.normalize(), line.price.yuan)?;
        } else {
            write!(f, "{} × {} {currency}/{}", line.quantity, line.price.yuan, line.price.per)?;
        }
        if !line.proration.is_whole() {
            write!(f, " × {}", line.proration)?;
        }
        if line.exact == line.amount {
            write!(f, " = {}", line.amount)
        } else {
            // A third of something has no end; six decimals show which way it is rounded.
            let exact = line.exact.as_decimal().normalize();
            let shown = exact.trunc_with_scale(6);
            let more = if shown == exact { "" } else { "…" };
            write!(f, " = {}{more} → {}", shown.normalize(), line.amount)
        }
    }
}

/// The answer: lines in the order of the schedule, their sum, what to append to the tier ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rated {
    /// The charge lines; their amounts add up to `total`.
    pub lines: Vec<ChargeLine>,
    /// The sum of the lines' amounts.
    pub total: Money,
    /// What this period used of each item's windows.
    pub tier_usage: Vec<WindowUse>,
}
