//! Rating a service period: which version (or versions) are in force on its days.
//!
//! In: a schedule or one of its versions, a rating input. Out: charge lines, their sum, the use to
//! append to the tier ledger.
//! Never here: the clock; a version is chosen by service date alone (design decision 6).

use crate::{
    Determinants, PriceChange, Proration, Rated, RatingError, RatingInput, Schedule, Version,
    job::Job, window::WindowProblem,
};
use model::{DeterminantKind, MoneyError, Period, Quantity, Rounding};
use rust_decimal::Decimal;
use std::{num::NonZeroU32, sync::Arc};

/// Rates a service period with one version.
///
/// # Errors
/// When the period is not inside the version, a number is missing or absurd, or no case fits:
/// see [`RatingError`]. Nothing is ever rated in part.
pub fn rate(version: &Version, input: &RatingInput) -> Result<Rated, RatingError> {
    let service = input.service;
    if service.from() < version.valid_from
        || version.valid_until.is_some_and(|until| service.until() > until)
    {
        let (from, until) = (version.valid_from, version.valid_until);
        return Err(RatingError::OutsideVersion { service, from, until });
    }
    Job::new(version, input, Proration::WHOLE).run()
}

/// Rates a service period with the versions in force on its days.
pub(crate) fn rate_schedule(
    schedule: &Schedule,
    input: &RatingInput,
) -> Result<Rated, RatingError> {
    let service = input.service;
    let first = schedule.version_on(service.from())?;
    let Some(change) = first.valid_until.filter(|until| *until < service.until()) else {
        return Job::new(first, input, Proration::WHOLE).run();
    };
    match schedule.price_change() {
        PriceChange::Refuse => Err(RatingError::PriceChangeInside {
            schedule: schedule.name().to_owned(),
            on: change,
            service,
        }),
        PriceChange::VersionAtStart => Job::new(first, input, Proration::WHOLE).run(),
        PriceChange::VersionAtEnd => {
            let last_day = service.until().pred_opt().unwrap_or(service.from());
            Job::new(schedule.version_on(last_day)?, input, Proration::WHOLE).run()
        }
        PriceChange::ByDays => rate_by_days(schedule, input),
    }
}

/// Decimals of a usage or a bound that is parted by days; the parts of a usage add up exactly.
pub(crate) const PARTED: Rounding = Rounding { places: 3, mode: model::RoundingMode::HalfUp };

/// Parts the period where versions change; each part sees what the parts before it used.
fn rate_by_days(schedule: &Schedule, input: &RatingInput) -> Result<Rated, RatingError> {
    let all_days = NonZeroU32::new(input.service.days()).unwrap_or(NonZeroU32::MIN);
    let mut rated = Rated::default();
    let mut part = input.clone();
    let mut given = Determinants::new();
    let mut from = input.service.from();
    let mut days_so_far = 0;
    while from < input.service.until() {
        let version = schedule.version_on(from)?;
        let until = version
            .valid_until
            .map_or(input.service.until(), |until| until.min(input.service.until()));
        let Ok(service) = Period::new(from, until) else { break };
        days_so_far += service.days();
        part.service = service;
        for (kind, quantity) in input.determinants.iter() {
            if !adds_up_over_time(kind) {
                continue;
            }
            let overflow = || overflow(&schedule_item(version), MoneyError::Overflow);
            let up_to_here = if days_so_far >= all_days.get() {
                quantity.value
            } else {
                let product = quantity.value.checked_mul(Decimal::from(days_so_far));
                let share = product.and_then(|all| all.checked_div(Decimal::from(all_days.get())));
                PARTED.apply_decimal(share.ok_or_else(overflow)?)
            };
            let before = given.get(kind).map_or(Decimal::ZERO, |quantity| quantity.value);
            let value = up_to_here.checked_sub(before).ok_or_else(overflow)?;
            given.set(kind, Quantity::new(up_to_here, quantity.unit));
            part.determinants.set(kind, Quantity::new(value, quantity.unit));
        }
        let share = Proration { numerator: service.days(), denominator: all_days };
        let this = Job::new(version, &part, share).run()?;
        part.window_used.extend(this.tier_usage.iter().cloned());
        rated.lines.extend(this.lines);
        rated.tier_usage.extend(this.tier_usage);
        rated.total = rated
            .total
            .checked_add(this.total)
            .map_err(|source| overflow(&schedule_item(version), source))?;
        from = until;
    }
    Ok(rated)
}

pub(crate) fn schedule_item(version: &Version) -> Arc<str> {
    version.items.first().map_or_else(|| Arc::from(""), |item| item.facts.id.clone())
}

/// Whether two halves of a period have two halves of it (usage) or the same twice (persons).
pub(crate) const fn adds_up_over_time(kind: DeterminantKind) -> bool {
    match kind {
        DeterminantKind::Usage
        | DeterminantKind::UsageSharp
        | DeterminantKind::UsagePeak
        | DeterminantKind::UsageFlat
        | DeterminantKind::UsageValley
        | DeterminantKind::UsageDeepValley
        | DeterminantKind::ReactiveUsage
        | DeterminantKind::ReactiveReverse
        | DeterminantKind::UsageOutsideTiers => true,
        DeterminantKind::MaximumDemand
        | DeterminantKind::ContractedCapacity
        | DeterminantKind::MeterCalibre
        | DeterminantKind::Persons
        | DeterminantKind::PlannedPerPerson
        | DeterminantKind::PreviousAverage
        | DeterminantKind::Quota
        | DeterminantKind::Dwellings
        | DeterminantKind::Meters => false,
    }
}

pub(crate) fn overflow(item: &Arc<str>, source: MoneyError) -> RatingError {
    RatingError::Overflow { item: item.clone(), source }
}

/// A window's problem, said of an item.
pub(crate) fn window_error(
    item: &Arc<str>,
    service: Period,
    problem: WindowProblem,
) -> RatingError {
    let item = item.clone();
    match problem {
        WindowProblem::Reaches(boundary) => RatingError::AcrossWindows { item, service, boundary },
        WindowProblem::NoStart => RatingError::MissingWindowStart { item },
        WindowProblem::Calendar => RatingError::Calendar { item, service },
    }
}
