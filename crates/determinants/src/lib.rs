//! From boundary reads to the numbers a rate schedule asks for.
//!
//! In: the service period, the meters installed in it, the reads near its bounds. Out: billing
//! determinants with the reads they rest on, remarks, or the reason why there is no number.
//! Never here: prices, tiers, SQL, the wall clock; which reads are believed is decided in `vee`.
//!
//! A number is a value, and so is its absence: [`NotDeterminable`] is what the outsort list shows.
//! Every boundary is answered by a function of the installed meter and the instant alone
//! ([`pick`]), so a period cut anywhere gives the same sum.

mod answer;
mod pick;
mod question;
mod service;
mod usage;

pub use answer::{Determined, Flag, NotDeterminable};
pub use pick::{Boundary, Picked, pick};
pub use question::{CandidateRead, MeterSegment, UsageQuestion};
pub use service::{instants_of, service_period};
pub use usage::{boundaries, usage};

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod properties;
