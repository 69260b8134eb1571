//! Blocks: how much of a window's use falls into each.
//!
//! In: a block's bounds, the use before and after. Out: what the step adds to the block (less than
//! nothing when usage is taken back).
//! Never here: windows, money.

use rust_decimal::Decimal;

/// How much of the cumulated use lies in `from .. until`; `None` is the open end.
fn share(used: Decimal, from: Decimal, until: Option<Decimal>) -> Decimal {
    let top = until.map_or(used, |until| used.min(until));
    if top > from { top - from } else { Decimal::ZERO }
}

/// What the step from `before` to `after` adds to the block `from .. until`. `None` when it does
/// not touch the block; a step of nothing touches the block it stands in.
pub(crate) fn touched(
    before: Decimal,
    after: Decimal,
    from: Decimal,
    until: Option<Decimal>,
) -> Option<Decimal> {
    if before == after {
        let inside = from <= before && until.is_none_or(|until| before < until);
        return inside.then_some(Decimal::ZERO);
    }
    let quantity = share(after, from, until) - share(before, from, until);
    (!quantity.is_zero()).then_some(quantity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rust_decimal_macros::dec;

    #[test]
    fn a_step_adds_to_the_blocks_between_its_ends_only() {
        let cases = [
            (dec!(0), dec!(18), dec!(0), Some(dec!(20)), Some(dec!(18))),
            (dec!(15), dec!(23.5), dec!(20), Some(dec!(25)), Some(dec!(3.5))),
            (dec!(15), dec!(23.5), dec!(25), None, None),
            (dec!(20), dec!(20), dec!(0), Some(dec!(20)), None),
            (dec!(20), dec!(20), dec!(20), None, Some(dec!(0))),
            (dec!(30), dec!(22), dec!(25), None, Some(dec!(-5))),
            (dec!(30), dec!(22), dec!(20), Some(dec!(25)), Some(dec!(-3))),
        ];
        for (before, after, from, until, expected) in cases {
            assert_eq!(touched(before, after, from, until), expected, "{before}→{after} {from}");
        }
    }

    proptest! {
        #[test]
        fn the_blocks_share_a_step_without_gap_or_overlap(
            before in 0i64..100_000, after in 0i64..100_000, bounds in proptest::collection::btree_set(1i64..90_000, 1..6),
        ) {
            let (before, after) = (Decimal::new(before, 3), Decimal::new(after, 3));
            let mut from = Decimal::ZERO;
            let mut sum = Decimal::ZERO;
            let ends = bounds.into_iter().map(|bound| Some(Decimal::new(bound, 3))).chain([None]);
            for until in ends {
                sum += touched(before, after, from, until).unwrap_or_default();
                from = until.unwrap_or(from);
            }
            prop_assert_eq!(sum, after - before);
        }
    }
}
