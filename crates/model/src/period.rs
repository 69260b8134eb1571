//! Half-open periods: the first day (or instant) is inside, the last one outside.
//!
//! In: dates, instants. Out: periods that cannot be empty or reversed.
//! Never here: calendars, time zones.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A period whose end is not after its start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a period must end after it starts: {from} .. {until}")]
pub struct EmptyPeriod {
    /// The start that was given.
    pub from: String,
    /// The end that was given.
    pub until: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<T> {
    from: T,
    until: T,
}

/// Days from `from` (inside) until `until` (outside). Never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Raw<NaiveDate>", into = "Raw<NaiveDate>")]
pub struct Period {
    from: NaiveDate,
    until: NaiveDate,
}

impl Period {
    /// The days `from .. until`.
    ///
    /// # Errors
    /// When `until` is not after `from`.
    pub fn new(from: NaiveDate, until: NaiveDate) -> Result<Self, EmptyPeriod> {
        if until > from {
            Ok(Self { from, until })
        } else {
            Err(EmptyPeriod { from: from.to_string(), until: until.to_string() })
        }
    }

    /// The first day, inside.
    #[must_use]
    pub const fn from(self) -> NaiveDate {
        self.from
    }

    /// The day after the last one, outside.
    #[must_use]
    pub const fn until(self) -> NaiveDate {
        self.until
    }

    /// How many days are inside; at least 1.
    #[must_use]
    pub fn days(self) -> u32 {
        u32::try_from((self.until - self.from).num_days()).unwrap_or(u32::MAX)
    }

    /// Whether `day` is inside.
    #[must_use]
    pub fn contains(self, day: NaiveDate) -> bool {
        self.from <= day && day < self.until
    }

    /// The days both periods share, if any.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.from.max(other.from), self.until.min(other.until)).ok()
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.from, self.until)
    }
}

impl TryFrom<Raw<NaiveDate>> for Period {
    type Error = EmptyPeriod;
    fn try_from(raw: Raw<NaiveDate>) -> Result<Self, EmptyPeriod> {
        Self::new(raw.from, raw.until)
    }
}

impl From<Period> for Raw<NaiveDate> {
    fn from(period: Period) -> Self {
        Raw { from: period.from, until: period.until }
    }
}

/// Instants from `from` (inside) until `until` (outside; `None` = still running).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawInstants", into = "RawInstants")]
pub struct InstantPeriod {
    from: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInstants {
    from: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
}

impl InstantPeriod {
    /// The instants `from .. until`; `None` for a period without end yet.
    ///
    /// # Errors
    /// When `until` is not after `from`.
    pub fn new(from: DateTime<Utc>, until: Option<DateTime<Utc>>) -> Result<Self, EmptyPeriod> {
        match until {
            Some(until) if until <= from => {
                Err(EmptyPeriod { from: from.to_rfc3339(), until: until.to_rfc3339() })
            }
            Some(_) | None => Ok(Self { from, until }),
        }
    }

    /// The first instant, inside.
    #[must_use]
    pub const fn from(self) -> DateTime<Utc> {
        self.from
    }

    /// The first instant outside again, if the period has an end.
    #[must_use]
    pub const fn until(self) -> Option<DateTime<Utc>> {
        self.until
    }

    /// Whether `at` is inside.
    #[must_use]
    pub fn contains(self, at: DateTime<Utc>) -> bool {
        self.from <= at && self.until.is_none_or(|until| at < until)
    }
}

impl TryFrom<RawInstants> for InstantPeriod {
    type Error = EmptyPeriod;
    fn try_from(raw: RawInstants) -> Result<Self, EmptyPeriod> {
        Self::new(raw.from, raw.until)
    }
}

impl From<InstantPeriod> for RawInstants {
    fn from(period: InstantPeriod) -> Self {
        RawInstants { from: period.from, until: period.until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn day(n: i64) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 1, 1).unwrap() + chrono::Duration::days(n)
    }

    #[test]
    fn from_is_inside_and_until_is_outside() {
        let january = Period::new(day(0), day(31)).unwrap();
        assert_eq!(january.days(), 31);
        assert!(
            january.contains(day(0)) && january.contains(day(30)) && !january.contains(day(31))
        );
        assert!(Period::new(day(1), day(1)).is_err());
    }

    #[test]
    fn a_reversed_period_does_not_deserialize() {
        let text = r#"{"from":"2026-02-01","until":"2026-01-01"}"#;
        let error = serde_json::from_str::<Period>(text).unwrap_err();
        assert!(error.to_string().contains("must end after it starts"), "{error}");
    }

    proptest! {
        #[test]
        fn splitting_a_period_loses_no_day(start in 0i64..400, left in 1i64..400, right in 1i64..400) {
            let whole = Period::new(day(start), day(start + left + right)).unwrap();
            let first = Period::new(day(start), day(start + left)).unwrap();
            let second = Period::new(day(start + left), day(start + left + right)).unwrap();
            prop_assert_eq!(whole.days(), first.days() + second.days());
            prop_assert_eq!(first.intersection(second), None);
            prop_assert_eq!(whole.intersection(second), Some(second));
        }
    }
}
