//! Small builders for this room's tests.
//!
//! In: hours and counts. Out: questions. Never here: assertions.

use crate::{CandidateRead, MeterSegment, UsageQuestion};
use chrono::{DateTime, TimeDelta, Utc};
use model::{DeterminantKind, InstantPeriod, MeterId, ReadQuality, Register, RegisterValue, Unit};
use rust_decimal::Decimal;

/// So many hours after the first of June 2026 in China.
pub(crate) fn at(hours: i64) -> DateTime<Utc> {
    "2026-05-31T16:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::hours(hours)
}

/// A meter of eight digits, one cubic metre each.
pub(crate) fn segment(meter: u32, from: i64, until: Option<i64>) -> MeterSegment {
    MeterSegment {
        meter: MeterId::new(meter),
        register: Register::VOLUME,
        during: InstantPeriod::new(at(from), until.map(at)).unwrap(),
        digits: 8,
        exponent: 0,
        unit: Unit::CubicMetre,
        multiplier: Decimal::ONE,
        opening: None,
        closing: None,
        hourly_max: None,
    }
}

pub(crate) fn read(meter: u32, hours: i64, count: i64) -> CandidateRead {
    CandidateRead {
        meter: MeterId::new(meter),
        register: Register::VOLUME,
        measured_at: at(hours),
        value: RegisterValue::new(count, 0, Unit::CubicMetre),
        quality: ReadQuality::Actual,
        held: false,
    }
}

pub(crate) fn question(from: i64, until: i64, installed: Vec<MeterSegment>) -> UsageQuestion {
    UsageQuestion {
        kind: DeterminantKind::Usage,
        unit: Unit::CubicMetre,
        service: InstantPeriod::new(at(from), Some(at(until))).unwrap(),
        installed,
        reads: Vec::new(),
        billed_until: Vec::new(),
        tolerance: TimeDelta::hours(24),
    }
}
