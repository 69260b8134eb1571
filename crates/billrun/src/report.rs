//! What a run did, as numbers that must balance and as a table to print.
//!
//! In: counts and sums of the run's books and cycle. Out: a report, its proofs, an exit code.
//! Never here: SQL, how accounts were billed.

use billing::Completeness;
use chrono::{DateTime, Utc};
use model::{Money, Unit};
use std::{collections::BTreeMap, fmt};
use store_postgres::ItemSum;

/// What the bills of one book are a function of (decision 10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookBasis {
    /// The book's code.
    pub book: String,
    /// Only reads stored up to here were used.
    pub cutoff: DateTime<Utc>,
    /// One hash over the rate versions that could be used.
    pub rates_hash: [u8; 32],
    /// Whether an interrupted run was taken up again, with its cutoff.
    pub resumed: bool,
}

/// What a run did. Counts and sums are those of the whole cycle, bills of earlier, interrupted
/// starts included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunReport {
    /// Name of the cycle.
    pub cycle: String,
    /// The books, and what their bills are a function of.
    pub books: Vec<BookBasis>,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Whether the run was told to stop before it was through.
    pub interrupted: bool,
    /// How the accounts ended.
    pub completeness: Completeness,
    /// Bills this start wrote (or would write); the others were there already.
    pub newly_billed: u64,
    /// Accounts put aside, by reason.
    pub held: BTreeMap<String, u64>,
    /// Accounts rightly without a bill, by reason.
    pub excused: BTreeMap<String, u64>,
    /// Sums by item and tier.
    pub items: Vec<ItemSum>,
    /// The sum of all lines.
    pub sum_of_lines: Money,
    /// The sum of all bills' totals.
    pub sum_of_bills: Money,
}

impl RunReport {
    /// Whether the books balance: active = billed + held + excused, and lines add up to bills.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.completeness.balances() && self.sum_of_lines == self.sum_of_bills
    }

    /// 0 = everybody billed or excused, 3 = some accounts wait for a person, 1 = the run did not
    /// finish or its books do not balance.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.interrupted || !self.balances() {
            1
        } else if self.completeness.held > 0 {
            3
        } else {
            0
        }
    }
}

const fn mark(right: bool) -> &'static str {
    if right { "ok" } else { "WRONG" }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Completeness { active, billed, held, excused } = self.completeness;
        let dry = if self.dry_run { "  (dry run, nothing written)" } else { "" };
        writeln!(f, "bill run   cycle {}{dry}", self.cycle)?;
        if self.interrupted {
            writeln!(f, "           INTERRUPTED: start it again to finish")?;
        }
        for basis in &self.books {
            let cutoff = basis.cutoff.format("%Y-%m-%d %H:%M:%S UTC");
            write!(f, "  book {:<10} reads stored until {cutoff}, rates ", basis.book)?;
            for byte in basis.rates_hash.iter().take(6) {
                write!(f, "{byte:02x}")?;
            }
            writeln!(f, "{}", if basis.resumed { ", resumed" } else { "" })?;
        }
        writeln!(f, "  active   {active:>9}")?;
        let before = billed.saturating_sub(self.newly_billed);
        writeln!(f, "  billed   {billed:>9}   ({} now, {before} before)", self.newly_billed)?;
        writeln!(f, "  held     {held:>9}")?;
        for (reason, count) in &self.held {
            writeln!(f, "             {count:>7}   {reason}")?;
        }
        writeln!(f, "  excused  {excused:>9}")?;
        for (reason, count) in &self.excused {
            writeln!(f, "             {count:>7}   {reason}")?;
        }
        let complete = mark(self.completeness.balances());
        writeln!(f, "  {active} = {billed} + {held} + {excused}   {complete}")?;
        writeln!(f)?;
        let [item, tier, lines, quantity, amount] = ["item", "tier", "lines", "quantity", "amount"];
        writeln!(f, "  {item:<20} {tier:>4} {lines:>9} {quantity:>22} {amount:>16}")?;
        for total in &self.items {
            let tier = total.tier.map_or_else(|| "-".to_owned(), |tier| tier.to_string());
            let (item, lines) = (&total.item, total.lines);
            let quantity = if total.quantity.unit == Unit::One {
                total.quantity.value.normalize().to_string()
            } else {
                total.quantity.to_string()
            };
            let amount = total.amount.to_string();
            writeln!(f, "  {item:<20} {tier:>4} {lines:>9} {quantity:>22} {amount:>16}")?;
        }
        let (lines, bills) = (self.sum_of_lines, self.sum_of_bills);
        let adds_up = mark(self.sum_of_lines == self.sum_of_bills);
        writeln!(f, "  sum of lines {lines} = sum of bills {bills}   {adds_up}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Quantity;
    use rust_decimal_macros::dec;

    fn report() -> RunReport {
        RunReport {
            cycle: "2026-01".to_owned(),
            books: vec![
                BookBasis {
                    book: "B1".to_owned(),
                    cutoff: "2026-02-03T04:05:06Z".parse().unwrap(),
                    rates_hash: [0xAB; 32],
                    resumed: true,
                },
                BookBasis {
                    book: "B2".to_owned(),
                    cutoff: "2026-02-03T05:05:06Z".parse().unwrap(),
                    rates_hash: [0xCD; 32],
                    resumed: false,
                },
            ],
            dry_run: false,
            interrupted: false,
            completeness: Completeness { active: 200, billed: 197, held: 2, excused: 1 },
            newly_billed: 150,
            held: BTreeMap::from([("missing_end_read".to_owned(), 2)]),
            excused: BTreeMap::from([("closed_before_cycle".to_owned(), 1)]),
            items: vec![
                ItemSum {
                    item: "water".to_owned(),
                    tier: Some(1),
                    lines: 197,
                    quantity: Quantity::new(dec!(3520.125), Unit::CubicMetre),
                    amount: Money::yuan(dec!(5702.60)),
                },
                ItemSum {
                    item: "capacity".to_owned(),
                    tier: None,
                    lines: 20,
                    quantity: Quantity::new(dec!(20), Unit::One),
                    amount: Money::yuan(dec!(300.00)),
                },
            ],
            sum_of_lines: Money::yuan(dec!(6002.60)),
            sum_of_bills: Money::yuan(dec!(6002.60)),
        }
    }

    #[test]
    fn a_report_reads_as_a_table() {
        insta::assert_snapshot!(report().to_string());
    }

    #[test]
    fn the_exit_code_says_whether_somebody_must_look() {
        let mut done = report();
        assert_eq!(done.exit_code(), 3);
        done.completeness.held = 0;
        assert_eq!(done.exit_code(), 1, "200 is not 197 + 0 + 1");
        done.completeness.billed = 199;
        assert_eq!(done.exit_code(), 0);
        done.interrupted = true;
        assert_eq!(done.exit_code(), 1);
        done.interrupted = false;
        done.sum_of_bills = Money::yuan(dec!(6002.61));
        assert_eq!(done.exit_code(), 1);
        assert!(done.to_string().contains("WRONG"));
    }
}
