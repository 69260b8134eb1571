//! A bill and its three lives: draft, issued, cancelled.
//!
//! In: segments that are rated already. Out: a bill whose sums are proven.
//! Never here: rating, SQL, the wall clock; numbers are allocated at issue by the store.

use crate::bill_id::bill_id;
use chrono::NaiveDate;
use model::{
    AccountId, AgreementId, BillId, BillingDeterminant, HouseholdId, Money, MoneyError, Period,
    Price, Quantity, ScheduleVersionId,
};
use rating::Proration;
use std::sync::Arc;

/// Why a bill is written. At most one live bill per account, cycle and kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BillKind {
    /// The bill of a cycle.
    Regular,
    /// The last bill of an account that closes within the cycle.
    Final,
}

impl BillKind {
    /// Every kind.
    pub const ALL: &[BillKind] = &[BillKind::Regular, BillKind::Final];

    /// The name in tables and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Regular => "regular",
            Self::Final => "final",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// What a bill is for. The bill's id follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BillKey {
    /// Who is billed.
    pub account: AccountId,
    /// The days of the cycle.
    pub cycle: Period,
    /// Why.
    pub kind: BillKind,
    /// 0 for the first bill; one more for every bill that replaces a cancelled one.
    pub revision: u16,
}

impl BillKey {
    /// The id every run gives this bill.
    #[must_use]
    pub fn id(&self) -> BillId {
        bill_id(self)
    }
}

/// A charge line as it is kept: with its working in words, so that the bill can be read when the
/// schedule is long gone (R004).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillLine {
    /// The item: id, ledger account, labels.
    pub item: Arc<rating::ItemFacts>,
    /// The rule that made the line, in words: `block 2 of 3`.
    pub clause: String,
    /// The block (tier) from 1, where there is one.
    pub tier: Option<u8>,
    /// How much was priced.
    pub quantity: Quantity,
    /// What one unit costs.
    pub price: Price,
    /// The share of pricing periods.
    pub proration: Proration,
    /// The unrounded product.
    pub exact: Money,
    /// What is billed.
    pub amount: Money,
    /// The days of service the line is for.
    pub service: Period,
    /// First day of the rate version that made the line.
    pub version_from: NaiveDate,
    /// The arithmetic in words: `20 m3 × 1.62 yuan/m3 = 32.40`.
    pub working: String,
}

impl From<&rating::ChargeLine> for BillLine {
    fn from(line: &rating::ChargeLine) -> Self {
        Self {
            item: Arc::clone(&line.item),
            clause: line.clause.to_string(),
            tier: line.tier,
            quantity: line.quantity,
            price: line.price,
            proration: line.proration,
            exact: line.exact,
            amount: line.amount,
            service: line.service,
            version_from: line.version_from,
            working: line.working().to_string(),
        }
    }
}

/// The version of a schedule a segment was rated with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRef {
    /// Its id.
    pub version: ScheduleVersionId,
    /// SHA-256 of its text.
    pub hash: [u8; 32],
}

/// The named rule for a rate version that changes inside a service period: usage is parted by
/// days, cumulatively, so that the parts add up to the whole exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayShare {
    /// Days of service under this version.
    pub days: u32,
    /// Days of service in all.
    pub of_days: u32,
    /// The usage of the whole service period.
    pub whole: Quantity,
}

/// What a segment used of a block window: a row for the append-only tier ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierAppend {
    /// Whose window: the household, or the agreement alone where there is none.
    pub holder: TierHolder,
    /// The item's id in the schedule.
    pub item: Arc<str>,
    /// The window.
    pub window: Period,
    /// How much of it.
    pub quantity: Quantity,
}

/// Whose usage fills a block window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TierHolder {
    /// A household, over one or more agreements (golden H6).
    Household(HouseholdId),
    /// One agreement on its own.
    Agreement(AgreementId),
}

/// The charge lines of one agreement for one service period.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// The agreement.
    pub agreement: AgreementId,
    /// The days of service.
    pub service: Period,
    /// The rate version it was rated with.
    pub version: VersionRef,
    /// Where the rate version changed inside the service period: the share of the usage that
    /// falls to these days.
    pub share: Option<DayShare>,
    /// The numbers that were priced, with what they rest on.
    pub determinants: Vec<BillingDeterminant>,
    /// The priced items.
    pub lines: Vec<BillLine>,
    /// The sum of the lines' amounts.
    pub total: Money,
    /// What goes to the tier ledger.
    pub tier_appends: Vec<TierAppend>,
}

/// The part of a bill that goes to one ledger account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerTotal {
    /// The ledger account.
    pub ledger_account: String,
    /// The sum of its lines.
    pub amount: Money,
}

/// A bill that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BillError {
    /// A segment's lines do not add up to its total.
    #[error("agreement {agreement}: lines add up to {sum}, the segment says {total}")]
    SegmentDoesNotAddUp {
        /// The agreement.
        agreement: AgreementId,
        /// What the lines add up to.
        sum: Money,
        /// What the segment says.
        total: Money,
    },
    /// The amounts do not fit an exact decimal.
    #[error("the amounts cannot be added")]
    Amount(#[from] MoneyError),
}

/// A bill's contents; every life of a bill has the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Contents {
    key: BillKey,
    segments: Vec<Segment>,
    ledger_totals: Vec<LedgerTotal>,
    total: Money,
}

impl Contents {
    /// What the bill is for.
    #[must_use]
    pub const fn key(&self) -> &BillKey {
        &self.key
    }

    /// The bill's id.
    #[must_use]
    pub fn id(&self) -> BillId {
        self.key.id()
    }

    /// The segments, one per agreement and service period.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The lines of all segments.
    pub fn lines(&self) -> impl Iterator<Item = &BillLine> {
        self.segments.iter().flat_map(|segment| &segment.lines)
    }

    /// The total per ledger account, in the order the accounts first appear.
    #[must_use]
    pub fn ledger_totals(&self) -> &[LedgerTotal] {
        &self.ledger_totals
    }

    /// The sum of all lines.
    #[must_use]
    pub const fn total(&self) -> Money {
        self.total
    }
}

/// A bill that is not issued yet: it may be thrown away and written again.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft(Contents);

impl Draft {
    /// The bill of these segments; totals are sums of rounded lines and never round.
    ///
    /// # Errors
    /// When a segment's lines do not add up to its total, or sums do not fit.
    pub fn new(key: BillKey, segments: Vec<Segment>) -> Result<Self, BillError> {
        let mut ledger_totals: Vec<LedgerTotal> = Vec::new();
        let mut total = Money::ZERO;
        for segment in &segments {
            let mut sum = Money::ZERO;
            for line in &segment.lines {
                sum = sum.checked_add(line.amount)?;
                let name = &line.item.ledger_account;
                match ledger_totals.iter_mut().find(|part| part.ledger_account == *name) {
                    Some(part) => part.amount = part.amount.checked_add(line.amount)?,
                    None => ledger_totals
                        .push(LedgerTotal { ledger_account: name.clone(), amount: line.amount }),
                }
            }
            if sum != segment.total {
                return Err(BillError::SegmentDoesNotAddUp {
                    agreement: segment.agreement,
                    sum,
                    total: segment.total,
                });
            }
            total = total.checked_add(sum)?;
        }
        Ok(Self(Contents { key, segments, ledger_totals, total }))
    }

    /// What is in it.
    #[must_use]
    pub const fn contents(&self) -> &Contents {
        &self.0
    }

    /// The bill under its number. From here on it is only ever cancelled, never edited.
    #[must_use]
    pub fn issue(self, number: BillNumber, issued_on: NaiveDate) -> Issued {
        Issued { contents: self.0, number, issued_on }
    }
}

/// The serial number of an issued bill, gap-free per series; allocated by the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BillNumber(pub String);

/// A bill the customer has.
#[derive(Debug, Clone, PartialEq)]
pub struct Issued {
    contents: Contents,
    number: BillNumber,
    issued_on: NaiveDate,
}

impl Issued {
    /// What is in it.
    #[must_use]
    pub const fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> &BillNumber {
        &self.number
    }

    /// The day it was issued.
    #[must_use]
    pub const fn issued_on(&self) -> NaiveDate {
        self.issued_on
    }

    /// The bill, no longer owed. Its number stays taken.
    #[must_use]
    pub fn cancel(self, reason: String, cancelled_on: NaiveDate) -> Cancelled {
        Cancelled { issued: self, reason, cancelled_on }
    }
}

/// A bill that was issued and is no longer owed.
#[derive(Debug, Clone, PartialEq)]
pub struct Cancelled {
    issued: Issued,
    reason: String,
    cancelled_on: NaiveDate,
}

impl Cancelled {
    /// The bill as it was issued.
    #[must_use]
    pub const fn issued(&self) -> &Issued {
        &self.issued
    }

    /// Why it was cancelled.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The day it was cancelled.
    #[must_use]
    pub const fn cancelled_on(&self) -> NaiveDate {
        self.cancelled_on
    }

    /// What replaces it: the same bill, one revision later.
    #[must_use]
    pub fn next_key(&self) -> Option<BillKey> {
        let key = *self.issued.contents.key();
        Some(BillKey { revision: key.revision.checked_add(1)?, ..key })
    }
}

/// A bill in any of its lives.
#[derive(Debug, Clone, PartialEq)]
pub enum Bill {
    /// Not issued yet.
    Draft(Draft),
    /// Owed.
    Issued(Issued),
    /// No longer owed.
    Cancelled(Cancelled),
}

impl Bill {
    /// What is in it.
    #[must_use]
    pub const fn contents(&self) -> &Contents {
        match self {
            Self::Draft(draft) => draft.contents(),
            Self::Issued(issued) => issued.contents(),
            Self::Cancelled(cancelled) => cancelled.issued().contents(),
        }
    }
}
