//! A small utility that exists only in arithmetic: its registry, its meters, two months of uplinks.
//!
//! In: a seed, a month, the addresses of a CoAP gateway and a broker. Out: the registry file; real
//! CoAP exchanges and MQTT publishes, sent until acknowledged; what the books must show after.
//! Never here: the code under test deciding what is right. Frames are built with `uplink`'s
//! encoders, but the expected counts and bills are worked out from the litres alone.
//!
//! Everything follows from the seed: two runs send the same bytes, so a run may be killed and
//! repeated, and its expectations can be computed without playing it.

pub mod books;
mod chance;
mod coap;
mod frames;
mod mqtt;
mod plan;
pub mod play;
mod registry;
mod utility;

pub use books::{Expected, expected};
pub use play::{PlayError, PlaySettings, Played, play};
pub use registry::registry_file;
pub use utility::{Months, MonthsError, Utility};
