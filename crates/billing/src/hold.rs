//! Accounts a run does not bill, and why: put aside for a person, or excused.
//!
//! In: reasons. Out: values for the outsort list and the run report.
//! Never here: what is done about them.

use model::{AccountId, MeterId, Quantity};
use std::borrow::Cow;

/// Why an account is put aside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldReason {
    /// A stable name for lists and counters: `missing_end_read`.
    pub code: Cow<'static, str>,
    /// What is wrong, for a clerk.
    pub message: String,
}

impl HoldReason {
    /// A reason with this code.
    #[must_use]
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }

    /// The meter passed more than it can.
    #[must_use]
    pub fn implausible_usage(meter: MeterId, usage: Quantity, most: Quantity) -> Self {
        Self::new(
            "implausible_usage",
            format!("meter {meter} shows a usage of {usage}, it can pass at most {most}"),
        )
    }
}

/// An account put aside (outsorted): it waits for a person, the run goes on (decision 9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The account.
    pub account: AccountId,
    /// Why.
    pub reason: HoldReason,
}

/// Why an active account rightly gets no bill in a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExcuseReason {
    /// No agreement at all.
    NoAgreement,
    /// Every agreement ended before the cycle.
    ClosedBefore,
    /// Every agreement begins after the cycle.
    OpensAfter,
}

impl ExcuseReason {
    /// Every reason.
    pub const ALL: &[ExcuseReason] =
        &[ExcuseReason::NoAgreement, ExcuseReason::ClosedBefore, ExcuseReason::OpensAfter];

    /// A stable name for lists and counters.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoAgreement => "no_agreement",
            Self::ClosedBefore => "closed_before_cycle",
            Self::OpensAfter => "opens_after_cycle",
        }
    }

    /// The reason with this name.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }
}

/// An account that rightly gets no bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excused {
    /// The account.
    pub account: AccountId,
    /// Why.
    pub reason: ExcuseReason,
}

/// How many accounts of a cycle ended in which way. Every one ends in exactly one (R086).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Completeness {
    /// Accounts of the books of the run.
    pub active: u64,
    /// Of these, have a live bill.
    pub billed: u64,
    /// Of these, wait for a person.
    pub held: u64,
    /// Of these, rightly have none.
    pub excused: u64,
}

impl Completeness {
    /// Whether active = billed + held + excused: nobody is silently unbilled.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.billed
            .checked_add(self.held)
            .and_then(|sum| sum.checked_add(self.excused))
            .is_some_and(|sum| sum == self.active)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_silently_unbilled() {
        let mut books = Completeness { active: 6, billed: 3, held: 2, excused: 1 };
        assert!(books.balances());
        books.active = 7;
        assert!(!books.balances());
        books.billed = u64::MAX;
        assert!(!books.balances());
    }
}
