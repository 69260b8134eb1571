//! Days of service: which days of a cycle an agreement is billed for, and when those days are.
//!
//! In: days. Out: days, instants.
//! Never here: reads, prices, host time zones; the utility's offset is an argument.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use model::{InstantPeriod, Period};

/// The days of `cycle` on which the agreement runs (R041: accounts opened or closed in mid-period
/// are billed by their days of service). `until: None` = still running; `None` when it does not
/// run on any day of the cycle.
#[must_use]
pub fn service_period(cycle: Period, from: NaiveDate, until: Option<NaiveDate>) -> Option<Period> {
    Period::new(cycle.from().max(from), until.map_or(cycle.until(), |day| day.min(cycle.until())))
        .ok()
}

/// The instants a period of local days stands for: from its first midnight until the midnight
/// after its last day. `None` beyond the years a calendar knows.
#[must_use]
pub fn instants_of(period: Period, utc_offset_minutes: i32) -> Option<InstantPeriod> {
    let midnight = |day: NaiveDate| -> Option<DateTime<Utc>> {
        day.and_time(NaiveTime::MIN)
            .and_utc()
            .checked_sub_signed(TimeDelta::minutes(i64::from(utc_offset_minutes)))
    };
    InstantPeriod::new(midnight(period.from())?, Some(midnight(period.until())?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn an_account_is_billed_for_its_days_of_service() {
        let june = Period::new(day("2026-06-01"), day("2026-07-01")).unwrap();
        let cases = [
            ("2025-01-01", None, Some(30)),
            ("2026-06-11", None, Some(20)),
            ("2025-01-01", Some("2026-06-11"), Some(10)),
            ("2026-06-10", Some("2026-06-20"), Some(10)),
            ("2026-07-01", None, None),
            ("2025-01-01", Some("2026-06-01"), None),
        ];
        for (from, until, days) in cases {
            let service = service_period(june, day(from), until.map(day));
            assert_eq!(service.map(Period::days), days, "{from} .. {until:?}");
        }
    }

    #[test]
    fn a_day_in_china_begins_at_sixteen_hours_utc_the_day_before() {
        let june = Period::new(day("2026-06-01"), day("2026-07-01")).unwrap();
        let instants = instants_of(june, 480).unwrap();
        assert_eq!(instants.from().to_rfc3339(), "2026-05-31T16:00:00+00:00");
        assert_eq!(instants.until().unwrap().to_rfc3339(), "2026-06-30T16:00:00+00:00");
        let end_of_time = Period::new(day("2026-06-01"), NaiveDate::MAX).unwrap();
        assert_eq!(instants_of(end_of_time, -1_500), None);
    }
}
