//! What customers owe.
//!
//! In: issued bills as plain values, the working-day calendar. Out: open items with due dates.
//! Never here: how a bill came about (`billing`), SQL, the wall clock.
//!
//! So far an open item can be raised; payments, allocation, late fees, ageing and dunning are not
//! built yet.

mod open_item;

pub use open_item::{IssuedBill, LedgerAmount, OpenItem, OpenItemError, PaymentTerms, open_item};
