//! The rules as a table of named checks, and the walk over it.
//!
//! In: a [`Candidate`]. Out: the rules that speak, as a verdict.
//! Never here: parameters' defaults (see `rules`), sentences for people (see `explain`).

use crate::{Fit, Limits, Rules, Severity, fit};
use chrono::{DateTime, TimeDelta, Utc};
use model::{Measure, ReadQuality, RegisterRead, RuleSet, Unit, VeeRule, Verdict};
use rust_decimal::Decimal;

/// Which clock a read's instant comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DatedBy {
    /// The meter's own.
    Meter,
    /// The network's or ours, at reception: the frame has no usable clock.
    Reception,
}

/// A read with everything the rules may look at.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The read.
    pub read: &'a RegisterRead,
    /// Which clock its instant comes from.
    pub dated_by: DatedBy,
    /// When it reached us.
    pub received_at: DateTime<Utc>,
    /// An accepted read of the same register, measured earlier; the nearest one known.
    pub before: Option<&'a RegisterRead>,
    /// An accepted read of the same register, measured later; the nearest one known.
    pub after: Option<&'a RegisterRead>,
    /// What the registry says of the meter.
    pub limits: &'a Limits<'a>,
}

/// How a read goes with the accepted reads next to it; worked out once for all rules that ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbours {
    /// With the one before it.
    pub before: Fit,
    /// With the one after it.
    pub after: Fit,
}

/// One rule: its name and the question it asks. `true` means it speaks.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// The name.
    pub rule: VeeRule,
    /// The question.
    pub speaks: fn(&Candidate<'_>, Neighbours, &Rules) -> bool,
}

/// Every rule that looks at one read, in the order a clerk would ask.
pub const CHECKS: &[Check] = &[
    Check { rule: VeeRule::FutureTime, speaks: future_time },
    Check { rule: VeeRule::AbsurdTime, speaks: absurd_time },
    Check { rule: VeeRule::BeforeInstallation, speaks: before_installation },
    Check { rule: VeeRule::AfterRemoval, speaks: after_removal },
    Check { rule: VeeRule::NegativeValue, speaks: negative_value },
    Check { rule: VeeRule::TooManyDigits, speaks: too_many_digits },
    Check { rule: VeeRule::UnitMismatch, speaks: unit_mismatch },
    Check { rule: VeeRule::BackwardsRegister, speaks: backwards_register },
    Check { rule: VeeRule::Rollover, speaks: rollover },
    Check { rule: VeeRule::Spike, speaks: spike },
    Check { rule: VeeRule::MeterFault, speaks: meter_fault },
    Check { rule: VeeRule::Late, speaks: late },
    Check { rule: VeeRule::NoMeterTime, speaks: no_meter_time },
];

/// What the read is worth: refused if a refusing rule spoke, held if a holding one did, accepted
/// otherwise; in each case with every rule that spoke (R011).
#[must_use]
pub fn judge(candidate: &Candidate<'_>, rules: &Rules) -> Verdict {
    let neighbours = neighbours(candidate, rules);
    let mut spoke = RuleSet::EMPTY;
    let mut worst = Severity::Off;
    for check in CHECKS {
        let severity = rules.severity(check.rule);
        if severity > Severity::Off && (check.speaks)(candidate, neighbours, rules) {
            spoke = spoke.with(check.rule);
            worst = worst.max(severity);
        }
    }
    match worst {
        Severity::Off | Severity::Remark => Verdict::Accepted { flags: spoke },
        Severity::Hold => Verdict::Held { failed: spoke },
        Severity::Refuse => Verdict::Refused { failed: spoke },
    }
}

/// The read was measured later than it arrived, beyond what a clock may run ahead.
fn future_time(candidate: &Candidate<'_>, _: Neighbours, rules: &Rules) -> bool {
    let ahead = candidate.read.measured_at - candidate.received_at;
    ahead > TimeDelta::seconds(i64::from(rules.future_time.tolerance_s))
}

/// The read is older than anything believable: a meter whose clock was never set.
fn absurd_time(candidate: &Candidate<'_>, _: Neighbours, rules: &Rules) -> bool {
    age(candidate) > TimeDelta::days(i64::from(rules.absurd_time.older_than_d))
}

/// The meter was not installed anywhere yet, or never was.
fn before_installation(candidate: &Candidate<'_>, _: Neighbours, _: &Rules) -> bool {
    let at = candidate.read.measured_at;
    candidate.limits.installed.iter().all(|place| at < place.during.from())
}

/// The meter had been removed. The instant of removal itself still belongs to the meter: that is
/// when its last read is taken.
fn after_removal(candidate: &Candidate<'_>, _: Neighbours, _: &Rules) -> bool {
    let at = candidate.read.measured_at;
    let mut started =
        candidate.limits.installed.iter().filter(|place| place.during.from() <= at).peekable();
    started.peek().is_some()
        && started.all(|place| place.during.until().is_some_and(|until| at > until))
}

/// A register that only counts up shows less than nothing. Combined energy (组合有功) may.
fn negative_value(candidate: &Candidate<'_>, _: Neighbours, _: &Rules) -> bool {
    let measure = candidate.read.register.measure;
    measure.is_cumulative() && measure != Measure::EnergyCombined && candidate.read.value.count < 0
}

/// The register shows more than its digits can.
fn too_many_digits(candidate: &Candidate<'_>, _: Neighbours, _: &Rules) -> bool {
    let (limits, read) = (candidate.limits, candidate.read);
    limits.cover(read)
        && limits.wraps_at.is_some_and(|wraps_at| {
            // what does not even fit 28 digits has too many of them
            limits.amount(read.value).is_none_or(|amount| amount >= wraps_at)
        })
}

/// The commodity's register counts in something the meter is not registered with: electricity
/// from a water meter, energy in GJ from a meter kept in kWh. A heat meter may also report its
/// volume, and a pulse counter anything.
fn unit_mismatch(candidate: &Candidate<'_>, _: Neighbours, _: &Rules) -> bool {
    let registered = candidate.limits.unit.base().0;
    let reported = candidate.read.value.unit.base().0;
    let volume_of_an_energy_meter = || {
        reported == Unit::Litre.base().0
            && (registered == Unit::WattHour.base().0 || registered == Unit::Joule.base().0)
    };
    is_commodity(candidate.read.register.measure)
        && registered != Unit::Pulse.base().0
        && registered != reported
        && !volume_of_an_energy_meter()
}

/// Whether the measure is what some utility delivers and bills.
fn is_commodity(measure: Measure) -> bool {
    [
        Measure::Volume,
        Measure::EnergyImport,
        Measure::EnergyCombined,
        Measure::Heat,
        Measure::Cold,
        Measure::Mass,
    ]
    .contains(&measure)
}

/// The register shows less than before (or more than afterwards), and no rollover explains it.
fn backwards_register(_: &Candidate<'_>, neighbours: Neighbours, _: &Rules) -> bool {
    [neighbours.before, neighbours.after].contains(&Fit::Backwards)
}

/// The register passed its last digit and began again since the read before.
fn rollover(_: &Candidate<'_>, neighbours: Neighbours, _: &Rules) -> bool {
    neighbours.before == Fit::RolledOver
}

/// More has passed since the read before, or until the read after, than the meter can pass.
fn spike(candidate: &Candidate<'_>, neighbours: Neighbours, _: &Rules) -> bool {
    candidate.limits.hourly_max > Decimal::ZERO
        && [neighbours.before, neighbours.after].contains(&Fit::Spike)
}

/// The meter reports a fault that touches its measurement.
fn meter_fault(candidate: &Candidate<'_>, _: Neighbours, _: &Rules) -> bool {
    candidate.read.quality == ReadQuality::Suspect
}

/// The read was long on its way.
fn late(candidate: &Candidate<'_>, _: Neighbours, rules: &Rules) -> bool {
    age(candidate) > TimeDelta::seconds(i64::from(rules.late.older_than_s))
}

/// The frame has no usable clock: the time of reception stands in.
fn no_meter_time(candidate: &Candidate<'_>, _: Neighbours, _: &Rules) -> bool {
    candidate.dated_by == DatedBy::Reception
}

fn age(candidate: &Candidate<'_>) -> TimeDelta {
    candidate.received_at - candidate.read.measured_at
}

/// How the read goes with the one before and the one after it.
fn neighbours(candidate: &Candidate<'_>, rules: &Rules) -> Neighbours {
    let (read, limits) = (candidate.read, candidate.limits);
    let fits = |earlier: &RegisterRead, later: &RegisterRead| {
        fit(earlier, later, limits, &rules.rollover, &rules.spike)
    };
    Neighbours {
        before: candidate.before.map_or(Fit::Unknown, |before| fits(before, read)),
        after: candidate.after.map_or(Fit::Unknown, |after| fits(read, after)),
    }
}
