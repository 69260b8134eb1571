//! The power factor and its table (功率因数调整电费).
//!
//! In: active and reactive energy, rows of the schedule. Out: the factor in hundredths, the
//! percentage it earns.
//! Never here: what the percentage is taken of (see `rate`), losses (see `determinants`).

use crate::{Problem, ScheduleError, file::Node, rules::PowerFactorRow};
use rust_decimal::Decimal;

const fn row(from_hundredths: u8, percent: u32, per: u32, negative: bool) -> PowerFactorRow {
    PowerFactorRow {
        from_hundredths,
        percent: Decimal::from_parts(percent, 0, 0, negative && percent > 0 && per == 0, 2),
        per_hundredth: Decimal::from_parts(per, 0, 0, per > 0, 2),
    }
}

/// 水电财字(83)第215号, standard 0.90: percent in hundredths, then what each hundredth of the
/// factor above the row's start takes off.
pub(crate) const STANDARD_0_90: &[PowerFactorRow] = &[
    row(95, 75, 0, true),
    row(90, 0, 15, false),
    row(70, 1000, 50, false),
    row(65, 1500, 100, false),
    row(0, 14_500, 200, false),
];

/// Rows of a schedule file, highest factor first in the result.
pub(crate) fn read_rows(list: &[Node<'_>]) -> Result<Vec<PowerFactorRow>, ScheduleError> {
    let mut rows: Vec<PowerFactorRow> = Vec::with_capacity(list.len());
    for node in list {
        let mut table = node.table()?;
        let from = table.require("from")?;
        let hundredths = from.not_negative()?.checked_mul(Decimal::ONE_HUNDRED);
        let from_hundredths = hundredths
            .filter(Decimal::is_integer)
            .and_then(|hundredths| u8::try_from(hundredths).ok())
            .filter(|hundredths| *hundredths <= 100)
            .ok_or_else(|| from.out_of_range("must be a power factor in hundredths, 0 to 1.00"))?;
        let percent = table.require("percent")?.decimal()?;
        let per_hundredth =
            table.take("per_hundredth").map_or(Ok(Decimal::ZERO), |node| node.decimal())?;
        table.finish()?;
        if rows.iter().any(|row| row.from_hundredths == from_hundredths) {
            let text = "there is a row from this factor already".to_owned();
            return Err(from.problem(Problem::Duplicate(text)));
        }
        rows.push(PowerFactorRow { from_hundredths, percent, per_hundredth });
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.from_hundredths));
    Ok(rows)
}

/// `P / √(P² + Q²)` to two decimals, half up, in hundredths; decided by comparing squares, so no
/// root is ever rounded. `None` when the squares do not fit.
pub(crate) fn hundredths(active: Decimal, reactive: Decimal) -> Option<u8> {
    let (active, reactive) = (active.normalize(), reactive.normalize());
    let active_squared = active.checked_mul(active)?;
    let apparent_squared = active_squared.checked_add(reactive.checked_mul(reactive)?)?;
    let limit = active_squared.checked_mul(Decimal::from(40_000))?;
    let mut factor = 100u8;
    while factor > 0 {
        // factor stands when (factor − 0.5) / 100 ≤ P/S.
        let twice = Decimal::from(2 * u32::from(factor) - 1);
        if twice.checked_mul(twice)?.checked_mul(apparent_squared)? <= limit {
            return Some(factor);
        }
        factor -= 1;
    }
    Some(0)
}

/// The percentage of the row the factor falls into.
pub(crate) fn percent(rows: &[PowerFactorRow], hundredths: u8) -> Option<Decimal> {
    let row = rows.iter().find(|row| row.from_hundredths <= hundredths)?;
    let above = Decimal::from(hundredths - row.from_hundredths);
    row.per_hundredth.checked_mul(above)?.checked_add(row.percent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rust_decimal_macros::dec;

    #[test]
    fn the_published_table_of_standard_0_90_reads_back() {
        let published = [
            (100, dec!(-0.75)),
            (95, dec!(-0.75)),
            (94, dec!(-0.60)),
            (91, dec!(-0.15)),
            (90, dec!(0)),
            (89, dec!(0.5)),
            (85, dec!(2.5)),
            (80, dec!(5)),
            (71, dec!(9.5)),
            (70, dec!(10)),
            (69, dec!(11)),
            (65, dec!(15)),
            (64, dec!(17)),
        ];
        for (factor, expected) in published {
            assert_eq!(percent(STANDARD_0_90, factor), Some(expected), "0.{factor}");
        }
    }

    #[test]
    fn the_factor_is_rounded_half_up_from_exact_squares() {
        let cases = [
            (dec!(40000), dec!(30000), 80),
            (dec!(40000), dec!(39670), 71),
            (dec!(42268), dec!(17716), 92),
            (dec!(291114), dec!(44523), 99),
            (dec!(1), dec!(0), 100),
            (dec!(0), dec!(1), 0),
        ];
        for (active, reactive, expected) in cases {
            assert_eq!(hundredths(active, reactive), Some(expected), "{active} {reactive}");
        }
        assert_eq!(hundredths(Decimal::MAX, Decimal::MAX), None);
    }
}
