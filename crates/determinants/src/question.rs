//! What is asked: which usage, of which meters, from which reads.
//!
//! In: facts of the registry and reads of the store, as plain values. Out: a [`UsageQuestion`].
//! Never here: how they were fetched, answers.

use chrono::{DateTime, TimeDelta, Utc};
use model::{
    DeterminantKind, EvidenceRead, InstantPeriod, MeterId, ReadQuality, Register, RegisterValue,
    Unit,
};
use rust_decimal::Decimal;

/// A meter at the agreement's service point for some time, with the register that is billed.
#[derive(Debug, Clone, PartialEq)]
pub struct MeterSegment {
    /// The meter.
    pub meter: MeterId,
    /// The register that is billed.
    pub register: Register,
    /// From when until when it hangs there.
    pub during: InstantPeriod,
    /// Digits of the register, all of them, the ones after the point included; 1 to 18.
    pub digits: u8,
    /// Power of ten of the register's last digit, in `unit`.
    pub exponent: i8,
    /// Unit of the register.
    pub unit: Unit,
    /// Multiplier (倍率) between register and usage: instrument transformers, pulse ratio.
    pub multiplier: Decimal,
    /// What the fitter read when the meter was installed, in counts of the register.
    pub opening: Option<i64>,
    /// What the fitter read when it was removed, in counts of the register.
    pub closing: Option<i64>,
    /// The most the meter can pass in an hour, in `unit`, before the multiplier; tells a rollover
    /// from a register that ran backwards. Without it half the register's range decides.
    pub hourly_max: Option<Decimal>,
}

/// A stored read near a boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CandidateRead {
    /// The meter.
    pub meter: MeterId,
    /// Its register.
    pub register: Register,
    /// When it showed the value.
    pub measured_at: DateTime<Utc>,
    /// What it showed.
    pub value: RegisterValue,
    /// How the value came to be.
    pub quality: ReadQuality,
    /// Whether validation holds the read back: it explains a missing boundary, it never bills.
    pub held: bool,
}

/// Which usage is asked for. Reads of other meters or registers are ignored.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageQuestion {
    /// Which determinant the answer becomes: total usage, or that of one tariff.
    pub kind: DeterminantKind,
    /// The unit the schedule prices.
    pub unit: Unit,
    /// From when until when; must have an end.
    pub service: InstantPeriod,
    /// The meters of the agreement, those outside the service period too.
    pub installed: Vec<MeterSegment>,
    /// Reads near the bounds, in any order.
    pub reads: Vec<CandidateRead>,
    /// Per meter, the read the previous bill ended with. It opens this period whatever arrived
    /// late since, so that consecutive bills neither lose nor repeat a litre.
    pub billed_until: Vec<EvidenceRead>,
    /// How far a read may lie from the boundary it stands for (R039), either side.
    pub tolerance: TimeDelta,
}
