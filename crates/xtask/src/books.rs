//! The proof of the demo: what the house's books say against what the simulators know.
//!
//! In: `tidemark books --json`, `tidemark bill show --json`, the simulators' expectations. Out:
//! what was proven, line by line, or the first thing that is wrong.
//! Never here: arithmetic that the product does too; the expectations were worked out from the
//! litres that flowed, without the product's codecs, determinants or rating.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::{collections::BTreeMap, fs, path::Path};

/// What `tidemark books --json` prints.
#[derive(Debug, Deserialize)]
pub(crate) struct Books {
    pub(crate) received: u64,
    pub(crate) stored: u64,
    pub(crate) duplicate: u64,
    pub(crate) rejected: u64,
    pub(crate) refused: BTreeMap<String, u64>,
    cycles: Vec<CycleBooks>,
}

#[derive(Debug, Deserialize)]
struct CycleBooks {
    book: String,
    cycle: String,
    active: u64,
    billed: u64,
    held: u64,
    excused: u64,
    sum_of_lines: String,
    sum_of_bills: String,
}

/// One line of `tidemark bill show --json`.
#[derive(Debug, Deserialize)]
pub(crate) struct ShownBill {
    account: String,
    cycle: String,
    total: String,
    segments: Vec<ShownSegment>,
}

#[derive(Debug, Deserialize)]
struct ShownSegment {
    reads: Vec<ShownReads>,
}

#[derive(Debug, Deserialize)]
struct ShownReads {
    meter: Option<String>,
    start: ShownRead,
    end: ShownRead,
    rolled_over: bool,
}

#[derive(Debug, Deserialize)]
struct ShownRead {
    count: i64,
}

/// What the simulators say must be found.
#[derive(Debug, Deserialize)]
pub(crate) struct Expected {
    pub(crate) cycles: Vec<ExpectedCycle>,
    pub(crate) stored: u64,
    duplicates: u64,
    pub(crate) rejected: BTreeMap<String, u64>,
    meters: BTreeMap<String, Vec<Option<u64>>>,
    swaps: Vec<Swap>,
    rollovers: Vec<String>,
    accounts: BTreeMap<String, Vec<Owed>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ExpectedCycle {
    pub(crate) name: String,
}

#[derive(Debug, Deserialize)]
struct Swap {
    account: String,
    old_meter: String,
    new_meter: String,
}

#[derive(Debug, Deserialize)]
struct Owed {
    cycle: String,
    amount_yuan: String,
}

impl Expected {
    /// Uplinks that must end as rejected.
    pub(crate) fn rejected_in_all(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// The account whose bill has the most to explain: a meter was swapped.
    pub(crate) fn account_to_explain(&self) -> Option<&str> {
        self.swaps.first().map(|swap| swap.account.as_str())
    }
}

/// The simulators' expectations.
pub(crate) fn expected(file: &Path) -> Result<Expected> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("understand {}", file.display()))
}

/// The bills `tidemark bill show --json` printed.
pub(crate) fn bills(printed: &str) -> Result<Vec<ShownBill>> {
    printed
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("a bill: {line}")))
        .collect()
}

/// `received = stored + duplicate + rejected`.
pub(crate) fn balanced(books: &Books) -> Result<String> {
    let Books { received, stored, duplicate, rejected, .. } = books;
    ensure!(
        *received == stored + duplicate + rejected,
        "received {received} is not stored {stored} + duplicate {duplicate} + rejected {rejected}"
    );
    Ok(format!(
        "received {received} = stored {stored} + duplicate {duplicate} + rejected {rejected}"
    ))
}

/// Everything the demo promises, proven; an error names the first thing that is not so.
pub(crate) fn prove(
    books: &Books,
    expected: &Expected,
    bills: &[ShownBill],
) -> Result<Vec<String>> {
    Ok(vec![
        balanced(books)?,
        every_uplink_ended_as_it_must(books, expected)?,
        nobody_is_forgotten(books)?,
        lines_add_up(books)?,
        bills_rest_on_the_right_reads(bills, expected)?,
        bills_say_what_is_owed(bills, expected)?,
    ])
}

fn every_uplink_ended_as_it_must(books: &Books, expected: &Expected) -> Result<String> {
    ensure!(
        books.stored == expected.stored,
        "{} uplinks are stored, {} should be",
        books.stored,
        expected.stored
    );
    // A sender that lost its connection sends again: more copies are fine, fewer are not.
    ensure!(
        books.duplicate >= expected.duplicates,
        "{} duplicates were recognised, at least {} should be",
        books.duplicate,
        expected.duplicates
    );
    for (reason, count) in &expected.rejected {
        let found = books.refused.get(reason).copied().unwrap_or(0);
        ensure!(found >= *count, "{found} uplinks refused as {reason}, {count} should be");
    }
    for reason in books.refused.keys() {
        ensure!(expected.rejected.contains_key(reason), "refused as {reason}: nobody sent such");
    }
    let reasons: Vec<_> = expected.rejected.iter().map(|(r, n)| format!("{n} {r}")).collect();
    Ok(format!("every uplink sent ended as it must; refused: {}", reasons.join(", ")))
}

fn nobody_is_forgotten(books: &Books) -> Result<String> {
    let mut proven = Vec::new();
    for CycleBooks { book, cycle, active, billed, held, excused, .. } in &books.cycles {
        ensure!(
            *active == billed + held + excused,
            "{book} {cycle}: active {active} is not billed {billed} + held {held} + excused {excused}"
        );
        proven.push(format!("{book} {cycle} {active} = {billed} + {held} + {excused}"));
    }
    ensure!(!proven.is_empty(), "no cycle was billed");
    Ok(format!("active = billed + held + excused: {}", proven.join(", ")))
}

fn lines_add_up(books: &Books) -> Result<String> {
    let mut sums = Vec::new();
    for CycleBooks { book, cycle, sum_of_lines, sum_of_bills, .. } in &books.cycles {
        ensure!(
            same_amount(sum_of_lines, sum_of_bills),
            "{book} {cycle}: lines come to {sum_of_lines}, bills to {sum_of_bills}"
        );
        sums.push(sum_of_bills.as_str());
    }
    Ok(format!("lines add up to bills: {} yuan", sums.join(", ")))
}

fn bills_rest_on_the_right_reads(bills: &[ShownBill], expected: &Expected) -> Result<String> {
    let mut checked = 0_u64;
    let mut rolled_over = 0_usize;
    let mut swapped = 0_usize;
    for bill in bills {
        let place = expected
            .cycles
            .iter()
            .position(|cycle| cycle.name == bill.cycle)
            .with_context(|| format!("cycle {}", bill.cycle))?;
        for reads in bill.segments.iter().flat_map(|segment| &segment.reads) {
            let meter = reads.meter.as_deref().context("the number of a billed meter")?;
            let bounds = expected
                .meters
                .get(meter)
                .with_context(|| format!("bill of {} names meter {meter}", bill.account))?;
            for (shown, bound) in [(&reads.start, place), (&reads.end, place + 1)] {
                // None: the meter was put in or taken out between the bounds.
                let Some(Some(count)) = bounds.get(bound) else { continue };
                ensure!(
                    i64::try_from(*count).is_ok_and(|count| count == shown.count),
                    "bill of {}: meter {meter} showed {count}, the bill says {}",
                    bill.account,
                    shown.count
                );
                checked += 1;
            }
            rolled_over += usize::from(reads.rolled_over);
            swapped += usize::from(expected.swaps.iter().any(|swap| {
                swap.account == bill.account && (swap.old_meter == meter || swap.new_meter == meter)
            }));
        }
    }
    ensure!(checked > 0, "no bill rests on a read");
    ensure!(
        rolled_over >= expected.rollovers.len(),
        "{rolled_over} rollovers were billed, {} meters rolled over",
        expected.rollovers.len()
    );
    ensure!(swapped > 0 || expected.swaps.is_empty(), "no bill shows the swapped meter");
    Ok(format!(
        "{checked} counts on bills are what the meters showed; {rolled_over} rollover(s), {} swap(s)",
        expected.swaps.len()
    ))
}

fn bills_say_what_is_owed(bills: &[ShownBill], expected: &Expected) -> Result<String> {
    let mut checked = 0_u64;
    for bill in bills {
        let owed = expected
            .accounts
            .get(&bill.account)
            .and_then(|cycles| cycles.iter().find(|owed| owed.cycle == bill.cycle));
        let Some(owed) = owed else {
            bail!("account {} owes nothing in {}, yet has a bill", bill.account, bill.cycle);
        };
        ensure!(
            same_amount(&owed.amount_yuan, &bill.total),
            "account {} owes {} in {}, the bill says {}",
            bill.account,
            owed.amount_yuan,
            bill.cycle,
            bill.total
        );
        checked += 1;
    }
    Ok(format!("{checked} bills say to the fen what the water that flowed costs"))
}

/// Whether two amounts are the same, however many zeros stand at their ends.
fn same_amount(left: &str, right: &str) -> bool {
    fn bare(amount: &str) -> &str {
        if amount.contains('.') {
            amount.trim_end_matches('0').trim_end_matches('.')
        } else {
            amount
        }
    }
    bare(left) == bare(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_compared_by_value() {
        assert!(
            same_amount("29.10", "29.1") && same_amount("3", "3.00") && same_amount("0", "0.0")
        );
        assert!(!same_amount("29.1", "29.01") && !same_amount("10", "1"));
    }
}
