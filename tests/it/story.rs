//! The simulators' story, told in part, and what the house's books must show after it.
//!
//! In: a running house. Out: everything sent and acknowledged; the proof of the books against what
//! the simulators worked out from the litres that flowed.
//! Never here: arithmetic that the product does too.

use crate::house::{Answer, House, PATIENCE, ask, simulators, until};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, fs, ops::Range, path::PathBuf, process::Command};

/// Long past, so that both months are over whatever day it is.
const FIRST_MONTH: &str = "2025-03";

/// The days around the bounds of both months (31 and 30 days): every bill can be made from them,
/// and frames that come up to three days late are in them too.
pub(crate) const AROUND_BOUNDS: &[Range<u32>] = &[0..2, 31..35, 60..62];

/// All of it: 61 days and what comes after the last midnight.
#[expect(clippy::single_range_in_vec_init, reason = "one part, days 0 to 61")]
pub(crate) const WHOLE: &[Range<u32>] = &[0..62];

/// Part of the story.
pub(crate) struct Story {
    seed: u64,
    days: &'static [Range<u32>],
}

/// What the simulators expect.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Expected {
    pub(crate) stored: u64,
    pub(crate) duplicates: u64,
    pub(crate) rejected: BTreeMap<String, u64>,
    pub(crate) cycles: Vec<Cycle>,
    pub(crate) swaps: Vec<Swap>,
    accounts: BTreeMap<String, Vec<Owed>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Cycle {
    pub(crate) name: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Swap {
    pub(crate) account: String,
}

#[derive(Debug, Deserialize)]
struct Owed {
    cycle: String,
    amount_yuan: Decimal,
}

/// What `tidemark books --json` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Books {
    pub(crate) received: u64,
    pub(crate) stored: u64,
    pub(crate) duplicate: u64,
    pub(crate) rejected: u64,
    residue: i64,
    pub(crate) refused: BTreeMap<String, u64>,
    cycles: Vec<CycleBooks>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct CycleBooks {
    active: u64,
    billed: u64,
    held: u64,
    excused: u64,
    sum_of_lines: Decimal,
    sum_of_bills: Decimal,
}

impl Story {
    pub(crate) fn new(seed: u64, days: &'static [Range<u32>]) -> Self {
        Self { seed, days }
    }

    fn told(&self, args: &[&str]) -> Command {
        let mut command = simulators(args);
        command.args(["--seed", &self.seed.to_string(), "--first-month", FIRST_MONTH]);
        command
    }

    /// Writes the registry and imports it.
    pub(crate) fn seed(&self, house: &House) {
        let fleet = house.scratch.path().join("fleet.json");
        ask(self.told(&["fleet"]).arg("--out").arg(&fleet)).ended(&[0]);
        house.errand(&["registry", "import", fleet.to_str().unwrap()]);
    }

    /// The commands that play it, in order, each with the file it writes its expectations to.
    pub(crate) fn plays(&self, house: &House) -> Vec<(Command, PathBuf)> {
        let (coap, mqtt) = (house.up.fact("coap"), house.up.fact("mqtt"));
        let play = |days: &Range<u32>| {
            let file = house.scratch.path().join(format!("expect-{}.json", days.start));
            let (from, until) = (days.start.to_string(), days.end.to_string());
            let mut command = self.told(&["play", "--coap", &coap, "--mqtt", &mqtt]);
            command.args(["--from", &from, "--until", &until, "--expect"]).arg(&file);
            (command, file)
        };
        self.days.iter().map(play).collect()
    }

    /// Plays it to its end.
    pub(crate) fn play(&self, house: &House) -> Expected {
        let mut expected = Expected::default();
        for (mut command, file) in self.plays(house) {
            let played = ask(&mut command).ended(&[0]);
            eprintln!("played: {}", played.trim());
            expected.add(&file);
        }
        expected
    }
}

impl Expected {
    /// Adds what part of the story must leave; bills are those of the whole.
    pub(crate) fn add(&mut self, file: &PathBuf) {
        let part: Self = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        self.stored += part.stored;
        self.duplicates += part.duplicates;
        for (reason, count) in part.rejected {
            *self.rejected.entry(reason).or_default() += count;
        }
        (self.cycles, self.swaps, self.accounts) = (part.cycles, part.swaps, part.accounts);
    }

    fn rejected_in_all(&self) -> u64 {
        self.rejected.values().sum()
    }
}

/// The books, which must balance.
pub(crate) fn books(house: &House) -> Books {
    let answer: Answer = ask(&mut house.tidemark(&["books", "--json"]));
    let books: Books = serde_json::from_str(&answer.out).unwrap_or_else(|_| panic!("{answer:#?}"));
    assert_eq!((books.residue, answer.code), (0, Some(0)), "{books:#?}");
    assert_eq!(books.received, books.stored + books.duplicate + books.rejected);
    books
}

/// Waits until everything sent has come to its end; then nothing is missing, nothing too much.
/// Copies and repeated refusals may be more when connections were cut on the way.
pub(crate) fn settled(house: &House, expected: &Expected) -> Books {
    let books = until("everything sent is stored or refused", PATIENCE, || {
        // A role may be starting again, and a database with it.
        let answer = ask(&mut house.tidemark(&["books", "--json"]));
        let books: Books = serde_json::from_str(&answer.out).ok()?;
        let all = books.stored >= expected.stored && books.rejected >= expected.rejected_in_all();
        (all && books.duplicate >= expected.duplicates).then_some(books)
    });
    assert_eq!(books.stored, expected.stored);
    assert_eq!(books.residue, 0);
    for (reason, count) in &expected.rejected {
        assert!(books.refused.get(reason) >= Some(count), "{reason}: {:?}", books.refused);
    }
    for reason in books.refused.keys() {
        assert!(expected.rejected.contains_key(reason), "nobody sent a {reason}");
    }
    books
}

/// Bills one cycle; nobody may be held.
pub(crate) fn bill(house: &House, cycle: &str) -> Value {
    let printed = house.errand(&["bill", "run", "--cycle", cycle, "--json"]);
    serde_json::from_str(&printed).unwrap()
}

/// Every bill of a cycle as it is shown, one line each.
pub(crate) fn bills(house: &House, cycle: &str) -> Vec<String> {
    let printed = house.errand(&["bill", "show", "--cycle", cycle, "--json"]);
    printed.lines().map(str::to_owned).collect()
}

/// Every account has its one bill in every cycle, right to the fen, and the books say so.
pub(crate) fn bills_are_right(house: &House, expected: &Expected) {
    for cycle in &expected.cycles {
        let mut seen = BTreeMap::new();
        for line in bills(house, &cycle.name) {
            let bill: Value = serde_json::from_str(&line).unwrap();
            let total: Decimal = bill["total"].as_str().unwrap().parse().unwrap();
            let before = seen.insert(bill["account"].as_str().unwrap().to_owned(), total);
            assert_eq!(before, None, "billed twice: {line}");
        }
        for (account, owed) in &expected.accounts {
            let owed = owed.iter().find(|owed| owed.cycle == cycle.name).unwrap();
            assert_eq!(seen.get(account), Some(&owed.amount_yuan), "{account} {}", cycle.name);
        }
        assert_eq!(seen.len(), expected.accounts.len());
    }
    for cycle in books(house).cycles {
        assert!(cycle.billed > 0, "{cycle:?}");
        assert_eq!(cycle.active, cycle.billed + cycle.held + cycle.excused, "{cycle:?}");
        assert_eq!(cycle.sum_of_lines, cycle.sum_of_bills, "{cycle:?}");
    }
}
