//! Statutory working days, with holidays and make-up days (调休).
//!
//! In: the days a year's calendar turns round, with where that was published. Out: working-day
//! arithmetic. Never here: the data itself (files in `deploy/`), the hall's own opening hours.

use chrono::{Datelike, NaiveDate, Weekday};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A working-day calendar: Monday to Friday, except the days listed.
///
/// A bill stores `version` with its due date, because next year's list appears only in autumn
/// (R043).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkingDayCalendar {
    /// Which edition this is: `2025`.
    pub version: String,
    /// Where it was published.
    pub source: String,
    /// Days that differ from the week's rule: `true` = work (make-up day), `false` = holiday.
    pub exceptions: BTreeMap<NaiveDate, bool>,
}

impl WorkingDayCalendar {
    /// Monday to Friday without exceptions, for organisations that load no calendar.
    #[must_use]
    pub fn weekdays() -> Self {
        Self {
            version: "weekdays".to_owned(),
            source: "Monday to Friday".to_owned(),
            exceptions: BTreeMap::new(),
        }
    }

    /// Whether people work on `day`.
    #[must_use]
    pub fn is_working_day(&self, day: NaiveDate) -> bool {
        self.exceptions
            .get(&day)
            .copied()
            .unwrap_or(!matches!(day.weekday(), Weekday::Sat | Weekday::Sun))
    }

    /// The `count`-th working day after `day`; `day` itself does not count. `None` when the
    /// calendar ends (year 262142) or nobody works for ten years.
    #[must_use]
    pub fn add_working_days(&self, day: NaiveDate, count: u32) -> Option<NaiveDate> {
        let mut left = count;
        let mut at = day;
        let mut idle = 0;
        while left > 0 {
            at = at.succ_opt()?;
            if self.is_working_day(at) {
                left -= 1;
                idle = 0;
            } else {
                idle += 1;
                if idle > 3_660 {
                    return None;
                }
            }
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn make_up_days_move_a_due_date_both_ways() {
        let mut calendar = WorkingDayCalendar::weekdays();
        // Labour Day 2025: 27 April is a make-up Sunday.
        calendar.exceptions.insert(date("2025-04-27"), true);
        assert_eq!(calendar.add_working_days(date("2025-04-25"), 3), Some(date("2025-04-29")));
        let plain = WorkingDayCalendar::weekdays();
        assert_eq!(plain.add_working_days(date("2025-04-25"), 3), Some(date("2025-04-30")));
        // New Year 2026: 1 and 2 January are holidays, 4 January is a make-up Sunday.
        for (day, works) in [("2026-01-01", false), ("2026-01-02", false), ("2026-01-04", true)] {
            calendar.exceptions.insert(date(day), works);
        }
        assert_eq!(calendar.add_working_days(date("2025-12-31"), 3), Some(date("2026-01-06")));
        assert_eq!(calendar.add_working_days(date("2025-12-31"), 0), Some(date("2025-12-31")));
    }

    #[test]
    fn a_calendar_without_end_ends() {
        assert_eq!(WorkingDayCalendar::weekdays().add_working_days(NaiveDate::MAX, 1), None);
    }
}
