//! Verdicts: what validation says of a read.
//!
//! In: names of rules that spoke. Out: accepted (perhaps with flags), held, or refused.
//! Never here: how a rule decides (see `vee`).

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $text:literal;)*) => {
        /// A validation rule. The discriminant is its bit in the stored set: never renumber.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[repr(u8)]
        pub enum VeeRule { $($(#[$doc])* $name = $bit,)* }

        impl VeeRule {
            /// Every rule there is.
            pub const ALL: &[VeeRule] = &[$(VeeRule::$name,)*];

            /// The name in output and settings.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(VeeRule::$name => $text,)* }
            }
        }
    };
}

rules! {
    /// Measured later than the server's clock allows.
    FutureTime = 0, "future_time";
    /// Measured before the meter was installed.
    BeforeInstallation = 1, "before_installation";
    /// Measured after the meter was removed.
    AfterRemoval = 2, "after_removal";
    /// Lower than an earlier read, and no rollover explains it.
    BackwardsRegister = 3, "backwards_register";
    /// The register passed its last digit and began again.
    Rollover = 4, "rollover";
    /// More digits than the register has.
    TooManyDigits = 5, "too_many_digits";
    /// More in the time than the meter can pass.
    Spike = 6, "spike";
    /// Another value is stored for the same meter, register and instant.
    Conflict = 7, "conflict";
    /// A negative count on a register that only counts up.
    NegativeValue = 8, "negative_value";
    /// The unit is not the one the meter is registered with.
    UnitMismatch = 9, "unit_mismatch";
    /// The meter itself flags its measurement.
    MeterFault = 10, "meter_fault";
    /// Measured long before it arrived.
    Late = 11, "late";
    /// Older than the oldest time anything is kept for.
    AbsurdTime = 12, "absurd_time";
    /// The frame has no usable clock: the time of reception stands in.
    NoMeterTime = 13, "no_meter_time";
}

/// A set of rules that spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RuleSet(u64);

impl RuleSet {
    /// No rule.
    pub const EMPTY: RuleSet = RuleSet(0);

    /// The set with `rule` in it.
    #[must_use]
    pub const fn with(self, rule: VeeRule) -> Self {
        Self(self.0 | 1 << (rule as u8))
    }

    /// Whether `rule` is in it.
    #[must_use]
    pub const fn contains(self, rule: VeeRule) -> bool {
        self.0 & (1 << (rule as u8)) != 0
    }

    /// Whether no rule is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The rules in it, in the order of their bits.
    pub fn iter(self) -> impl Iterator<Item = VeeRule> {
        VeeRule::ALL.iter().copied().filter(move |rule| self.contains(*rule))
    }

    /// The bits as stored.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The set with these stored bits; bits of rules nobody here knows are kept.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl FromIterator<VeeRule> for RuleSet {
    fn from_iter<I: IntoIterator<Item = VeeRule>>(rules: I) -> Self {
        rules.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Display for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, rule) in self.iter().enumerate() {
            if n > 0 {
                f.write_str(", ")?;
            }
            f.write_str(rule.name())?;
        }
        Ok(())
    }
}

/// What validation says of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Good enough to bill; `flags` are remarks a clerk may want to see.
    Accepted {
        /// Rules that spoke without objecting.
        flags: RuleSet,
    },
    /// Kept, not billed until a person (or a later read) decides.
    Held {
        /// Rules that objected, and remarks.
        failed: RuleSet,
    },
    /// Cannot be a read of this register at all; kept, never billed.
    Refused {
        /// Rules that objected.
        failed: RuleSet,
    },
}

impl Verdict {
    /// The code stored in ClickHouse: 0 accepted, 1 held, 2 refused.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Accepted { .. } => 0,
            Self::Held { .. } => 1,
            Self::Refused { .. } => 2,
        }
    }

    /// The rules behind it.
    #[must_use]
    pub const fn rules(self) -> RuleSet {
        match self {
            Self::Accepted { flags } => flags,
            Self::Held { failed } | Self::Refused { failed } => failed,
        }
    }

    /// The verdict with this stored code and rules; `None` for an unknown code.
    #[must_use]
    pub const fn from_code(code: u8, rules: RuleSet) -> Option<Self> {
        match code {
            0 => Some(Self::Accepted { flags: rules }),
            1 => Some(Self::Held { failed: rules }),
            2 => Some(Self::Refused { failed: rules }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_rules_reads_aloud() {
        let set = RuleSet::EMPTY.with(VeeRule::Spike).with(VeeRule::Late);
        assert_eq!(set.to_string(), "spike, late");
        assert_eq!(RuleSet::from_bits(set.bits()), set);
        assert_eq!(set.iter().collect::<RuleSet>(), set);
        assert!(set.contains(VeeRule::Late) && !set.contains(VeeRule::Conflict));
    }

    #[test]
    fn a_verdict_reads_back_from_its_code() {
        let failed = RuleSet::EMPTY.with(VeeRule::Conflict);
        for verdict in [
            Verdict::Accepted { flags: RuleSet::EMPTY },
            Verdict::Held { failed },
            Verdict::Refused { failed },
        ] {
            assert_eq!(Verdict::from_code(verdict.code(), verdict.rules()), Some(verdict));
        }
        assert_eq!(Verdict::from_code(9, RuleSet::EMPTY), None);
    }
}
