//! Cases and laws of the rules. In: reads as a clerk would write them. Out: verdicts by name.
//! Never here: how the rules are implemented.

use crate::{CHECKS, Candidate, DatedBy, Language, Limits, Rules, Severity, explain, judge};
use chrono::{DateTime, TimeDelta, Utc};
use model::{
    InstalledMeter, InstantPeriod, Measure, MeterEntry, MeterId, ReadQuality, Register,
    RegisterRead, RegisterValue, ServicePointId, Unit, VeeRule, Verdict,
};
use proptest::prelude::*;
use rust_decimal::Decimal;
use rust_decimal_macros::dec;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Five digits of m3 and three after the point, 5 m3 an hour, installed through 2026.
fn meter() -> MeterEntry {
    let during = InstantPeriod::new(at("2026-01-01T00:00:00Z"), Some(at("2027-01-01T00:00:00Z")));
    MeterEntry {
        meter: MeterId::new(1),
        devices: vec![],
        profile: "native".to_owned(),
        key: None,
        lorawan: None,
        register_digits: 8,
        register_exponent: -3,
        register_unit: Unit::CubicMetre,
        hourly_max: dec!(5),
        pulse_weight: None,
        installed: vec![InstalledMeter {
            service_point: ServicePointId::new(1),
            during: during.unwrap(),
        }],
    }
}

fn litres(count: i64, measured_at: &str) -> RegisterRead {
    RegisterRead {
        register: Register::VOLUME,
        value: RegisterValue::new(count, -3, Unit::CubicMetre),
        measured_at: at(measured_at),
        quality: ReadQuality::Actual,
    }
}

fn verdict(
    entry: &MeterEntry,
    read: RegisterRead,
    before: Option<RegisterRead>,
    after: Option<RegisterRead>,
) -> Verdict {
    let limits = Limits::of(entry);
    let candidate = Candidate {
        read: &read,
        dated_by: DatedBy::Meter,
        received_at: read.measured_at + TimeDelta::seconds(5),
        before: before.as_ref(),
        after: after.as_ref(),
        limits: &limits,
    };
    judge(&candidate, &Rules::default())
}

/// `accepted`, `accepted: late`, `held: spike`.
fn say(verdict: Verdict) -> String {
    let rules = verdict.rules().to_string();
    let word = match verdict {
        Verdict::Accepted { .. } => "accepted",
        Verdict::Held { .. } => "held",
        Verdict::Refused { .. } => "refused",
    };
    if rules.is_empty() { word.to_owned() } else { format!("{word}: {rules}") }
}

#[test]
fn a_read_is_compared_with_the_one_before_it() {
    let before = litres(10_000, "2026-03-01T00:00:00Z");
    let cases = [
        (10_000, "2026-03-01T01:00:00Z", "accepted"),
        (15_000, "2026-03-01T01:00:00Z", "accepted"),
        (17_500, "2026-03-01T01:00:00Z", "accepted"),
        (17_501, "2026-03-01T01:00:00Z", "held: spike"),
        (17_500, "2026-03-01T00:00:01Z", "accepted"),
        (17_501, "2026-03-01T02:00:00Z", "accepted"),
        (9_999, "2026-03-01T01:00:00Z", "held: backwards_register"),
        (0, "2026-03-01T01:00:00Z", "held: backwards_register"),
        (0, "2026-12-31T01:00:00Z", "held: backwards_register"),
    ];
    for (count, when, want) in cases {
        let got = say(verdict(&meter(), litres(count, when), Some(before), None));
        assert_eq!(got, want, "{count} at {when}");
    }
}

#[test]
fn a_settlement_day_register_may_jump_but_not_fall() {
    let settled = |storage, count, when| {
        let read = litres(count, when);
        RegisterRead { register: read.register.storage(storage), ..read }
    };
    // (storage, first, then, an hour later; verdict)
    let cases = [
        (0, 10_000, 310_000, "held: spike"),
        (1, 10_000, 310_000, "accepted"),
        (12, 10_000, 310_000, "accepted"),
        (1, 10_000, 10_000, "accepted"),
        (1, 310_000, 309_999, "held: backwards_register"),
        (0, 99_990_000, 250_000, "held: backwards_register"),
        (1, 99_990_000, 250_000, "accepted: rollover"),
        (1, 10_000, 100_000_000, "refused: too_many_digits"),
        (1, 10_000, -1, "refused: backwards_register, negative_value"),
    ];
    for (storage, first, then, want) in cases {
        let before = settled(storage, first, "2026-03-31T23:00:00Z");
        let read = settled(storage, then, "2026-04-01T00:00:00Z");
        let got = say(verdict(&meter(), read, Some(before), None));
        assert_eq!(got, want, "storage {storage}: {first}, then {then}");
        if want == "accepted" {
            let late = say(verdict(&meter(), before, None, Some(read)));
            assert_eq!(late, want, "storage {storage}: {first} after {then}");
        }
    }
}

#[test]
fn a_late_read_is_compared_with_the_one_after_it() {
    let after = litres(10_000, "2026-03-01T00:00:00Z");
    let cases = [
        (10_000, "2026-02-28T23:00:00Z", "accepted"),
        (2_500, "2026-02-28T23:00:00Z", "accepted"),
        (2_499, "2026-02-28T23:00:00Z", "held: spike"),
        (10_001, "2026-02-28T23:00:00Z", "held: backwards_register"),
        (99_999_000, "2026-02-28T22:00:00Z", "accepted"),
    ];
    for (count, when, want) in cases {
        let got = say(verdict(&meter(), litres(count, when), None, Some(after)));
        assert_eq!(got, want, "{count} at {when}");
    }
}

#[test]
fn a_decrease_is_a_rollover_only_where_the_wrapped_usage_is_plausible() {
    // (digits, before, now, hours apart, verdict); counts of whole litres on a register of litres
    let cases = [
        (4, 9_990, 10, 1, "accepted: rollover"),
        (4, 9_990, 10, 10_000, "accepted: rollover"),
        (4, 5_000, 4_990, 10_000, "held: backwards_register"),
        (5, 99_000, 1_000, 1, "accepted: rollover"),
        (5, 92_499, 0, 1, "held: backwards_register"),
        (5, 92_500, 0, 1, "accepted: rollover"),
        (8, 99_999_999, 0, 1, "accepted: rollover"),
        (8, 500_000, 0, 1, "held: backwards_register"),
        (12, 999_999_999_999, 7, 24, "accepted: rollover"),
        (18, 999_999_999_999_999_999, 7, 24, "accepted: rollover"),
        (0, 9_990, 10, 1, "held: backwards_register"),
    ];
    for (digits, before, now, hours, want) in cases {
        let entry = MeterEntry { register_digits: digits, ..meter() };
        let before = litres(before, "2026-01-02T00:00:00Z");
        let mut read = litres(now, "2026-01-02T00:00:00Z");
        read.measured_at += TimeDelta::hours(hours.min(8_700));
        let got = say(verdict(&entry, read, Some(before), None));
        assert_eq!(got, want, "{digits} digits: {before:?} to {now} in {hours} h");
    }
}

#[test]
fn a_read_is_dated_within_reason_and_within_its_installation() {
    let limits_of = meter();
    let limits = Limits::of(&limits_of);
    let cases = [
        ("2026-03-01T00:15:00Z", "2026-03-01T00:00:00Z", "accepted"),
        ("2026-03-01T00:15:01Z", "2026-03-01T00:00:00Z", "refused: future_time"),
        ("2026-03-01T00:00:00Z", "2026-03-03T00:00:01Z", "accepted: late"),
        (
            "2000-01-01T00:00:00Z",
            "2026-03-01T00:00:00Z",
            "refused: before_installation, late, absurd_time",
        ),
        ("2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z", "held: before_installation"),
        ("2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z", "accepted"),
        ("2027-01-01T00:00:01Z", "2027-01-01T00:00:00Z", "held: after_removal"),
    ];
    for (measured, received, want) in cases {
        let read = litres(1, measured);
        let candidate = Candidate {
            read: &read,
            dated_by: DatedBy::Meter,
            received_at: at(received),
            before: None,
            after: None,
            limits: &limits,
        };
        assert_eq!(say(judge(&candidate, &Rules::default())), want, "{measured}");
    }
    let stock = MeterEntry { installed: vec![], ..meter() };
    let got = say(verdict(&stock, litres(1, "2026-03-01T00:00:00Z"), None, None));
    assert_eq!(got, "held: before_installation");
}

#[test]
fn a_value_fits_its_register() {
    let read = |measure, count, exponent, unit| RegisterRead {
        register: Register::of(measure),
        value: RegisterValue::new(count, exponent, unit),
        ..litres(0, "2026-03-01T00:00:00Z")
    };
    let cases = [
        (read(Measure::Volume, 99_999_999, -3, Unit::CubicMetre), "accepted"),
        (read(Measure::Volume, 100_000_000, -3, Unit::CubicMetre), "refused: too_many_digits"),
        (read(Measure::Volume, 99_999_999, 0, Unit::Litre), "accepted"),
        (read(Measure::Volume, i64::MAX, 12, Unit::CubicMetre), "refused: too_many_digits"),
        (read(Measure::Volume, -1, 0, Unit::Litre), "refused: negative_value"),
        (read(Measure::EnergyImport, 1, 0, Unit::KilowattHour), "held: unit_mismatch"),
        (read(Measure::Temperature, -5, 0, Unit::DegreeCelsius), "accepted"),
        (read(Measure::BatteryVoltage, 36, -1, Unit::Volt), "accepted"),
    ];
    for (read, want) in cases {
        assert_eq!(say(verdict(&meter(), read, None, None)), want, "{read:?}");
    }
    let heat = MeterEntry { register_unit: Unit::KilowattHour, ..meter() };
    let volume = read(Measure::Volume, 1, 0, Unit::CubicMetre);
    assert_eq!(say(verdict(&heat, volume, None, None)), "accepted");
    let joule = read(Measure::Heat, 1, 0, Unit::Gigajoule);
    assert_eq!(say(verdict(&heat, joule, None, None)), "held: unit_mismatch");
    let combined = read(Measure::EnergyCombined, -1, 0, Unit::KilowattHour);
    assert_eq!(
        say(verdict(
            &heat,
            combined,
            Some(read(Measure::EnergyCombined, 5, 0, Unit::KilowattHour)),
            None
        )),
        "accepted"
    );
}

#[test]
fn a_fault_and_a_missing_clock_are_remarks() {
    let entry = meter();
    let limits = Limits::of(&entry);
    let read = RegisterRead { quality: ReadQuality::Suspect, ..litres(1, "2026-03-01T00:00:00Z") };
    let candidate = Candidate {
        read: &read,
        dated_by: DatedBy::Reception,
        received_at: read.measured_at,
        before: None,
        after: None,
        limits: &limits,
    };
    assert_eq!(say(judge(&candidate, &Rules::default())), "accepted: meter_fault, no_meter_time");
    let mut rules = Rules::default();
    rules.meter_fault.severity = Severity::Hold;
    rules.no_meter_time.severity = Severity::Off;
    assert_eq!(say(judge(&candidate, &rules)), "held: meter_fault");
}

#[test]
fn every_rule_is_in_the_table_or_needs_the_store_and_has_its_sentences() {
    let rules = Rules::default();
    for rule in VeeRule::ALL.iter().copied() {
        let checked = CHECKS.iter().filter(|check| check.rule == rule).count();
        assert_eq!(checked, usize::from(rule != VeeRule::Conflict), "{}", rule.name());
        assert_ne!(rules.severity(rule), Severity::Off, "{}", rule.name());
        let (zh, en) = (explain(rule, &rules, Language::Zh), explain(rule, &rules, Language::En));
        assert!(!zh.is_ascii() && en.is_ascii(), "{zh} {en}");
    }
}

#[test]
fn settings_name_their_units_and_refuse_what_they_do_not_know() {
    let rules: Rules =
        serde_json::from_str(r#"{"spike":{"margin_percent":120},"late":{"severity":"off"}}"#)
            .unwrap();
    assert_eq!(rules.spike.margin_percent, 120);
    assert_eq!(rules.spike.severity, Severity::Hold);
    assert_eq!(rules.late.severity, Severity::Off);
    let error = serde_json::from_str::<Rules>(r#"{"spike":{"margin":1}}"#).unwrap_err();
    assert!(error.to_string().contains("unknown field `margin`"), "{error}");
}

/// Reads as they arrive: each is judged against the nearest accepted ones, as a store would.
fn accepted_in_order(entry: &MeterEntry, reads: &[RegisterRead]) -> Vec<DateTime<Utc>> {
    let mut accepted: Vec<RegisterRead> = vec![];
    for read in reads {
        let nearest = |later: bool| {
            accepted
                .iter()
                .filter(|other| (other.measured_at > read.measured_at) == later)
                .min_by_key(|other| (other.measured_at - read.measured_at).abs())
                .copied()
        };
        if let Verdict::Accepted { .. } = verdict(entry, *read, nearest(false), nearest(true)) {
            accepted.push(*read);
        }
    }
    accepted.sort_by_key(|read| read.measured_at);
    accepted.iter().map(|read| read.measured_at).collect()
}

/// True reads of one meter: from `start`, hourly usages in litres, wrapping at the last digit.
fn true_reads(digits: u8, start: i64, usages: &[i64]) -> Vec<RegisterRead> {
    let wrap = 10_i64.pow(u32::from(digits));
    let mut total = start;
    let mut when = at("2026-02-01T00:00:00Z");
    let mut reads = vec![];
    for usage in usages {
        total += usage;
        when += TimeDelta::hours(1);
        reads.push(RegisterRead {
            measured_at: when,
            ..litres(total.rem_euclid(wrap), "2026-02-01T00:00:00Z")
        });
    }
    reads
}

proptest! {
    #[test]
    fn true_reads_are_accepted_in_any_order_of_arrival(
        digits in 6u8..=15,
        start in 0i64..1_000_000_000,
        usages in proptest::collection::vec(0i64..5_000, 1..40),
        shuffle in proptest::collection::vec(any::<u32>(), 40),
    ) {
        let entry = MeterEntry { register_digits: digits, ..meter() };
        let reads = true_reads(digits, start, &usages);
        let mut arrivals: Vec<_> = reads.iter().copied().zip(&shuffle).collect();
        arrivals.sort_by_key(|(_, key)| **key);
        let arrivals: Vec<_> = arrivals.into_iter().map(|(read, _)| read).collect();
        let all: Vec<_> = reads.iter().map(|read| read.measured_at).collect();
        prop_assert_eq!(accepted_in_order(&entry, &arrivals), all);
    }

    #[test]
    fn two_reads_that_do_not_fit_are_never_both_accepted(
        first in 0i64..100_000_000, second in 0i64..100_000_000, hours in 1i64..1000, second_first: bool,
    ) {
        let entry = meter();
        let early = litres(first, "2026-02-01T00:00:00Z");
        let mut later = litres(second, "2026-02-01T00:00:00Z");
        later.measured_at += TimeDelta::hours(hours);
        let both = accepted_in_order(&entry, &[early, later]);
        let swapped = accepted_in_order(&entry, &[later, early]);
        prop_assert_eq!(both.len(), swapped.len());
        if second_first { prop_assert!(!swapped.is_empty()); }
    }

    #[test]
    fn a_rollover_never_claims_more_than_the_meter_can_pass(
        digits in 1u8..=18, before in 0i64..i64::MAX, now in 0i64..i64::MAX, hours in 1i64..8_000,
    ) {
        let wrap = 10_i64.pow(u32::from(digits));
        let (before, now) = (before % wrap, now % wrap);
        prop_assume!(now < before);
        let entry = MeterEntry { register_digits: digits, ..meter() };
        let mut read = litres(now, "2026-01-02T00:00:00Z");
        read.measured_at += TimeDelta::hours(hours);
        let got = verdict(&entry, read, Some(litres(before, "2026-01-02T00:00:00Z")), None);
        let wrapped = i128::from(now) - i128::from(before) + i128::from(wrap);
        let plausible = wrapped <= i128::from(hours) * 7_500 && wrapped * 2 <= i128::from(wrap);
        prop_assert_eq!(got.rules().contains(VeeRule::Rollover), plausible);
        prop_assert_eq!(got.rules().contains(VeeRule::BackwardsRegister), !plausible);
    }

    #[test]
    fn judging_again_says_the_same_and_no_value_panics(
        count: i64, exponent in -12i8..=12, seconds in -100_000_000_000i64..100_000_000_000, hourly in 0i64..i64::MAX, digits: u8, register_exponent in -12i8..=12,
    ) {
        let entry = MeterEntry { register_digits: digits, register_exponent, hourly_max: Decimal::from(hourly), ..meter() };
        let read = RegisterRead {
            value: RegisterValue::new(count, exponent, Unit::Litre),
            measured_at: DateTime::from_timestamp(seconds, 0).unwrap(),
            ..litres(0, "2026-01-02T00:00:00Z")
        };
        let other = litres(5, "2026-01-02T00:00:00Z");
        prop_assert_eq!(verdict(&entry, read, Some(other), Some(other)), verdict(&entry, read, Some(other), Some(other)));
    }
}
