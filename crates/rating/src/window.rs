//! Windows: the stretches of time in which usage climbs through the blocks, and how a service
//! period that reaches over several of them is parted (R015).
//!
//! In: a service period, its usage, the schedule's window rule. Out: parts of the usage, each with
//! the window it counts in.
//! Never here: prices, the tier ledger, the clock.

use crate::rate::PARTED;
use chrono::{Datelike, Months, NaiveDate};
use model::Period;
use rust_decimal::Decimal;

/// Where the blocks of an item begin anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Window {
    /// With every service period; with `bounds_for_days` the bounds are those of a period of so
    /// many days and stretch with its length.
    Bill { bounds_for_days: Option<u32> },
    /// Every so many months.
    Months { months: u32, start: WindowStart, across: Across },
}

/// What windows of months are counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WindowStart {
    /// The first of January.
    Calendar,
    /// The account's or book's own start day.
    Account,
    /// A fixed day.
    Day(NaiveDate),
}

/// What becomes of a service period that reaches into another window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Across {
    /// Nobody decided: the account waits.
    Refuse,
    /// The usage is parted by days.
    ByDays,
    /// The usage is parted by months counted from the first day of service; a month that holds
    /// the boundary goes to the old window, or to the new one.
    ByMonths { boundary_month_to_old: bool },
    /// So many months of the usage go to the old window.
    MonthsToOld(u32),
    /// All of it counts in the window in which the period starts.
    StartsIn,
    /// All of it counts in the window in which the period ends (in which it was read).
    EndsIn,
    /// One window as long as all the windows it reaches into: bounds are multiplied.
    Stretch,
}

/// A part of the usage and the window it counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// The days of the window.
    pub(crate) window: Period,
    /// The days of service in it.
    pub(crate) service: Period,
    /// How much of the usage.
    pub(crate) quantity: Decimal,
    /// What the bounds are multiplied with: numerator, denominator.
    pub(crate) stretch: (u32, u32),
}

/// Why a period cannot be placed into windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WindowProblem {
    /// It reaches over this day and the rule is to refuse.
    Reaches(NaiveDate),
    /// The account's start is not known.
    NoStart,
    /// The calendar has no such day.
    Calendar,
}

/// The most windows one service period may reach into.
const MOST_WINDOWS: usize = 400;

impl Window {
    /// The days of the window that `day` lies in; `None` for windows that are the bill itself.
    fn around(&self, day: NaiveDate, account: Option<NaiveDate>) -> Result<Period, WindowProblem> {
        let Window::Months { months, start, .. } = self else {
            return Err(WindowProblem::Calendar);
        };
        let anchor = match start {
            WindowStart::Calendar => NaiveDate::from_ymd_opt(day.year(), 1, 1),
            WindowStart::Account => Some(account.ok_or(WindowProblem::NoStart)?),
            WindowStart::Day(day) => Some(*day),
        };
        let anchor = anchor.ok_or(WindowProblem::Calendar)?;
        around(anchor, i64::from(*months), day).ok_or(WindowProblem::Calendar)
    }

    /// Whether uses are carried from bill to bill, so that the tier ledger has rows for it.
    pub(crate) const fn carries(&self) -> bool {
        match self {
            Window::Bill { .. } => false,
            Window::Months { .. } => true,
        }
    }

    /// The usage of `service`, parted into windows, given to `take` in the order of time. The
    /// parts add up to `usage` exactly.
    pub(crate) fn part<E: From<WindowProblem>>(
        &self,
        service: Period,
        usage: Decimal,
        account: Option<NaiveDate>,
        mut take: impl FnMut(Part) -> Result<(), E>,
    ) -> Result<(), E> {
        let whole = |window, stretch| Part { window, service, quantity: usage, stretch };
        let across = match self {
            Window::Bill { bounds_for_days: None } => return take(whole(service, (1, 1))),
            Window::Bill { bounds_for_days: Some(days) } => {
                return take(whole(service, (service.days(), *days)));
            }
            Window::Months { across, .. } => *across,
        };
        let first = self.around(service.from(), account)?;
        if service.until() <= first.until() {
            return take(whole(first, (1, 1)));
        }
        if across == Across::Refuse {
            return Err(WindowProblem::Reaches(first.until()).into());
        }
        if across == Across::StartsIn {
            return take(whole(first, (1, 1)));
        }
        let mut windows = vec![first];
        while let Some(last) = windows.last().copied()
            && last.until() < service.until()
        {
            if windows.len() >= MOST_WINDOWS {
                return Err(WindowProblem::Calendar.into());
            }
            windows.push(self.around(last.until(), account)?);
        }
        let last = windows.last().copied().unwrap_or(first);
        let weights: Vec<u32> = match across {
            Across::Refuse | Across::StartsIn => return Ok(()),
            Across::EndsIn => return take(whole(last, (1, 1))),
            Across::Stretch => {
                let window =
                    Period::new(first.from(), last.until()).map_err(|_| WindowProblem::Calendar)?;
                let windows = u32::try_from(windows.len()).map_err(|_| WindowProblem::Calendar)?;
                return take(whole(window, (windows, 1)));
            }
            Across::ByDays => windows
                .iter()
                .map(|window| window.intersection(service).map_or(0, Period::days))
                .collect(),
            Across::ByMonths { boundary_month_to_old } => {
                months_in(&windows, service, boundary_month_to_old)?
            }
            Across::MonthsToOld(to_old) => {
                let months = months_of(service)?.max(1);
                let to_old = to_old.min(months);
                if windows.len() != 2 {
                    return Err(WindowProblem::Reaches(first.until()).into());
                }
                vec![to_old, months - to_old]
            }
        };
        by_weight(&windows, &weights, service, usage, take)
    }
}

/// Gives every window its share; running totals are rounded, so that the parts add up.
fn by_weight<E: From<WindowProblem>>(
    windows: &[Period],
    weights: &[u32],
    service: Period,
    usage: Decimal,
    mut take: impl FnMut(Part) -> Result<(), E>,
) -> Result<(), E> {
    let all: u32 = weights.iter().sum();
    let (mut weight_so_far, mut given) = (0u32, Decimal::ZERO);
    for (window, weight) in windows.iter().zip(weights) {
        weight_so_far += weight;
        let up_to_here = if weight_so_far == all {
            Some(usage)
        } else {
            usage
                .checked_mul(Decimal::from(weight_so_far))
                .and_then(|product| product.checked_div(Decimal::from(all)))
                .map(|share| PARTED.apply_decimal(share))
        };
        let up_to_here = up_to_here.ok_or(WindowProblem::Calendar)?;
        let quantity = up_to_here - given;
        given = up_to_here;
        let Some(days) = window.intersection(service) else { continue };
        if *weight > 0 {
            take(Part { window: *window, service: days, quantity, stretch: (1, 1) })?;
        }
    }
    Ok(())
}

/// Months of service, counted from its first day; a begun month counts.
fn months_of(service: Period) -> Result<u32, WindowProblem> {
    let mut months = 0;
    while month_on(service.from(), months)? < service.until() {
        months += 1;
    }
    Ok(months)
}

fn months_in(
    windows: &[Period],
    service: Period,
    boundary_month_to_old: bool,
) -> Result<Vec<u32>, WindowProblem> {
    let mut counts = vec![0; windows.len()];
    for month in 0..months_of(service)? {
        let first_day = month_on(service.from(), month)?;
        let last_day = month_on(service.from(), month + 1)?.min(service.until());
        let last_day = last_day.pred_opt().ok_or(WindowProblem::Calendar)?;
        let day = if boundary_month_to_old { first_day } else { last_day };
        for (window, count) in windows.iter().zip(&mut counts) {
            *count += u32::from(window.contains(day));
        }
    }
    Ok(counts)
}

fn month_on(from: NaiveDate, months: u32) -> Result<NaiveDate, WindowProblem> {
    from.checked_add_months(Months::new(months)).ok_or(WindowProblem::Calendar)
}

/// The window of `months` months, counted from `anchor` in both directions, that holds `day`.
fn around(anchor: NaiveDate, months: i64, day: NaiveDate) -> Option<Period> {
    let month_number = |date: NaiveDate| i64::from(date.year()) * 12 + i64::from(date.month0());
    let mut turn = (month_number(day) - month_number(anchor)).div_euclid(months);
    let mut from = shifted(anchor, turn.checked_mul(months)?)?;
    if from > day {
        turn -= 1;
        from = shifted(anchor, turn.checked_mul(months)?)?;
    }
    let until = shifted(anchor, (turn + 1).checked_mul(months)?)?;
    // A clamped day (31st) may leave `day` just behind the end: then it belongs to the next turn.
    let window = Period::new(from, until).ok()?;
    if window.contains(day) {
        return Some(window);
    }
    Period::new(until, shifted(anchor, (turn + 2).checked_mul(months)?)?).ok()
}

fn shifted(anchor: NaiveDate, months: i64) -> Option<NaiveDate> {
    let count = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
    if months < 0 { anchor.checked_sub_months(count) } else { anchor.checked_add_months(count) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rust_decimal_macros::dec;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }
    fn period(from: &str, until: &str) -> Period {
        Period::new(day(from), day(until)).unwrap()
    }
    fn months(months: u32, start: WindowStart, across: Across) -> Window {
        Window::Months { months, start, across }
    }
    fn parts(window: &Window, service: Period, usage: Decimal) -> Result<Vec<Part>, WindowProblem> {
        let mut parts = Vec::new();
        window.part(service, usage, Some(day("2025-01-15")), |part| {
            parts.push(part);
            Ok::<(), WindowProblem>(())
        })?;
        Ok(parts)
    }

    #[test]
    fn a_window_begins_where_its_rule_says() {
        let cases = [
            (1, WindowStart::Calendar, "2026-02-28", period("2026-02-01", "2026-03-01")),
            (12, WindowStart::Calendar, "2026-12-31", period("2026-01-01", "2027-01-01")),
            (4, WindowStart::Calendar, "2026-05-01", period("2026-05-01", "2026-09-01")),
            (12, WindowStart::Account, "2026-01-14", period("2025-01-15", "2026-01-15")),
            (12, WindowStart::Account, "2026-01-15", period("2026-01-15", "2027-01-15")),
            (12, WindowStart::Account, "2024-01-01", period("2023-01-15", "2024-01-15")),
            (
                3,
                WindowStart::Day(day("2026-01-31")),
                "2026-04-30",
                period("2026-04-30", "2026-07-31"),
            ),
        ];
        for (count, start, on, expected) in cases {
            let window = months(count, start, Across::Refuse);
            assert_eq!(window.around(day(on), Some(day("2025-01-15"))), Ok(expected), "{on}");
        }
    }

    #[test]
    fn harbins_missed_boundary_month_goes_where_the_setting_says() {
        // H2: six months unread, 60 m3; published split 20 old, 40 new.
        let gap = period("2025-11-01", "2026-05-01");
        let split = |across| {
            parts(&months(12, WindowStart::Account, across), gap, dec!(60))
                .unwrap()
                .iter()
                .map(|part| part.quantity)
                .collect::<Vec<_>>()
        };
        assert_eq!(split(Across::ByMonths { boundary_month_to_old: false }), [dec!(20), dec!(40)]);
        assert_eq!(split(Across::ByMonths { boundary_month_to_old: true }), [dec!(30), dec!(30)]);
        assert_eq!(split(Across::MonthsToOld(2)), [dec!(20), dec!(40)]);
        assert_eq!(split(Across::EndsIn), [dec!(60)]);
    }

    #[test]
    fn nobody_having_decided_a_reaching_period_is_refused() {
        let window = months(12, WindowStart::Calendar, Across::Refuse);
        let problem = parts(&window, period("2025-12-20", "2026-01-20"), dec!(1)).unwrap_err();
        assert_eq!(problem, WindowProblem::Reaches(day("2026-01-01")));
    }

    proptest! {
        #[test]
        fn the_parts_of_a_period_add_up_to_it(
            start in 0i64..800, days in 1i64..500, usage in -99_999i64..99_999, rule in 0u8..5, count in 1u32..14,
        ) {
            let from = day("2024-01-01") + chrono::Duration::days(start);
            let service = Period::new(from, from + chrono::Duration::days(days)).unwrap();
            let across = match rule {
                0 => Across::ByDays,
                1 => Across::ByMonths { boundary_month_to_old: true },
                2 => Across::ByMonths { boundary_month_to_old: false },
                3 => Across::Stretch,
                _ => Across::EndsIn,
            };
            let usage = Decimal::new(usage, 2);
            let parts = parts(&months(count, WindowStart::Account, across), service, usage).unwrap();
            prop_assert_eq!(parts.iter().map(|part| part.quantity).sum::<Decimal>(), usage);
        }
    }
}
