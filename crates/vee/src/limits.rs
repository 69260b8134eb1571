//! What a meter can show and pass, and whether two of its reads fit each other.
//!
//! In: a meter's entry in the registry, two values and the time between them. Out: [`Fit`].
//! Never here: which reads are compared (see `checks`), what follows from it.

use crate::{Rollover, Spike};
use chrono::{DateTime, Utc};
use model::{InstalledMeter, Measure, MeterEntry, RegisterRead, RegisterValue, Unit};
use rust_decimal::Decimal;

/// What the registry says of a meter's registers, in one unit.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    /// The unit of the billing register.
    pub unit: Unit,
    /// What the register cannot show any more, in `unit`: 100,000 for five digits of m3. `None`
    /// where the registry does not say or says more than 28 digits.
    pub wraps_at: Option<Decimal>,
    /// The most the meter can pass in an hour, in `unit`.
    pub hourly_max: Decimal,
    /// Where the meter is and was installed, oldest first.
    pub installed: &'a [InstalledMeter],
}

impl<'a> Limits<'a> {
    /// The limits of a meter, from its entry in the registry.
    #[must_use]
    pub fn of(entry: &'a MeterEntry) -> Self {
        let power = i32::from(entry.register_digits) + i32::from(entry.register_exponent);
        let wraps_at = (entry.register_digits > 0).then(|| power_of_ten(power)).flatten();
        Self {
            unit: entry.register_unit,
            wraps_at,
            hourly_max: entry.hourly_max,
            installed: &entry.installed,
        }
    }

    /// Whether width and hourly passage of the billing register say anything about `read`: a
    /// cumulative register of the same dimension. Combined energy (组合有功) may fall and is left
    /// out.
    #[must_use]
    pub fn cover(&self, read: &RegisterRead) -> bool {
        let measure = read.register.measure;
        measure.is_cumulative()
            && measure != Measure::EnergyCombined
            && read.value.unit.base().0 == self.unit.base().0
    }

    /// A value in the meter's unit, exactly; `None` when it is of another dimension or too large
    /// for 28 digits.
    #[must_use]
    pub fn amount(&self, value: RegisterValue) -> Option<Decimal> {
        value.in_unit(self.unit).ok()?.to_quantity().ok().map(|quantity| quantity.value)
    }

    /// The most the meter can have passed between two instants, in its unit, with the rule's
    /// margin; `None` when that is more than any register can show.
    #[must_use]
    pub fn passage_max(
        &self,
        earlier: DateTime<Utc>,
        later: DateTime<Utc>,
        spike: &Spike,
    ) -> Option<Decimal> {
        let elapsed_s = (later - earlier).num_seconds().max(i64::from(spike.elapsed_at_least_s));
        self.hourly_max
            .checked_mul(Decimal::from(elapsed_s))?
            .checked_mul(Decimal::from(spike.margin_percent))?
            .checked_div(Decimal::from(360_000))
    }
}

/// 10^`power` as an exact decimal.
fn power_of_ten(power: i32) -> Option<Decimal> {
    match u32::try_from(power) {
        Ok(power) => {
            10_i128.checked_pow(power).and_then(|n| Decimal::try_from_i128_with_scale(n, 0).ok())
        }
        Err(_) => Decimal::try_new(1, power.unsigned_abs()).ok(),
    }
}

/// How two reads of one register go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// The later one shows as much or more, and no more than the meter can have passed.
    Forward,
    /// The later one shows less because the register passed its last digit and began again.
    RolledOver,
    /// The later one shows less, and no rollover explains it.
    Backwards,
    /// The later one shows more than the meter can have passed.
    Spike,
    /// Nothing is known that would tell.
    Unknown,
}

/// How the read `later` goes with the read `earlier` of the same register.
///
/// A decrease is a rollover only when the usage over the wrap is within the meter's highest
/// passage for the elapsed time *and* within the rule's share of the register's range; otherwise
/// the register ran backwards. Where the registry knows no width, a decrease is always backwards.
///
/// A register with a storage number shows what another one stood at on a settlement day. It stands
/// still for a month or a year and then takes the whole of it in one step, so its passage says
/// nothing: it is never a [`Fit::Spike`], and its rollover is found by the range alone.
#[must_use]
pub fn fit(
    earlier: &RegisterRead,
    later: &RegisterRead,
    limits: &Limits<'_>,
    rollover: &Rollover,
    spike: &Spike,
) -> Fit {
    if !limits.cover(earlier) || !limits.cover(later) {
        return Fit::Unknown;
    }
    let (Some(from), Some(to)) = (limits.amount(earlier.value), limits.amount(later.value)) else {
        return Fit::Unknown;
    };
    let Some(usage) = to.checked_sub(from) else { return Fit::Unknown };
    let running = later.register.storage == 0;
    let most = running
        .then(|| limits.passage_max(earlier.measured_at, later.measured_at, spike))
        .flatten();
    let passable = |usage: Decimal| most.is_none_or(|most| usage <= most);
    if usage >= Decimal::ZERO {
        return if passable(usage) { Fit::Forward } else { Fit::Spike };
    }
    let Some(wraps_at) = limits.wraps_at else { return Fit::Backwards };
    let over_the_wrap = usage.checked_add(wraps_at).filter(|over| *over >= Decimal::ZERO);
    let share = wraps_at
        .checked_mul(Decimal::from(rollover.range_at_most_percent))
        .and_then(|product| product.checked_div(Decimal::ONE_HUNDRED));
    match (over_the_wrap, share) {
        (Some(over), Some(share)) if over <= share && passable(over) => Fit::RolledOver,
        (Some(_) | None, Some(_) | None) => Fit::Backwards,
    }
}
