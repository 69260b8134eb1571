//! From rated usage to bills.
//!
//! In: agreements with their determinants, the rate versions in force, what block windows have
//! used. Out: drafts whose sums are proven, accounts put aside with a reason, and a bill's working
//! in words.
//! Never here: SQL, the wall clock, register arithmetic (`determinants`), prices (`rating`),
//! payments (`receivables`).
//!
//! A bill lives as a [`Draft`], then [`Issued`], perhaps [`Cancelled`]; nothing is ever edited.
//! Its id follows from what it is for, so a repeated run writes the same bill.

mod bill;
mod bill_id;
mod draft;
mod explain;
mod hold;
mod split;

pub use bill::{
    Bill, BillError, BillKey, BillKind, BillLine, BillNumber, Cancelled, Contents, DayShare, Draft,
    Issued, LedgerTotal, Segment, TierAppend, TierHolder, VersionRef,
};
pub use draft::{
    AgreementInput, BillInput, OutsortReason, TariffVersion, WindowUsed, draft_bill, windows_of,
};
pub use explain::{Labels, explain};
pub use hold::{Completeness, ExcuseReason, Excused, Hold, HoldReason};
