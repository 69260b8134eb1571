//! The trade's nouns, shared by every room.
//!
//! In: nothing. Out: identifiers, half-open periods, registers and their reads, verdicts, the
//! registry snapshot, billing determinants, exact quantities and money, the working-day calendar,
//! and the one place that reads the wall clock.
//! Never here: sockets, files, SQL, wire formats, tariff rules, floats.

pub mod calendar;
pub mod clock;
mod commodity;
mod determinant;
mod ids;
mod money;
mod period;
mod quantity;
mod read;
mod register;
mod registry;
mod verdict;

pub use calendar::WorkingDayCalendar;
pub use commodity::{Commodity, UnknownCommodity};
pub use determinant::{BillingDeterminant, DeterminantKind, Evidence, EvidenceRead};
pub use ids::{
    AccountId, AgreementId, BillId, BookId, CustomerId, CycleId, HouseholdId, IdOutOfRange,
    MeterId, OrganisationId, ScheduleId, ScheduleVersionId, ServicePointId,
};
pub use money::{Money, MoneyError, Price, Rounding, RoundingMode};
pub use period::{EmptyPeriod, InstantPeriod, Period};
pub use quantity::{Quantity, QuantityError, Unit, UnknownUnit};
pub use read::{EventKind, MeterEvent, ReadQuality, RegisterRead};
pub use register::{Measure, Register, RegisterParseError, RegisterValue, ValueError};
pub use registry::{
    DeviceKey, DeviceKeyParseError, InstalledMeter, LorawanSession, MeterEntry, RegistrySnapshot,
    SecretKey, SnapshotError,
};
pub use verdict::{RuleSet, VeeRule, Verdict};
