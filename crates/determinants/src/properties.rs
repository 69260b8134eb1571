//! Laws of usage, tried on made-up meters.
//!
//! In: random increments, cuts, swaps. Out: proof or a counterexample. Never here: worked cases.

use crate::{
    fixtures::{at, question, read, segment},
    usage,
};
use proptest::prelude::*;
use rust_decimal::Decimal;

const DIGITS: u8 = 5;
const WRAPS_AT: i64 = 100_000;

/// Hourly reads of a five-digit register that starts anywhere and may roll over.
fn reads(meter: u32, first: i64, increments: &[i64]) -> Vec<crate::CandidateRead> {
    let mut count = first;
    let mut all = vec![read(meter, 0, count)];
    for (hour, increment) in (1..).zip(increments) {
        count = (count + increment) % WRAPS_AT;
        all.push(read(meter, hour, count));
    }
    all
}

proptest! {
    #[test]
    fn splitting_the_period_never_changes_the_sum(
        first in 0..WRAPS_AT,
        increments in proptest::collection::vec(0i64..200, 3..200),
        cut in any::<proptest::sample::Index>(),
        gaps in proptest::collection::vec(any::<bool>(), 200),
    ) {
        let hours = i64::try_from(increments.len()).unwrap();
        let cut = i64::try_from(cut.index(increments.len() - 1)).unwrap() + 1;
        let mut meter = segment(1, -10, None);
        meter.digits = DIGITS;
        let mut asked = question(0, hours, vec![meter]);
        // Some reads never arrived; the ones at the outer bounds did.
        let all = reads(1, first, &increments);
        let last = all.len() - 1;
        asked.reads = all
            .into_iter()
            .enumerate()
            .filter(|(n, _)| *n == 0 || *n == last || gaps[*n % gaps.len()])
            .map(|(_, read)| read)
            .collect();
        asked.tolerance = chrono::TimeDelta::hours(1_000);
        let of = |from, until| {
            let mut part = asked.clone();
            part.service = model::InstantPeriod::new(at(from), Some(at(until))).unwrap();
            usage(&part).unwrap().determinants[0].quantity.value
        };
        prop_assert_eq!(of(0, cut) + of(cut, hours), of(0, hours));
        prop_assert_eq!(of(0, hours), Decimal::from(increments.iter().sum::<i64>()));
    }

    #[test]
    fn swapping_a_meter_for_itself_changes_nothing(
        first in 0..WRAPS_AT,
        increments in proptest::collection::vec(0i64..200, 2..100),
        swap in 1usize..100,
    ) {
        let swap = swap % (increments.len() - 1) + 1;
        let hours = i64::try_from(increments.len()).unwrap();
        let all = reads(1, first, &increments);
        let mut whole = segment(1, -10, None);
        whole.digits = DIGITS;
        let mut asked = question(0, hours, vec![whole.clone()]);
        asked.reads = all.clone();
        let plain = usage(&asked).unwrap().determinants[0].quantity;

        let swap_hour = i64::try_from(swap).unwrap();
        let mut before = segment(1, -10, Some(swap_hour));
        let mut after = segment(1, swap_hour, None);
        (before.digits, after.digits) = (DIGITS, DIGITS);
        before.closing = Some(all[swap].value.count);
        after.opening = before.closing;
        asked.installed = vec![before, after];
        prop_assert_eq!(usage(&asked).unwrap().determinants[0].quantity, plain);
    }

    #[test]
    fn the_order_of_arrival_is_irrelevant(
        increments in proptest::collection::vec(0i64..200, 2..50),
        seed in any::<u64>(),
    ) {
        let hours = i64::try_from(increments.len()).unwrap();
        let mut asked = question(0, hours, vec![segment(1, -10, None)]);
        asked.reads = reads(1, 0, &increments);
        let sorted = usage(&asked).unwrap();
        asked.reads.sort_by_key(|read| read.value.count.wrapping_mul(0x9E37_79B9) ^ i64::from_ne_bytes(seed.to_ne_bytes()));
        prop_assert_eq!(usage(&asked).unwrap(), sorted);
    }

    #[test]
    fn no_counts_and_no_registration_panic(
        start: i64, end: i64, exponent: i8, shown: i8, digits: u8, hour in 0i64..720, most: i64,
    ) {
        let mut meter = segment(1, -10_000, None);
        (meter.digits, meter.exponent) = (digits, exponent);
        meter.hourly_max = Some(Decimal::from(most));
        let mut asked = question(0, 720, vec![meter]);
        asked.reads = vec![read(1, 0, start), read(1, hour, end)];
        asked.reads[1].value.exponent = shown;
        asked.tolerance = chrono::TimeDelta::hours(1_000);
        if let Ok(answer) = usage(&asked) {
            prop_assert!(answer.determinants[0].quantity.value >= Decimal::ZERO);
        }
    }
}
