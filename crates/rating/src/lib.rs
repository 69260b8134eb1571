//! Rate schedules, and the charge lines they make of billing determinants.
//!
//! In: the text of a rate schedule (`docs/rate-schedules.md`), billing determinants of one service
//! period, what is already used of each block window. Out: charge lines that show their working,
//! a total, what to append to the tier ledger; or an error that names the place.
//! Never here: the clock, sockets, files, SQL, reads, bills and their numbers, late fees.
//!
//! The one law (design decision 5): a window is rated cumulatively and the difference is billed,
//! so that splitting a period never changes the sum of its exact amounts.
//!
//! ```
//! let schedule = rating::Schedule::parse(include_str!(
//!     "../../../deploy/schedules/beijing-household-2014.toml"
//! ))?;
//! let answer = rating::ndjson::rate_line(
//!     &schedule,
//!     r#"{"service":{"from":"2026-03-01","until":"2026-04-01"},"usage":"35","window_used":{"water":"160"}}"#,
//! );
//! assert!(answer.contains(r#""total":"205.00""#), "{answer}");
//! # Ok::<(), rating::ScheduleError>(())
//! ```

mod blocks;
mod error;
mod file;
mod input;
mod job;
mod line;
pub mod ndjson;
mod power_factor;
mod rate;
mod read_items;
mod read_version;
mod rules;
mod schedule;
mod window;

pub use error::{Problem, RatingError, ScheduleError};
pub use input::{Determinants, RatingInput, WindowUse};
pub use line::{ChargeLine, Clause, ItemFacts, Proration, Rated, Working};
pub use rate::rate;
pub use schedule::{PriceChange, Schedule, Version};
