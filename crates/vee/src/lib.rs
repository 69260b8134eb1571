//! Validation: what a register read is worth.
//!
//! In: a read, what is known of its meter, the accepted reads next to it, the rules. Out: a
//! [`Verdict`] with the names of the rules that spoke.
//! Never here: sockets, SQL, the wall clock, money; estimating and editing come later.
//!
//! # What depends on the order of arrival
//!
//! Rules of the first kind look at one read, its meter and the time of its reception; they say the
//! same whatever arrived before: `future_time`, `absurd_time`, `before_installation`,
//! `after_removal`, `too_many_digits`, `negative_value`, `unit_mismatch`, `meter_fault`, `late`,
//! `no_meter_time`.
//!
//! Rules of the second kind compare a read with the accepted reads known at that moment, one
//! earlier and one later in measured time: `backwards_register`, `rollover`, `spike`. Two reads
//! either fit each other or they do not, whichever came first. Therefore:
//!
//! - reads that all fit each other are all accepted, in any order of arrival;
//! - of two that do not fit, the one that arrives second is held: which of them waits for a clerk
//!   depends on the order, that one of them does, does not;
//! - the flag `rollover` sits on the read that was the first to be compared across the wrap; it is
//!   a remark for people, usage is worked out from the values alone (see `determinants`).
//!
//! # Registers with a storage number
//!
//! A settlement-day register (`storage` above 0) shows what the running register stood at on a day
//! that has passed. It jumps once a month or year by design: `spike` never speaks of it.
//! `backwards_register` does: a settled value that falls is wrong, unless the running register had
//! passed its last digit, which `rollover` tells by the register's range alone. All rules of the
//! first kind apply as they are.
//!
//! `conflict` (another value is stored for the same meter, register and instant) needs the store
//! and is found by `ingest`; its explanation lives here with the others.

mod checks;
mod explain;
mod limits;
mod rules;

pub use checks::{CHECKS, Candidate, Check, DatedBy, Neighbours, judge};
pub use explain::{Language, explain};
pub use limits::{Fit, Limits, fit};
pub use rules::{AbsurdTime, Always, FutureTime, Late, Rollover, Rules, Severity, Spike};

#[cfg(doc)]
use model::Verdict;
#[cfg(test)]
mod tests;
