//! The one place that reads the wall clock.
//!
//! In: nothing, or a fixed instant in tests. Out: "now", handed on as an argument.
//! Never here: local time zones; a utility's offset is a setting of the utility.

use chrono::{DateTime, Utc};

/// Where "now" comes from. Pass it to the outermost function; rooms take the instant itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The host's wall clock.
    Wall,
    /// A clock that stands still, for tests and re-runs.
    Fixed(DateTime<Utc>),
}

impl Clock {
    /// The instant this clock shows.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        match self {
            #[expect(clippy::disallowed_methods, reason = "the one place that may")]
            Self::Wall => Utc::now(),
            Self::Fixed(at) => *at,
        }
    }
}
