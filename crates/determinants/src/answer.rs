//! What comes back: numbers with remarks, or the reason why there are none.
//!
//! In: nothing. Out: [`Determined`], [`NotDeterminable`].
//! Never here: how they are found (see `usage`), what is done about them (see `billing`).

use chrono::{DateTime, Utc};
use model::{BillingDeterminant, MeterId, Quantity, Register, RegisterValue, Unit};
use rust_decimal::Decimal;

/// The numbers, and what a clerk may want to know about them.
#[derive(Debug, Clone, PartialEq)]
pub struct Determined {
    /// One determinant per question asked, with the reads it rests on.
    pub determinants: Vec<BillingDeterminant>,
    /// Remarks, in the order of the meters.
    pub flags: Vec<Flag>,
}

/// A remark that does not stop a bill by itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Flag {
    /// The register passed its last digit and began again.
    RolledOver {
        /// The meter.
        meter: MeterId,
    },
    /// The usage is of several meters, one after the other or side by side.
    SeveralMeters {
        /// How many.
        count: usize,
    },
    /// No meter hung there for a part of the service period.
    Unmetered {
        /// Since when.
        from: DateTime<Utc>,
        /// Until when.
        until: DateTime<Utc>,
    },
    /// More than the meter can pass in the time.
    AboveMeterMaximum {
        /// The meter.
        meter: MeterId,
        /// What the reads say, multiplier applied.
        usage: Quantity,
        /// The most it could have been.
        most: Quantity,
    },
    /// A boundary rests on a read the meter itself reported with a fault, an estimate, or a read
    /// a person entered or edited.
    NotActual {
        /// The meter.
        meter: MeterId,
        /// Which boundary read.
        measured_at: DateTime<Utc>,
        /// How it came to be.
        quality: model::ReadQuality,
    },
    /// The period opens with the read the previous bill ended with.
    OpensWhereBilled {
        /// The meter.
        meter: MeterId,
    },
}

/// Why there is no number. Each reason has a stable [`code`](NotDeterminable::code) for the
/// outsort list.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotDeterminable {
    /// The service period has no end.
    #[error("the service period has no end")]
    OpenService,
    /// No meter hung at the service point at any time of the service period.
    #[error("no meter was installed between {from} and {until}")]
    NoMeter {
        /// Start of the service period.
        from: DateTime<Utc>,
        /// Its end.
        until: DateTime<Utc>,
    },
    /// There is no read at all for the start.
    #[error("meter {meter} has no {register} read for the start at {at}")]
    MissingStart {
        /// The meter.
        meter: MeterId,
        /// Its register.
        register: Register,
        /// The boundary.
        at: DateTime<Utc>,
    },
    /// There is no read at all for the end.
    #[error("meter {meter} has no {register} read for the end at {at}")]
    MissingEnd {
        /// The meter.
        meter: MeterId,
        /// Its register.
        register: Register,
        /// The boundary.
        at: DateTime<Utc>,
    },
    /// The nearest read lies further from the boundary than the tolerance.
    #[error(
        "meter {meter}: the nearest read to {at} is of {nearest}, more than {tolerance_s} s away"
    )]
    OutsideTolerance {
        /// The meter.
        meter: MeterId,
        /// The boundary.
        at: DateTime<Utc>,
        /// When the nearest read was measured.
        nearest: DateTime<Utc>,
        /// The tolerance, in seconds.
        tolerance_s: i64,
    },
    /// Validation holds back every read near the boundary.
    #[error("meter {meter}: every read near {at} is held, the nearest is of {nearest}")]
    HeldReads {
        /// The meter.
        meter: MeterId,
        /// The boundary.
        at: DateTime<Utc>,
        /// When the nearest held read was measured.
        nearest: DateTime<Utc>,
    },
    /// The register shows less than before, and no rollover explains it.
    #[error("meter {meter} fell from {start} to {end}, which no rollover explains")]
    Decrease {
        /// The meter.
        meter: MeterId,
        /// The read at the start.
        start: RegisterValue,
        /// The read at the end.
        end: RegisterValue,
    },
    /// A read has more digits than the register.
    #[error("meter {meter} shows {value}, more than its {digits} digits can")]
    TooManyDigits {
        /// The meter.
        meter: MeterId,
        /// The value that does not fit.
        value: RegisterValue,
        /// Digits of the register.
        digits: u8,
    },
    /// A read counts below zero.
    #[error("meter {meter} shows {value}, below zero")]
    Negative {
        /// The meter.
        meter: MeterId,
        /// The value.
        value: RegisterValue,
    },
    /// The register measures something else than the schedule prices.
    #[error("meter {meter} counts {from}, the schedule asks for {to}")]
    UnitMismatch {
        /// The meter.
        meter: MeterId,
        /// Unit of the register or of a read.
        from: Unit,
        /// Unit asked for.
        to: Unit,
    },
    /// The registry describes a register that cannot be.
    #[error("meter {meter} is registered with {digits} digits and multiplier {multiplier}")]
    ImpossibleRegister {
        /// The meter.
        meter: MeterId,
        /// Digits as registered.
        digits: u8,
        /// Multiplier as registered.
        multiplier: Decimal,
    },
    /// The number does not fit an exact decimal.
    #[error("the usage of meter {meter} does not fit an exact decimal")]
    Overflow {
        /// The meter.
        meter: MeterId,
    },
}

impl NotDeterminable {
    /// A stable name for lists and counters.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::OpenService => "open_service_period",
            Self::NoMeter { .. } => "no_meter",
            Self::MissingStart { .. } => "missing_start_read",
            Self::MissingEnd { .. } => "missing_end_read",
            Self::OutsideTolerance { .. } => "read_outside_tolerance",
            Self::HeldReads { .. } => "held_reads",
            Self::Decrease { .. } => "negative_usage",
            Self::TooManyDigits { .. } => "too_many_digits",
            Self::Negative { .. } => "negative_read",
            Self::UnitMismatch { .. } => "unit_mismatch",
            Self::ImpossibleRegister { .. } => "impossible_register",
            Self::Overflow { .. } => "overflow",
        }
    }
}
