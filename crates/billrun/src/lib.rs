//! Bill runs: plan ▸ read bounds ▸ determine ▸ rate ▸ outsort ▸ write ▸ report.
//!
//! In: books, a cycle, a cutoff; both stores, a clock. Out: bills, held and excused accounts in
//! Postgres; a report whose books balance; a bill's working in words.
//! Never here: SQL, arithmetic on reads (`determinants`), prices (`rating`), the contents of bills
//! (`billing`).
//!
//! # Invariants
//! - A run is a function of its cutoff and its rates: only reads stored up to the cutoff count,
//!   and an interrupted run is resumed with the cutoff it began with.
//! - Killed anywhere and started again, a run leaves the same bills: a page of accounts is written
//!   in one transaction, billed accounts are passed over, ids follow from what a bill is for.
//! - Nobody is silently unbilled: active = billed + held + excused, or the exit code is 1.

mod assemble;
mod bounds;
mod error;
mod explain;
mod prepare;
mod rate;
mod report;
mod run;
mod settings;
mod tariffs;

pub use error::{ExplainError, RunError};
pub use explain::{explain, explain_account};
pub use report::{BookBasis, RunReport};
pub use run::{Progress, RunRequest, Tell, run};
pub use settings::BillrunSettings;
pub use store_postgres::ItemSum;
