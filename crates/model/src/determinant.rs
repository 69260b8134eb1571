//! Billing determinants: the numbers a rate schedule asks for, with what they rest on.
//!
//! In: nothing. Out: named quantities with their evidence.
//! Never here: how they are worked out (see `determinants`), what they cost (see `rating`).

use crate::{MeterId, Quantity, ReadQuality, Register, RegisterValue};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What a determinant is. Written in snake case in schedule files and `rate --ndjson`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeterminantKind {
    /// Usage over the service period, all tariffs.
    Usage,
    /// Usage in the sharp-peak (尖) hours.
    UsageSharp,
    /// Usage in the peak (峰) hours.
    UsagePeak,
    /// Usage in the flat (平) hours.
    UsageFlat,
    /// Usage in the valley (谷) hours.
    UsageValley,
    /// Usage in the deep-valley (深谷) hours.
    UsageDeepValley,
    /// Reactive energy over the period.
    ReactiveUsage,
    /// Reactive energy flowing back; billed by its absolute value.
    ReactiveReverse,
    /// Highest demand in the period.
    MaximumDemand,
    /// Contracted capacity.
    ContractedCapacity,
    /// Nominal calibre of the meter, in mm.
    MeterCalibre,
    /// People registered to the household.
    Persons,
    /// Planned use per person.
    PlannedPerPerson,
    /// Average use of the previous year or years, for a capacity base.
    PreviousAverage,
    /// Quota (计划用水) for over-quota multiples.
    Quota,
    /// Dwelling units behind one meter.
    Dwellings,
    /// Meters behind the agreement.
    Meters,
    /// The part of the usage that stands outside the blocks (first read of a new meter,
    /// back-charge), where the schedule lets it.
    UsageOutsideTiers,
}

impl DeterminantKind {
    /// Every kind there is, in the order of declaration.
    pub const ALL: &[DeterminantKind] = &[
        DeterminantKind::Usage,
        DeterminantKind::UsageSharp,
        DeterminantKind::UsagePeak,
        DeterminantKind::UsageFlat,
        DeterminantKind::UsageValley,
        DeterminantKind::UsageDeepValley,
        DeterminantKind::ReactiveUsage,
        DeterminantKind::ReactiveReverse,
        DeterminantKind::MaximumDemand,
        DeterminantKind::ContractedCapacity,
        DeterminantKind::MeterCalibre,
        DeterminantKind::Persons,
        DeterminantKind::PlannedPerPerson,
        DeterminantKind::PreviousAverage,
        DeterminantKind::Quota,
        DeterminantKind::Dwellings,
        DeterminantKind::Meters,
        DeterminantKind::UsageOutsideTiers,
    ];

    /// The name in schedule files, in `rate --ndjson` and in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            DeterminantKind::Usage => "usage",
            DeterminantKind::UsageSharp => "usage_sharp",
            DeterminantKind::UsagePeak => "usage_peak",
            DeterminantKind::UsageFlat => "usage_flat",
            DeterminantKind::UsageValley => "usage_valley",
            DeterminantKind::UsageDeepValley => "usage_deep_valley",
            DeterminantKind::ReactiveUsage => "reactive_usage",
            DeterminantKind::ReactiveReverse => "reactive_reverse",
            DeterminantKind::MaximumDemand => "maximum_demand",
            DeterminantKind::ContractedCapacity => "contracted_capacity",
            DeterminantKind::MeterCalibre => "meter_calibre",
            DeterminantKind::Persons => "persons",
            DeterminantKind::PlannedPerPerson => "planned_per_person",
            DeterminantKind::PreviousAverage => "previous_average",
            DeterminantKind::Quota => "quota",
            DeterminantKind::Dwellings => "dwellings",
            DeterminantKind::Meters => "meters",
            DeterminantKind::UsageOutsideTiers => "usage_outside_tiers",
        }
    }
}

impl std::fmt::Display for DeterminantKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A read a determinant rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceRead {
    /// The meter.
    pub meter: MeterId,
    /// Its register.
    pub register: Register,
    /// When it showed the value.
    pub measured_at: DateTime<Utc>,
    /// The count the register showed.
    pub count: i64,
    /// The power of ten of the count.
    pub exponent: i8,
    /// The unit.
    pub unit: crate::Unit,
    /// How the value came to be.
    pub quality: ReadQuality,
}

impl EvidenceRead {
    /// The value the register showed.
    #[must_use]
    pub const fn value(&self) -> RegisterValue {
        RegisterValue::new(self.count, self.exponent, self.unit)
    }
}

/// What a determinant rests on, so that a bill can be followed back to the frames.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Evidence {
    /// Two reads of one meter; several entries for a period with a swap.
    Reads {
        /// The read at the start.
        start: EvidenceRead,
        /// The read at the end.
        end: EvidenceRead,
        /// Whether the register rolled over between them.
        rolled_over: bool,
        /// The value at which the register begins again at zero, in the reads' unit: 100000 for
        /// five digits without decimals.
        wraps_at: rust_decimal::Decimal,
        /// The multiplier (倍率) applied.
        multiplier: rust_decimal::Decimal,
    },
    /// A fact of the registry (people, calibre, contracted capacity).
    Registry {
        /// What it is and since when, in words.
        note: String,
    },
    /// Given from outside (`tidemark rate --ndjson`).
    Given,
}

/// One number a rate schedule asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillingDeterminant {
    /// Which number.
    pub kind: DeterminantKind,
    /// How much.
    pub quantity: Quantity,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_determinants_name_is_the_name_it_is_written_with() {
        for (place, kind) in DeterminantKind::ALL.iter().enumerate() {
            assert_eq!(serde_json::to_string(kind).unwrap(), format!("\"{kind}\""));
            assert_eq!(*kind as usize, place, "{kind} is listed where it is declared");
        }
    }
}
