//! Identifiers: one type per kind of thing, so that an account can never be taken for a meter.
//!
//! In: the integers the registry hands out. Out: small copyable ids.
//! Never here: how ids are allocated.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An id read from outside that does not fit the id's range `0..=u32::MAX`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {value} is out of range")]
pub struct IdOutOfRange {
    /// Which kind of id.
    pub kind: &'static str,
    /// What came in.
    pub value: i64,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u32);

        impl $name {
            /// The id with this number.
            #[must_use]
            pub const fn new(number: u32) -> Self {
                Self(number)
            }

            /// The number itself, as stored in both databases.
            #[must_use]
            pub const fn number(self) -> u32 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$name> for i64 {
            fn from(id: $name) -> i64 {
                i64::from(id.0)
            }
        }

        impl TryFrom<i64> for $name {
            type Error = IdOutOfRange;
            fn try_from(value: i64) -> Result<Self, IdOutOfRange> {
                u32::try_from(value).map(Self).map_err(|_| IdOutOfRange { kind: $kind, value })
            }
        }
    };
}

id!(
    /// A meter (表), whatever service point it hangs at.
    MeterId, "meter");
id!(
    /// An account (户号): who is billed.
    AccountId, "account");
id!(
    /// A customer: the person or company behind one or more accounts.
    CustomerId, "customer");
id!(
    /// A household: the unit whose usage fills one tier window, over one or more meters.
    HouseholdId, "household");
id!(
    /// A service point: where a commodity is delivered and metered.
    ServicePointId, "service point");
id!(
    /// A service agreement: an account takes a commodity at a service point under a schedule.
    AgreementId, "service agreement");
id!(
    /// A book (抄表册): accounts read and billed together.
    BookId, "book");
id!(
    /// A cycle: one billing period of a book.
    CycleId, "cycle");
id!(
    /// The utility or one of its branches.
    OrganisationId, "organisation");
id!(
    /// A rate schedule: the published tariff, over all its versions.
    ScheduleId, "rate schedule");
id!(
    /// A rate version: the text of a schedule in force for a period.
    ScheduleVersionId, "rate version");

/// A bill. The number is derived from what the bill is for (account, cycle, kind, revision), so a
/// repeated run gives the same bill the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BillId(u128);

impl BillId {
    /// The bill with this 128-bit number.
    #[must_use]
    pub const fn new(number: u128) -> Self {
        Self(number)
    }

    /// The 128-bit number, stored as a UUID.
    #[must_use]
    pub const fn number(self) -> u128 {
        self.0
    }
}

impl fmt::Display for BillId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_from_the_database_is_checked_once() {
        assert_eq!(MeterId::try_from(7), Ok(MeterId::new(7)));
        assert_eq!(i64::from(MeterId::new(u32::MAX)), 4_294_967_295);
        let error = AccountId::try_from(-1).unwrap_err();
        assert_eq!(error.to_string(), "account -1 is out of range");
    }
}
