//! From registry rows and reads to questions, and from answers to the input of a bill.
//!
//! In: a billable agreement, the rate versions, reads near its bounds. Out: a usage question, an
//! agreement with its determinants, or why the account is put aside.
//! Never here: SQL, waiting; arithmetic on reads (`determinants`) or prices (`rating`).

use billing::{AgreementInput, HoldReason, TariffVersion};
use chrono::{NaiveDate, TimeDelta};
use determinants::{Flag, MeterSegment, NotDeterminable, UsageQuestion};
use model::{
    BillingDeterminant, Commodity, DeterminantKind, Evidence, Measure, Quantity, Register, Unit,
};
use rust_decimal::Decimal;
use store_postgres::{BillableAgreement, BillableMeter};

/// The register whose differences are usage.
pub(crate) const fn billing_register(commodity: Commodity) -> Register {
    match commodity {
        Commodity::Water | Commodity::Gas => Register::VOLUME,
        Commodity::Electricity => Register::of(Measure::EnergyImport),
        Commodity::Heat => Register::of(Measure::Heat),
        Commodity::Cold => Register::of(Measure::Cold),
    }
}

/// The unit usage is priced in: that of the version in force on the first day of service.
fn usage_unit(agreement: &BillableAgreement, versions: &[TariffVersion<'_>]) -> Option<Unit> {
    let day = agreement.service.from();
    versions
        .iter()
        .find(|version| version.from <= day && version.until.is_none_or(|until| day < until))
        .and_then(|version| version.schedule.version_on(day).ok())
        .map(|version| version.unit_of(DeterminantKind::Usage))
}

/// The usage question of an agreement, without reads yet. `None` when no tariff says in which
/// unit, or the period lies beyond the calendar: the account waits.
pub(crate) fn usage_question(
    agreement: &BillableAgreement,
    versions: &[TariffVersion<'_>],
    utc_offset_minutes: i32,
    tolerance: TimeDelta,
) -> Result<UsageQuestion, HoldReason> {
    let day = agreement.service.from();
    let unit = usage_unit(agreement, versions).ok_or_else(|| {
        let id = agreement.agreement;
        HoldReason::new(
            "missing_tariff",
            format!("agreement {id}: no usable rate version is in force on {day}"),
        )
    })?;
    let service =
        determinants::instants_of(agreement.service, utc_offset_minutes).ok_or_else(|| {
            HoldReason::new("calendar", format!("service {} is no time", agreement.service))
        })?;
    let register = billing_register(agreement.commodity);
    Ok(UsageQuestion {
        kind: DeterminantKind::Usage,
        unit,
        service,
        installed: agreement.meters.iter().map(|meter| segment(meter, register)).collect(),
        reads: Vec::new(),
        billed_until: agreement.meters.iter().flat_map(|m| m.billed_until.clone()).collect(),
        tolerance,
    })
}

fn segment(meter: &BillableMeter, register: Register) -> MeterSegment {
    MeterSegment {
        meter: meter.meter,
        register,
        during: meter.during,
        digits: meter.register_digits,
        exponent: meter.register_exponent,
        unit: meter.register_unit,
        multiplier: meter.multiplier,
        opening: Some(meter.opening_count),
        closing: meter.closing_count,
        hourly_max: Some(meter.hourly_max),
    }
}

/// Answers the question and puts aside what no reasonable meter could have passed.
pub(crate) fn determine(question: &UsageQuestion) -> Result<BillingDeterminant, Undetermined> {
    let determined = determinants::usage(question).map_err(Undetermined::NoRead)?;
    for flag in &determined.flags {
        match flag {
            Flag::AboveMeterMaximum { meter, usage, most } => {
                let reason = HoldReason::implausible_usage(*meter, *usage, *most);
                return Err(Undetermined::Implausible(reason));
            }
            Flag::RolledOver { .. }
            | Flag::SeveralMeters { .. }
            | Flag::Unmetered { .. }
            | Flag::NotActual { .. }
            | Flag::OpensWhereBilled { .. } => {}
        }
    }
    determined.determinants.into_iter().next().ok_or(Undetermined::NoRead(
        NotDeterminable::NoMeter { from: question.service.from(), until: question.service.from() },
    ))
}

/// Why an agreement has no usage.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Undetermined {
    /// A second look at the reads around may help or tell more.
    NoRead(NotDeterminable),
    /// The reads are there and say something unbelievable.
    Implausible(HoldReason),
}

impl From<Undetermined> for HoldReason {
    fn from(why: Undetermined) -> Self {
        match why {
            Undetermined::NoRead(reason) => HoldReason::new(reason.code(), reason.to_string()),
            Undetermined::Implausible(reason) => reason,
        }
    }
}

/// The agreement with its usage and the facts of the registry its schedule asks for.
pub(crate) fn agreement_input<'a>(
    agreement: &BillableAgreement,
    usage: BillingDeterminant,
    versions: Vec<TariffVersion<'a>>,
) -> AgreementInput<'a> {
    let asked = |kind: DeterminantKind| {
        versions
            .iter()
            .flat_map(|version| version.schedule.versions())
            .any(|version| version.asks_for().contains(&kind))
    };
    let mut determinants = vec![usage];
    determinants.extend(facts(agreement).into_iter().filter(|fact| asked(fact.kind)));
    AgreementInput {
        agreement: agreement.agreement,
        household: agreement.household.as_ref().map(|household| household.household),
        service: agreement.service,
        classes: vec![agreement.class.clone()],
        window_start: Some(agreement.from),
        determinants,
        versions,
    }
}

fn fact(kind: DeterminantKind, value: u64, unit: Unit, note: String) -> BillingDeterminant {
    BillingDeterminant {
        kind,
        quantity: Quantity::new(Decimal::from(value), unit),
        evidence: vec![Evidence::Registry { note }],
    }
}

/// What the registry knows of the agreement: people on the first day of service (the day decides,
/// as it does for prices), the calibre of the meter that hung there last, how many meters hung
/// there at the end.
fn facts(agreement: &BillableAgreement) -> Vec<BillingDeterminant> {
    let mut facts = Vec::new();
    if let Some((days, persons)) = persons_on(agreement, agreement.service.from()) {
        let note = format!("{persons} on {}", days.from().max(agreement.service.from()));
        facts.push(fact(DeterminantKind::Persons, u64::from(persons), Unit::Person, note));
    }
    let last = agreement.meters.iter().max_by_key(|meter| (meter.during.from(), meter.meter));
    if let Some((meter, calibre)) = last.and_then(|meter| Some((meter, meter.calibre_mm?))) {
        let note = format!("meter {}: DN {calibre}", meter.number);
        let value = u64::from(calibre);
        facts.push(fact(DeterminantKind::MeterCalibre, value, Unit::Millimetre, note));
    }
    let hanging = agreement.meters.iter().filter(|meter| {
        last.is_some_and(|last| meter.during.until().is_none_or(|until| until > last.during.from()))
    });
    let numbers: Vec<&str> = hanging.map(|meter| meter.number.as_str()).collect();
    if let Ok(count) = u64::try_from(numbers.len()) {
        facts.push(fact(DeterminantKind::Meters, count, Unit::Meter, numbers.join(", ")));
    }
    facts
}

fn persons_on(agreement: &BillableAgreement, day: NaiveDate) -> Option<(model::Period, u16)> {
    let persons = &agreement.household.as_ref()?.persons;
    persons.iter().find(|(days, _)| days.contains(day)).or_else(|| persons.first()).copied()
}
