//! The laws of rating, over random tariffs and usages.
//!
//! In: random blocks, usages, splits. Out: proof that splitting a period changes no sum, that more
//! usage never costs less, that lines add up, and that an independent calculator agrees.
//! Never here: golden bills.
#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests stop the test")]

use chrono::NaiveDate;
use model::{DeterminantKind, Money, Period, Quantity, Unit};
use proptest::prelude::*;
use rating::{Determinants, Rated, RatingInput, Schedule, WindowUse};
use rust_decimal::Decimal;

#[derive(Debug, Clone)]
struct Tariff {
    /// Widths of the closed blocks and their prices, in thousandths; the last price is open.
    widths: Vec<i64>,
    prices: Vec<i64>,
}

impl Tariff {
    fn schedule(&self) -> Schedule {
        let mut blocks = String::new();
        let mut end = 0;
        for (place, price) in self.prices.iter().enumerate() {
            let until = self.widths.get(place).map_or(String::new(), |width| {
                end += width;
                format!("until = \"{}\", ", Decimal::new(end, 3))
            });
            blocks.push_str(&format!("{{ {until}price = \"{}\" }},", Decimal::new(*price, 4)));
        }
        let text = format!(
            "name = \"random\"\n[[version]]\nvalid_from = \"2020-01-01\"\ndocument = \"d\"\nsource = \"s\"\n\
             usage_unit = \"m3\"\nwindow = \"year\"\n\
             [[version.item]]\nid = \"water\"\nledger_account = \"w\"\nrule = \"usage\"\nblock = [{blocks}]\n\
             [[version.item]]\nid = \"sewage\"\nledger_account = \"s\"\nrule = \"usage\"\nshare = 0.9\nprice = 1.36\n"
        );
        Schedule::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The water charge of a window's use, worked out unit of a thousandth by block, in integers:
    /// thousandths of m3 times ten-thousandths of yuan.
    fn independently(&self, used: i64) -> i128 {
        let mut rest = used;
        let mut sum = 0i128;
        for (place, price) in self.prices.iter().enumerate() {
            let here = self.widths.get(place).map_or(rest, |width| rest.min(*width));
            sum += i128::from(here) * i128::from(*price);
            rest -= here;
        }
        sum
    }
}

fn tariff() -> impl Strategy<Value = Tariff> {
    (0usize..6).prop_flat_map(|closed| {
        (
            proptest::collection::vec(1i64..300_000, closed),
            proptest::collection::vec(0i64..100_000, closed + 1),
        )
            .prop_map(|(widths, prices)| Tariff { widths, prices })
    })
}

fn day(n: i64) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 1, 1).unwrap() + chrono::Duration::days(n)
}

fn rate(schedule: &Schedule, from: i64, until: i64, usage: i64, used: Vec<WindowUse>) -> Rated {
    let service = Period::new(day(from), day(until)).unwrap();
    let usage = Quantity::new(Decimal::new(usage, 3), Unit::CubicMetre);
    let mut input =
        RatingInput::new(service, Determinants::new().with(DeterminantKind::Usage, usage));
    input.window_used = used;
    schedule.rate(&input).unwrap()
}

fn exact(rated: &Rated, item: &str) -> Decimal {
    let lines = rated.lines.iter().filter(|line| line.item_id() == item);
    lines.map(|line| line.exact.as_decimal()).sum()
}

fn water_in_integers(rated: &Rated) -> i128 {
    let scaled = exact(rated, "water") * Decimal::from(10_000_000);
    assert!(scaled.is_integer());
    scaled.normalize().mantissa()
}

proptest! {
    #[test]
    fn splitting_a_year_changes_no_sum(tariff in tariff(), usages in proptest::collection::vec(0i64..200_000, 1..12)) {
        let schedule = tariff.schedule();
        let mut used = Vec::new();
        let mut water = Decimal::ZERO;
        let mut sewage = Decimal::ZERO;
        for (month, usage) in (0i64..).zip(&usages) {
            let part = rate(&schedule, month * 28, month * 28 + 28, *usage, used.clone());
            water += exact(&part, "water");
            sewage += exact(&part, "sewage");
            used.extend(part.tier_usage);
        }
        let whole = rate(&schedule, 0, 336, usages.iter().sum(), Vec::new());
        prop_assert_eq!(water, exact(&whole, "water"));
        prop_assert_eq!(sewage, exact(&whole, "sewage"));
    }

    #[test]
    fn the_order_of_bills_in_a_window_changes_no_sum(tariff in tariff(), a in 0i64..300_000, b in 0i64..300_000) {
        let schedule = tariff.schedule();
        let sum = |first: i64, second: i64| {
            let one = rate(&schedule, 0, 30, first, Vec::new());
            let two = rate(&schedule, 30, 60, second, one.tier_usage.clone());
            exact(&one, "water") + exact(&two, "water")
        };
        prop_assert_eq!(sum(a, b), sum(b, a));
    }

    #[test]
    fn more_usage_never_costs_less(tariff in tariff(), before in 0i64..500_000, usage in 0i64..300_000, more in 0i64..300_000) {
        let schedule = tariff.schedule();
        let used = rate(&schedule, 0, 30, before, Vec::new()).tier_usage;
        let less = rate(&schedule, 30, 60, usage, used.clone());
        let greater = rate(&schedule, 30, 60, usage + more, used);
        prop_assert!(exact(&less, "water") <= exact(&greater, "water"));
    }

    #[test]
    fn taking_usage_back_sums_to_zero(tariff in tariff(), before in 0i64..500_000, usage in 1i64..300_000) {
        let schedule = tariff.schedule();
        let mut used = rate(&schedule, 0, 30, before, Vec::new()).tier_usage;
        let bill = rate(&schedule, 30, 60, usage, used.clone());
        used.extend(bill.tier_usage.iter().cloned());
        let back = rate(&schedule, 30, 60, -usage, used);
        prop_assert_eq!(bill.total.checked_add(back.total), Ok(Money::ZERO));
    }

    #[test]
    fn an_independent_calculator_agrees(tariff in tariff(), before in 0i64..500_000, usage in 0i64..500_000) {
        let schedule = tariff.schedule();
        let used = rate(&schedule, 0, 30, before, Vec::new()).tier_usage;
        let rated = rate(&schedule, 30, 60, usage, used);
        let expected = tariff.independently(before + usage) - tariff.independently(before);
        // Ten-thousandths times thousandths: seven decimals.
        prop_assert_eq!(water_in_integers(&rated), expected);
        let sum: Decimal = rated.lines.iter().map(|line| line.amount.as_decimal()).sum();
        prop_assert_eq!(sum, rated.total.as_decimal());
    }

    #[test]
    fn nothing_a_line_or_a_file_says_stops_us(text in "\\PC{0,300}") {
        let schedule = Tariff { widths: vec![], prices: vec![1] }.schedule();
        let answer = rating::ndjson::rate_line(&schedule, &text);
        let whole = serde_json::from_str::<serde_json::Value>(&answer).is_ok();
        prop_assert!(whole, "{}", answer);
        prop_assert!(Schedule::parse(&text).is_err());
    }

    #[test]
    fn numbers_of_any_size_are_answered(
        usage in "[0-9]{1,14}(\\.[0-9]{1,10})?", used in "[0-9]{1,12}(\\.[0-9]{1,9})?", from in 0i64..4_000_000, days in 1i64..90_000,
    ) {
        let schedule = Tariff { widths: vec![5, 7], prices: vec![99_999, 1, 123_456] }.schedule();
        if let (Some(from), Some(until)) = (
            day(0).checked_add_signed(chrono::Duration::days(from)),
            day(0).checked_add_signed(chrono::Duration::days(from + days)),
        ) {
            let line = format!(
                r#"{{"service":{{"from":"{from}","until":"{until}"}},"usage":{usage},"window_used":{used}}}"#
            );
            let answer = rating::ndjson::rate_line(&schedule, &line);
            let whole = serde_json::from_str::<serde_json::Value>(&answer).is_ok();
            prop_assert!(whole, "{}", answer);
        }
    }
}
