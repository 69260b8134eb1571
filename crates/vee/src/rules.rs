//! The rules' parameters: what a utility may set, with defaults that work.
//!
//! In: a settings file. Out: [`Rules`], every unit in the name of its key.
//! Never here: how a rule decides (see `checks`).

use model::VeeRule;
use serde::{Deserialize, Serialize};

/// What happens to a read a rule speaks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The rule does not speak.
    Off,
    /// The read is accepted and carries a remark.
    Remark,
    /// The read is kept, but not billed until a person or a later read decides.
    Hold,
    /// The read cannot be one of this register; it is put aside with its raw frame.
    Refuse,
}

/// A rule without parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Always {
    /// What happens to the read.
    pub severity: Severity,
}

/// `future_time`: measured later than the clock of reception allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FutureTime {
    /// What happens to the read.
    pub severity: Severity,
    /// How far a meter's clock may run ahead.
    pub tolerance_s: u32,
}

/// `absurd_time`: measured so long before reception that only a meter without a set clock says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AbsurdTime {
    /// What happens to the read.
    pub severity: Severity,
    /// The greatest believable age.
    pub older_than_d: u32,
}

/// `late`: measured long before it arrived, but believable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Late {
    /// What happens to the read.
    pub severity: Severity,
    /// From which age on a read is late.
    pub older_than_s: u32,
}

/// `spike`: more in the time than the meter can pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spike {
    /// What happens to the read.
    pub severity: Severity,
    /// How much of the meter's highest hourly passage is believed, in percent.
    pub margin_percent: u32,
    /// Two reads closer together count as this far apart: clocks of meters are coarse.
    pub elapsed_at_least_s: u32,
}

/// `rollover`: the register passed its last digit and began again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rollover {
    /// What happens to the read.
    pub severity: Severity,
    /// The most of the register's range that may have passed over the wrap, in percent. A decrease
    /// that would mean more is a register that ran backwards, however long ago the last read is.
    pub range_at_most_percent: u32,
}

macro_rules! defaults {
    ($($name:ident { $($field:ident: $value:expr),* $(,)? })*) => {
        $(impl Default for $name {
            fn default() -> Self {
                Self { $($field: $value),* }
            }
        })*
    };
}

defaults! {
    FutureTime { severity: Severity::Refuse, tolerance_s: 900 }
    AbsurdTime { severity: Severity::Refuse, older_than_d: 3660 }
    Late { severity: Severity::Remark, older_than_s: 172_800 }
    Spike { severity: Severity::Hold, margin_percent: 150, elapsed_at_least_s: 3600 }
    Rollover { severity: Severity::Remark, range_at_most_percent: 50 }
}

/// Every rule's parameters. Unknown keys are refused; what is left out keeps its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Measured later than the server's clock allows.
    pub future_time: FutureTime,
    /// Older than anything believable.
    pub absurd_time: AbsurdTime,
    /// Measured before the meter was installed anywhere.
    pub before_installation: Always,
    /// Measured after the meter was removed.
    pub after_removal: Always,
    /// More digits than the register has.
    pub too_many_digits: Always,
    /// A negative count on a register that only counts up.
    pub negative_value: Always,
    /// The unit is not the one the meter is registered with.
    pub unit_mismatch: Always,
    /// Lower than an earlier read, and no rollover explains it.
    pub backwards_register: Always,
    /// The register passed its last digit and began again.
    pub rollover: Rollover,
    /// More in the time than the meter can pass.
    pub spike: Spike,
    /// The meter itself flags its measurement.
    pub meter_fault: Always,
    /// Measured long before it arrived.
    pub late: Late,
    /// The frame has no usable clock.
    pub no_meter_time: Always,
}

impl Default for Rules {
    fn default() -> Self {
        let always = |severity| Always { severity };
        Self {
            future_time: FutureTime::default(),
            absurd_time: AbsurdTime::default(),
            before_installation: always(Severity::Hold),
            after_removal: always(Severity::Hold),
            too_many_digits: always(Severity::Refuse),
            negative_value: always(Severity::Refuse),
            unit_mismatch: always(Severity::Hold),
            backwards_register: always(Severity::Hold),
            rollover: Rollover::default(),
            spike: Spike::default(),
            meter_fault: always(Severity::Remark),
            late: Late::default(),
            no_meter_time: always(Severity::Remark),
        }
    }
}

impl Rules {
    /// What happens to a read `rule` speaks about. A conflict is always refused: a stored value is
    /// never overwritten.
    #[must_use]
    pub const fn severity(&self, rule: VeeRule) -> Severity {
        match rule {
            VeeRule::FutureTime => self.future_time.severity,
            VeeRule::BeforeInstallation => self.before_installation.severity,
            VeeRule::AfterRemoval => self.after_removal.severity,
            VeeRule::BackwardsRegister => self.backwards_register.severity,
            VeeRule::Rollover => self.rollover.severity,
            VeeRule::TooManyDigits => self.too_many_digits.severity,
            VeeRule::Spike => self.spike.severity,
            VeeRule::Conflict => Severity::Refuse,
            VeeRule::NegativeValue => self.negative_value.severity,
            VeeRule::UnitMismatch => self.unit_mismatch.severity,
            VeeRule::MeterFault => self.meter_fault.severity,
            VeeRule::Late => self.late.severity,
            VeeRule::AbsurdTime => self.absurd_time.severity,
            VeeRule::NoMeterTime => self.no_meter_time.severity,
        }
    }
}
