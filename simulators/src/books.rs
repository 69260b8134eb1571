//! What the books must show afterwards, worked out from the litres alone.
//!
//! In: the utility, the days played. Out: how many uplinks end how, what every meter shows at each
//! cycle's bounds, what every account used and owes.
//! Never here: codecs, rating, determinants: what is checked does not check itself.

use crate::{
    plan::{Occasion, Plan, What},
    registry::cycle_name,
    utility::{Account, Class, Meter, Utility, Way},
};
use chrono::{DateTime, NaiveDate, Utc};
use model::{Money, Rounding};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ops::Range};

/// What must be found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// The seed all follows from.
    pub seed: u64,
    /// The cycles of every book.
    pub cycles: Vec<Cycle>,
    /// Uplinks that must end as stored.
    pub stored: u64,
    /// The same by the way they take.
    pub stored_by_way: BTreeMap<String, u64>,
    /// Uplinks that must end as duplicates; more of them when connections were lost on the way.
    pub duplicates: u64,
    /// Repeated CoAP exchanges, which the gateway answers from memory; after its restart some
    /// reach the books as duplicates.
    pub repeated_exchanges: u64,
    /// Uplinks that must end as rejected, by the code of the reason; more of them when
    /// connections were lost on the way.
    pub rejected: BTreeMap<String, u64>,
    /// What each meter shows at the bounds of the cycles, in counts of its register; null while
    /// it is not installed.
    pub meters: BTreeMap<String, Vec<Option<u64>>>,
    /// The power of ten of each meter's count, in m3.
    pub register_exponents: BTreeMap<String, i8>,
    /// Meters replaced on the way.
    pub swaps: Vec<SwapExpected>,
    /// Meters that pass their last digit on the way.
    pub rollovers: Vec<String>,
    /// What each account uses and owes, cycle by cycle.
    pub accounts: BTreeMap<String, Vec<Owed>>,
    /// All accounts together, cycle by cycle.
    pub totals: Vec<Owed>,
}

/// A cycle of every book; `until` is outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cycle {
    /// Its name.
    pub name: String,
    /// Its first day.
    pub from: NaiveDate,
    /// The day after its last one.
    pub until: NaiveDate,
}

/// What an account uses and owes for a cycle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// The cycle.
    pub cycle: String,
    /// Usage.
    pub usage_m3: Decimal,
    /// All items together.
    pub amount_yuan: Money,
}

/// A meter replaced by another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapExpected {
    /// Whose.
    pub account: String,
    /// The one taken out.
    pub old_meter: String,
    /// The one put in.
    pub new_meter: String,
    /// When.
    pub at: DateTime<Utc>,
    /// What the old one showed.
    pub old_closing_count: u64,
    /// What the new one showed.
    pub new_opening_count: u64,
}

/// What must be found after `days` of the story were played; bounds, usage and bills are those of
/// the whole story.
#[must_use]
pub fn expected(utility: &Utility, days: Range<usize>) -> Expected {
    let plan = Plan::new(utility);
    let mut expected = Expected {
        seed: utility.seed,
        cycles: cycles(utility),
        stored: 0,
        stored_by_way: BTreeMap::new(),
        duplicates: 0,
        repeated_exchanges: 0,
        rejected: BTreeMap::new(),
        meters: BTreeMap::new(),
        register_exponents: BTreeMap::new(),
        swaps: swaps(utility),
        rollovers: Vec::new(),
        accounts: BTreeMap::new(),
        totals: Vec::new(),
    };
    for sending in plan.on(days) {
        expected.count(utility, sending.what);
    }
    let bounds = utility.months.bound_hours();
    for meter in &utility.meters {
        let counts = bounds.iter().map(|hour| meter.count_at(*hour)).collect();
        expected.meters.insert(meter.number.clone(), counts);
        expected.register_exponents.insert(meter.number.clone(), meter.way.exponent());
        if meter.rolls_over() {
            expected.rollovers.push(meter.number.clone());
        }
    }
    for (place, account) in utility.accounts.iter().enumerate() {
        expected.accounts.insert(account.number.clone(), owed(utility, place, account));
    }
    expected.totals = totals(&expected);
    expected
}

impl Expected {
    fn count(&mut self, utility: &Utility, what: What) {
        let way = what
            .meter()
            .and_then(|index| usize::try_from(index).ok())
            .and_then(|index| utility.meters.get(index))
            .map(|meter| meter.way);
        let reason = match (what, way) {
            (What::Frame { occasion: Occasion::First, .. }, Some(way)) => {
                self.stored += 1;
                *self.stored_by_way.entry(way.name().to_owned()).or_default() += 1;
                return;
            }
            (What::Frame { occasion: Occasion::SameExchange, .. }, _) => {
                self.repeated_exchanges += 1;
                return;
            }
            (What::Frame { .. }, _) => {
                self.duplicates += 1;
                return;
            }
            (What::Forged { .. }, Some(Way::CoapNative | Way::ChirpStackNative)) => "seal_mismatch",
            (What::Forged { .. }, Some(Way::RawNative | Way::RawCjt188)) => "mic_mismatch",
            (What::Forged { .. }, _) => "checksum_mismatch",
            (What::Stranger { .. }, _) => "unknown_device",
            (What::Garbage { .. }, _) => "malformed_json",
        };
        *self.rejected.entry(reason.to_owned()).or_default() += 1;
    }
}

fn cycles(utility: &Utility) -> Vec<Cycle> {
    let [first, second, end] = utility.months.bounds();
    [(first, second), (second, end)]
        .map(|(from, until)| Cycle { name: cycle_name(from), from, until })
        .to_vec()
}

fn swaps(utility: &Utility) -> Vec<SwapExpected> {
    let swap = utility.swap;
    let (Some(account), Some(old), Some(new)) = (
        utility.accounts.get(swap.account),
        utility.meters.get(swap.old),
        utility.meters.get(swap.new),
    ) else {
        return Vec::new();
    };
    vec![SwapExpected {
        account: account.number.clone(),
        old_meter: old.number.clone(),
        new_meter: new.number.clone(),
        at: utility.months.instant(swap.hour),
        old_closing_count: old.count_at(swap.hour).unwrap_or_default(),
        new_opening_count: new.count_at(swap.hour).unwrap_or_default(),
    }]
}

fn owed(utility: &Utility, place: usize, account: &Account) -> Vec<Owed> {
    let [first, second, end] = utility.months.bound_hours();
    cycles(utility)
        .into_iter()
        .zip([(first, second), (second, end)])
        .map(|(cycle, (from, to))| {
            let meters = utility.meters.iter().filter(|meter| meter.account == place);
            let usage_m3 = meters.filter_map(|meter| usage_m3(meter, from, to)).sum();
            Owed { cycle: cycle.name, usage_m3, amount_yuan: amount(account, usage_m3) }
        })
        .collect()
}

/// What passed through a meter between two hours, as far as it was installed.
fn usage_m3(meter: &Meter, from: u32, to: u32) -> Option<Decimal> {
    let (from, to) = (from.max(meter.from), to.min(meter.last));
    if from >= to {
        return None;
    }
    let counts = i64::try_from(meter.usage_counts(from, to)?).ok()?;
    Some(Decimal::new(counts, u32::from(meter.way.exponent().unsigned_abs())))
}

/// The bill: every line rounded to the fen, half up, then added.
fn amount(account: &Account, usage: Decimal) -> Money {
    let line = |quantity: Decimal, fen: i64| {
        Rounding::FEN_HALF_UP.apply(Money::yuan(quantity * Decimal::new(fen, 2)))
    };
    let lines = match account.class {
        Class::Household { persons } => {
            // Jingmen 2011: 20 and 25 m3 a month, from five people on 5 and 6.25 m3 a head.
            let (first, second) = match persons {
                0..=4 => (Decimal::from(20), Decimal::from(25)),
                heads => {
                    let heads = Decimal::from(heads);
                    (heads * Decimal::from(5), heads * Decimal::new(625, 2))
                }
            };
            let within = |from: Decimal, to: Decimal| (usage.min(to) - from).max(Decimal::ZERO);
            vec![
                line(within(Decimal::ZERO, first), 162),
                line(within(first, second), 243),
                line(within(second, Decimal::MAX), 324),
            ]
        }
        Class::Business => {
            let capacity = match account.calibre_mm {
                0..=15 => 600,
                16..=20 => 1_000,
                21..=25 => 1_600,
                26..=40 => 4_200,
                41..=50 => 6_600,
                51..=80 => 17_000,
                _ => 26_500,
            };
            vec![line(Decimal::ONE, capacity), line(usage, 180), line(usage, 140)]
        }
    };
    Money::checked_sum(lines).unwrap_or(Money::ZERO)
}

fn totals(expected: &Expected) -> Vec<Owed> {
    let of = |cycle: &Cycle| {
        let owed = expected.accounts.values().flatten().filter(|owed| owed.cycle == cycle.name);
        Owed {
            cycle: cycle.name.clone(),
            usage_m3: owed.clone().map(|owed| owed.usage_m3).sum(),
            amount_yuan: Money::checked_sum(owed.map(|owed| owed.amount_yuan))
                .unwrap_or(Money::ZERO),
        }
    };
    expected.cycles.iter().map(of).collect()
}
