//! Usage from register reads: deltas, rollover, meter swap, multiplier.
//!
//! In: a [`UsageQuestion`]. Out: one determinant with the reads it rests on.
//! Never here: which read is believed (`vee`), what usage costs (`rating`).

use crate::{
    Boundary, Determined, Flag, MeterSegment, NotDeterminable, Picked, UsageQuestion, pick,
};
use chrono::{DateTime, TimeDelta, Utc};
use model::{
    BillingDeterminant, Evidence, EvidenceRead, MeterId, Quantity, ReadQuality, RegisterValue,
    ValueError,
};
use rust_decimal::Decimal;

/// The most digits a register may have, so that counts fit 64 bits.
const DIGITS_MAX: u8 = 18;
const SECONDS_PER_HOUR: i64 = 3_600;

/// The usage of the service period: per installed meter the difference of its boundary reads
/// (rolled over where it did) times its multiplier, summed over all meters that hung there
/// (R040, R041, R111).
///
/// # Errors
/// When a boundary has no read that may stand for it, or the reads make no sense together; the
/// reason is meant for the outsort list.
pub fn usage(question: &UsageQuestion) -> Result<Determined, NotDeterminable> {
    let from = question.service.from();
    let until = question.service.until().ok_or(NotDeterminable::OpenService)?;
    let segments = spans(question, until);
    if segments.is_empty() {
        return Err(NotDeterminable::NoMeter { from, until });
    }

    let mut flags = Vec::new();
    if segments.len() > 1 {
        flags.push(Flag::SeveralMeters { count: segments.len() });
    }
    flags.extend(gaps(from, until, segments.iter().map(|(_, start, end)| (*start, *end))));
    let mut total = Quantity::zero(question.unit);
    let mut evidence = Vec::with_capacity(segments.len());
    for (segment, start, end) in segments {
        let part = segment_usage(question, segment, start, end)?;
        total = total
            .checked_add(part.usage)
            .map_err(|_| NotDeterminable::Overflow { meter: segment.meter })?;
        flags.extend(part.flags);
        evidence.push(part.evidence);
    }
    let determinant = BillingDeterminant { kind: question.kind, quantity: total, evidence };
    Ok(Determined { determinants: vec![determinant], flags })
}

/// The instants at which [`usage`] needs a read, with the meter; those the fitter's own counts
/// answer are left out. What to ask the read store for.
#[must_use]
pub fn boundaries(question: &UsageQuestion) -> Vec<(MeterId, DateTime<Utc>)> {
    let Some(until) = question.service.until() else { return Vec::new() };
    let mut wanted = Vec::with_capacity(2);
    for (segment, start, end) in spans(question, until) {
        if segment.opening.is_none() || start != segment.during.from() {
            wanted.push((segment.meter, start));
        }
        if segment.closing.is_none() || Some(end) != segment.during.until() {
            wanted.push((segment.meter, end));
        }
    }
    wanted
}

/// The installed meters that overlap the service period, each with the part of it it hung there
/// for, in order of time.
fn spans(
    question: &UsageQuestion,
    until: DateTime<Utc>,
) -> Vec<(&MeterSegment, DateTime<Utc>, DateTime<Utc>)> {
    let mut spans: Vec<_> = question
        .installed
        .iter()
        .filter_map(|segment| {
            let start = segment.during.from().max(question.service.from());
            let end = segment.during.until().map_or(until, |removed| removed.min(until));
            (start < end).then_some((segment, start, end))
        })
        .collect();
    spans.sort_by_key(|(segment, start, _)| (*start, segment.meter));
    spans
}

/// The times inside `from..until` that no meter covers; the spans come in order of their start.
fn gaps(
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    spans: impl Iterator<Item = (DateTime<Utc>, DateTime<Utc>)>,
) -> Vec<Flag> {
    let mut found = Vec::new();
    let mut covered = from;
    for (start, end) in spans {
        if start > covered {
            found.push(Flag::Unmetered { from: covered, until: start });
        }
        covered = covered.max(end);
    }
    if covered < until {
        found.push(Flag::Unmetered { from: covered, until });
    }
    found
}

struct Part {
    usage: Quantity,
    evidence: Evidence,
    flags: Vec<Flag>,
}

/// What one meter passed between `start` and `end`, both inside its installation.
fn segment_usage(
    question: &UsageQuestion,
    segment: &MeterSegment,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
) -> Result<Part, NotDeterminable> {
    let meter = segment.meter;
    if !(1..=DIGITS_MAX).contains(&segment.digits) || segment.multiplier <= Decimal::ZERO {
        return Err(NotDeterminable::ImpossibleRegister {
            meter,
            digits: segment.digits,
            multiplier: segment.multiplier,
        });
    }
    let mut flags = Vec::new();
    let opening = pick(question, segment, start, Boundary::Start)?;
    let mut closing = pick(question, segment, end, Boundary::End)?;
    if opening.already_billed {
        flags.push(Flag::OpensWhereBilled { meter });
        if closing.read.measured_at < opening.read.measured_at {
            // The previous bill already reached past this period's last read.
            closing = Picked { read: opening.read, already_billed: false };
        }
    }
    let opening = in_unit_of(segment, opening.read)?;
    let closing = in_unit_of(segment, closing.read)?;
    let between = closing.measured_at - opening.measured_at;
    let (delta, rolled_over) = delta(segment, &opening, &closing, between)?;
    if rolled_over {
        flags.push(Flag::RolledOver { meter });
    }
    let overflow = || NotDeterminable::Overflow { meter };
    let as_billed = |value: RegisterValue| -> Result<Quantity, NotDeterminable> {
        value
            .in_unit(question.unit)
            .and_then(RegisterValue::to_quantity)
            .map_err(|error| value_error(segment, question.unit, &error))?
            .checked_scale(segment.multiplier)
            .map_err(|_| overflow())
    };
    let usage = as_billed(delta)?;
    if let Some(most) = meter_maximum(segment, between) {
        let passed = delta.to_quantity().map_err(|_| overflow())?;
        if passed.value > most {
            let scale = |value: Decimal| value.checked_mul(segment.multiplier).ok_or_else(overflow);
            flags.push(Flag::AboveMeterMaximum {
                meter,
                usage: Quantity::new(scale(passed.value)?, segment.unit),
                most: Quantity::new(scale(most)?, segment.unit),
            });
        }
    }
    for read in [&opening, &closing] {
        if read.quality != ReadQuality::Actual && !is_fitters(segment, read) {
            let (measured_at, quality) = (read.measured_at, read.quality);
            flags.push(Flag::NotActual { meter, measured_at, quality });
        }
    }
    let wraps_at = RegisterValue::new(1, segment.exponent, segment.unit)
        .to_quantity()
        .ok()
        .zip(10_i64.checked_pow(u32::from(segment.digits)))
        .and_then(|(unit, counts)| unit.value.checked_mul(Decimal::from(counts)))
        .ok_or_else(overflow)?;
    let evidence = Evidence::Reads {
        start: opening,
        end: closing,
        rolled_over,
        wraps_at: wraps_at.normalize(),
        multiplier: segment.multiplier,
    };
    Ok(Part { usage, evidence, flags })
}

/// What the register counted from `start` to `end`, before the multiplier, and whether it began
/// again at zero in between.
fn delta(
    segment: &MeterSegment,
    start: &EvidenceRead,
    end: &EvidenceRead,
    between: TimeDelta,
) -> Result<(RegisterValue, bool), NotDeterminable> {
    let meter = segment.meter;
    let overflow = || NotDeterminable::Overflow { meter };
    // Counts in the finest step either read or the register has.
    let exponent = segment.exponent.min(start.exponent).min(end.exponent);
    let finer = segment.exponent.checked_sub(exponent).ok_or_else(overflow)?;
    let wraps_at = u32::try_from(finer)
        .ok()
        .and_then(|finer| 10_i64.checked_pow(u32::from(segment.digits).checked_add(finer)?))
        .ok_or_else(overflow)?;
    let count = |read: &EvidenceRead| -> Result<i64, NotDeterminable> {
        let value = read.value();
        let count = value.with_exponent(exponent).map_err(|_| overflow())?.count;
        if count < 0 {
            return Err(NotDeterminable::Negative { meter, value });
        }
        if count >= wraps_at {
            return Err(NotDeterminable::TooManyDigits { meter, value, digits: segment.digits });
        }
        Ok(count)
    };
    let (from, to) = (count(start)?, count(end)?);
    if to >= from {
        return Ok((RegisterValue::new(to - from, exponent, segment.unit), false));
    }
    // Both lie in 0..wraps_at and wraps_at is at most 10^18: no step leaves 64 bits.
    let wrapped = RegisterValue::new(to + wraps_at - from, exponent, segment.unit);
    let passed = wrapped.to_quantity().map_err(|_| overflow())?.value;
    let believable = wrapped.count <= wraps_at / 2
        && meter_maximum(segment, between).is_none_or(|most| passed <= most);
    if believable {
        Ok((wrapped, true))
    } else {
        Err(NotDeterminable::Decrease { meter, start: start.value(), end: end.value() })
    }
}

/// The most the register can count in `between`, in its own unit; an hour of grace, because reads
/// are dated to the frame and not to the tick. `None` when the registry does not say.
fn meter_maximum(segment: &MeterSegment, between: TimeDelta) -> Option<Decimal> {
    let seconds = between.num_seconds().checked_add(SECONDS_PER_HOUR)?;
    segment
        .hourly_max?
        .checked_mul(Decimal::from(seconds))?
        .checked_div(Decimal::from(SECONDS_PER_HOUR))
}

/// The read in the unit of its register.
fn in_unit_of(segment: &MeterSegment, read: EvidenceRead) -> Result<EvidenceRead, NotDeterminable> {
    let value = read
        .value()
        .in_unit(segment.unit)
        .map_err(|error| value_error(segment, segment.unit, &error))?;
    Ok(EvidenceRead { count: value.count, exponent: value.exponent, unit: value.unit, ..read })
}

fn value_error(segment: &MeterSegment, to: model::Unit, error: &ValueError) -> NotDeterminable {
    let meter = segment.meter;
    match error {
        ValueError::NotConvertible { from, .. } => {
            NotDeterminable::UnitMismatch { meter, from: *from, to }
        }
        ValueError::NotExact { .. } => NotDeterminable::Overflow { meter },
    }
}

/// Whether the read is the fitter's own at installation or removal: that is how it should be.
fn is_fitters(segment: &MeterSegment, read: &EvidenceRead) -> bool {
    read.quality == ReadQuality::Manual
        && (read.measured_at == segment.during.from()
            || segment.during.until() == Some(read.measured_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{at, question, read, segment};
    use model::Unit;
    use rust_decimal_macros::dec;

    fn only(determined: &Determined) -> &BillingDeterminant {
        &determined.determinants[0]
    }

    #[test]
    fn golden_rollover_and_multiplier_come_out_as_published() {
        // R3: 99998 -> 00013 on 5 dials is 15. R4: (180 - 0) x 100 x 2 = 36000.
        let cases = [
            ("R3", 5, dec!(1), 99_998, 13, dec!(15), true),
            ("R4", 6, dec!(200), 0, 180, dec!(36000), false),
            ("one dial", 1, dec!(1), 9, 2, dec!(3), true),
            ("18 dials", 18, dec!(1), 999_999_999_999_999_999, 0, dec!(1), true),
            ("nothing used", 8, dec!(1), 4_711, 4_711, dec!(0), false),
        ];
        for (name, digits, multiplier, start, end, expected, rolled) in cases {
            let mut meter = segment(1, 0, None);
            (meter.digits, meter.multiplier) = (digits, multiplier);
            let mut asked = question(0, 720, vec![meter]);
            asked.reads = vec![read(1, 0, start), read(1, 720, end)];
            let answer = usage(&asked).unwrap();
            assert_eq!(only(&answer).quantity.value, expected, "{name}");
            let Evidence::Reads { rolled_over, wraps_at, .. } = &only(&answer).evidence[0] else {
                panic!("{name}: evidence must be reads");
            };
            assert_eq!(*rolled_over, rolled, "{name}");
            assert_eq!(*wraps_at, dec!(10).powu(u64::from(digits)), "{name}");
        }
    }

    trait Powu {
        fn powu(self, n: u64) -> Decimal;
    }
    impl Powu for Decimal {
        fn powu(self, n: u64) -> Decimal {
            (0..n).fold(dec!(1), |product, _| product * self)
        }
    }

    #[test]
    fn two_swaps_in_a_period_sum_three_meters() {
        let mut first = segment(1, -10_000, Some(100));
        first.closing = Some(1_050);
        let mut second = segment(2, 101, Some(200));
        (second.opening, second.closing) = (Some(7), Some(27));
        let mut third = segment(3, 200, None);
        (third.opening, third.multiplier) = (Some(0), dec!(10));
        let mut asked = question(0, 720, vec![third, first, second]);
        // Reads of the second meter lie far from its bounds: the fitter's counts stand for them.
        asked.reads = vec![read(1, 0, 1_000), read(2, 150, 20), read(3, 719, 3)];
        let (one, three) = (MeterId::new(1), MeterId::new(3));
        assert_eq!(boundaries(&asked), [(one, at(0)), (three, at(720))], "fitters read the rest");
        let answer = usage(&asked).unwrap();
        assert_eq!(only(&answer).quantity, Quantity::new(dec!(100), Unit::CubicMetre));
        assert_eq!(only(&answer).evidence.len(), 3);
        assert_eq!(
            answer.flags,
            [Flag::SeveralMeters { count: 3 }, Flag::Unmetered { from: at(100), until: at(101) }]
        );
    }

    #[test]
    fn a_finer_read_and_another_unit_lose_nothing() {
        let mut meter = segment(1, -10, None);
        (meter.digits, meter.exponent) = (7, -2); // 99999.99 m3
        let mut asked = question(0, 720, vec![meter]);
        let mut start = read(1, 0, 99_999_995); // litres
        (start.value.exponent, start.value.unit) = (0, Unit::Litre);
        let mut end = read(1, 720, 3_000); // 3.000 m3
        end.value.exponent = -3;
        asked.reads = vec![start, end];
        let answer = usage(&asked).unwrap();
        assert_eq!(only(&answer).quantity.value, dec!(3.005));
        asked.unit = Unit::Litre;
        assert_eq!(only(&usage(&asked).unwrap()).quantity.value, dec!(3005));
    }

    #[test]
    fn every_missing_number_has_a_reason() {
        type Change = fn(&mut UsageQuestion);
        let cases: [(&str, Change); 12] = [
            ("missing_start_read", |q| q.reads.clear()),
            ("read_outside_tolerance", |q| q.reads[1].measured_at = at(690)),
            ("held_reads", |q| q.reads[1].held = true),
            ("no_meter", |q| q.installed.clear()),
            ("no_meter", |q| q.installed[0].during = segment(1, 900, None).during),
            ("negative_usage", |q| q.reads[1].value.count = 90),
            ("too_many_digits", |q| q.reads[1].value.count = 100_000_000),
            ("negative_read", |q| q.reads[0].value.count = -1),
            ("unit_mismatch", |q| q.unit = Unit::KilowattHour),
            ("unit_mismatch", |q| q.reads[0].value.unit = Unit::Pulse),
            ("impossible_register", |q| q.installed[0].multiplier = dec!(0)),
            ("open_service_period", |q| {
                q.service = model::InstantPeriod::new(at(0), None).unwrap();
            }),
        ];
        for (code, change) in cases {
            let mut asked = question(0, 720, vec![segment(1, -10_000, None)]);
            asked.reads = vec![read(1, 0, 100), read(1, 720, 130)];
            assert_eq!(only(&usage(&asked).unwrap()).quantity.value, dec!(30));
            change(&mut asked);
            assert_eq!(usage(&asked).unwrap_err().code(), code);
        }
        let mut asked = question(0, 720, vec![segment(1, -10_000, None)]);
        asked.reads = vec![read(1, 0, 100)];
        asked.tolerance = TimeDelta::hours(1_000);
        // With a tolerance that wide one read stands for both bounds: nothing was measured.
        assert_eq!(only(&usage(&asked).unwrap()).quantity.value, dec!(0));
    }

    #[test]
    fn a_fall_within_the_meters_power_is_a_rollover_and_any_other_is_not() {
        // 8 digits, 5 m3/h, 720 h: at most 3605 m3 in the month.
        let cases = [(99_999_000, 500, true), (99_990_000, 500, false), (1_000, 999, false)];
        for (start, end, believed) in cases {
            let mut meter = segment(1, -10_000, None);
            meter.hourly_max = Some(dec!(5));
            let mut asked = question(0, 720, vec![meter]);
            asked.reads = vec![read(1, 0, start), read(1, 720, end)];
            assert_eq!(usage(&asked).is_ok(), believed, "{start} -> {end}");
        }
    }

    #[test]
    fn more_than_the_meter_can_pass_is_remarked() {
        let mut meter = segment(1, -10_000, None);
        (meter.hourly_max, meter.multiplier) = (Some(dec!(5)), dec!(2));
        let mut asked = question(0, 720, vec![meter]);
        asked.reads = vec![read(1, 0, 0), read(1, 720, 3_606)];
        assert_eq!(
            usage(&asked).unwrap().flags,
            [Flag::AboveMeterMaximum {
                meter: MeterId::new(1),
                usage: Quantity::new(dec!(7212), Unit::CubicMetre),
                most: Quantity::new(dec!(7210), Unit::CubicMetre),
            }]
        );
    }

    #[test]
    fn the_next_bill_begins_where_the_last_one_ended_whatever_came_late() {
        let mut asked = question(0, 720, vec![segment(1, -10_000, None)]);
        let billed = read(1, -5, 95);
        asked.billed_until = vec![EvidenceRead {
            meter: billed.meter,
            register: billed.register,
            measured_at: billed.measured_at,
            count: billed.value.count,
            exponent: billed.value.exponent,
            unit: billed.value.unit,
            quality: billed.quality,
        }];
        // The read at the very boundary arrived after the previous bill was written.
        asked.reads = vec![billed, read(1, 0, 100), read(1, 720, 130)];
        let answer = usage(&asked).unwrap();
        assert_eq!(only(&answer).quantity.value, dec!(35));
        assert_eq!(answer.flags, [Flag::OpensWhereBilled { meter: MeterId::new(1) }]);
    }
}
