//! A service period under two rate versions, parted by days.
//!
//! In: a service period, the versions in force. Out: parts that cover it without gap or overlap,
//! each with its share of the usage.
//! Never here: prices.
//!
//! The rule is called *by days*: the usage of the first `n` of `d` days is `usage × n / d`, rounded
//! down to the decimals the reads have; each part is the difference of two such sums. Parts add up
//! to the whole exactly, whatever the number of parts (decision 5).

use model::{BillingDeterminant, DeterminantKind, Period, Rounding, RoundingMode};
use rust_decimal::Decimal;

/// Fewest decimals a share is cut to: litres of cubic metres, watt-hours of kilowatt-hours.
const DECIMALS_MIN: u32 = 3;

/// The share of `whole` that falls to days `from_day..until_day` of `of_days`. `None` when the
/// product does not fit.
pub(crate) fn by_days(
    whole: Decimal,
    from_day: u32,
    until_day: u32,
    of_days: u32,
) -> Option<Decimal> {
    let down =
        Rounding { places: whole.normalize().scale().max(DECIMALS_MIN), mode: RoundingMode::Down };
    let up_to = |day: u32| -> Option<Decimal> {
        if day == of_days {
            return Some(whole);
        }
        let product = whole.checked_mul(Decimal::from(day))?;
        Some(down.apply_decimal(product.checked_div(Decimal::from(of_days))?))
    };
    up_to(until_day)?.checked_sub(up_to(from_day)?)
}

/// Whether a determinant adds up over days. The others hold for every part as they stand.
pub(crate) const fn adds_up(kind: DeterminantKind) -> bool {
    match kind {
        DeterminantKind::Usage
        | DeterminantKind::UsageSharp
        | DeterminantKind::UsagePeak
        | DeterminantKind::UsageFlat
        | DeterminantKind::UsageValley
        | DeterminantKind::UsageDeepValley
        | DeterminantKind::UsageOutsideTiers
        | DeterminantKind::ReactiveUsage
        | DeterminantKind::ReactiveReverse => true,
        DeterminantKind::MaximumDemand
        | DeterminantKind::ContractedCapacity
        | DeterminantKind::MeterCalibre
        | DeterminantKind::Persons
        | DeterminantKind::PlannedPerPerson
        | DeterminantKind::PreviousAverage
        | DeterminantKind::Quota
        | DeterminantKind::Dwellings
        | DeterminantKind::Meters => false,
    }
}

/// The determinants of `part` of the service period. `None` when a share does not fit.
pub(crate) fn determinants_of(
    part: Period,
    service: Period,
    determinants: &[BillingDeterminant],
) -> Option<Vec<BillingDeterminant>> {
    let day = |day: chrono::NaiveDate| u32::try_from((day - service.from()).num_days()).ok();
    let (from, until) = (day(part.from())?, day(part.until())?);
    determinants
        .iter()
        .map(|whole| {
            let mut share = whole.clone();
            if adds_up(whole.kind) {
                share.quantity.value = by_days(whole.quantity.value, from, until, service.days())?;
            }
            Some(share)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rust_decimal_macros::dec;

    #[test]
    fn ten_of_thirty_days_take_a_third_and_lose_nothing() {
        assert_eq!(by_days(dec!(10), 0, 10, 30), Some(dec!(3.333)));
        assert_eq!(by_days(dec!(10), 10, 30, 30), Some(dec!(6.667)));
        assert_eq!(by_days(dec!(0.0001), 0, 29, 30), Some(dec!(0.0000)));
        assert_eq!(by_days(Decimal::MAX, 1, 2, 30), None);
    }

    proptest! {
        #[test]
        fn parts_add_up_to_the_whole(
            count in -1_000_000_000i64..1_000_000_000, scale in 0u32..6,
            mut cuts in proptest::collection::vec(0u32..366, 0..5),
        ) {
            let whole = Decimal::new(count, scale);
            cuts.extend([0, 366]);
            cuts.sort_unstable();
            let parts = cuts.windows(2).map(|days| by_days(whole, days[0], days[1], 366).unwrap());
            let sum: Decimal = parts.clone().sum();
            prop_assert_eq!(sum, whole);
            for part in parts {
                prop_assert!(part.is_zero() || part.is_sign_negative() == whole.is_sign_negative());
            }
        }
    }
}
