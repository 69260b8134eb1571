//! What the first page shows, as plain numbers taken at one instant.
//!
//! In: counters of both stores. Out: one `Snapshot`, the same for every viewer.
//! Never here: SQL, markup, rates of anything that is billed.

use serde::Serialize;
use store_clickhouse::Counts;

/// Uplinks refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The reason's code: `unknown_device`.
    pub reason: String,
    /// How many.
    pub uplinks: u64,
}

/// One stream and how far it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamLine {
    /// The gateway or worker.
    pub name: String,
    /// Everything below is stored.
    pub next_sequence: u64,
}

/// One cycle of one book and how far it is billed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CycleLine {
    /// The book's code.
    pub book: String,
    /// The cycle's name: `2026-09`.
    pub name: String,
    /// Accounts that must end as billed, held or excused.
    pub active: u64,
    /// Accounts with a live bill.
    pub billed: u64,
    /// Accounts on the outsort list.
    pub held: u64,
    /// Accounts that rightly get no bill.
    pub excused: u64,
    /// Sum of the live bills, in yuan.
    pub amount: String,
}

impl CycleLine {
    /// Whether nothing is silently unbilled: billed + held + excused = active (R086).
    #[must_use]
    pub fn is_complete(&self) -> bool {
        [self.held, self.excused]
            .into_iter()
            .try_fold(self.billed, u64::checked_add)
            .is_some_and(|accounted| accounted == self.active)
    }
}

/// Everything the first page shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// When it was taken, RFC 3339.
    pub taken_at: String,
    /// Uplinks with a committed end.
    pub received: u64,
    /// Uplinks that brought something new.
    pub stored: u64,
    /// Uplinks that brought nothing new.
    pub duplicate: u64,
    /// Uplinks kept as dead letters.
    pub rejected: u64,
    /// Uplinks per second since the snapshot before.
    pub uplinks_per_second: u64,
    /// Register reads stored.
    pub reads: u64,
    /// Dead letters by reason.
    pub refused: Vec<Refused>,
    /// Streams.
    pub streams: Vec<StreamLine>,
    /// Books.
    pub books: u64,
    /// Accounts.
    pub accounts: u64,
    /// Meters.
    pub meters: u64,
    /// Cycles, newest first.
    pub cycles: Vec<CycleLine>,
    /// Which database does not answer, if one does not; its numbers are the last known ones.
    pub away: Option<String>,
}

impl Snapshot {
    /// `received − stored − duplicate − rejected`; anything but 0 is an alarm.
    #[must_use]
    pub fn residue(&self) -> i128 {
        let Self { received, stored, duplicate, rejected, .. } = *self;
        Counts { received, stored, duplicate, rejected }.residue()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_residue_is_seen_in_both_directions() {
        let books = |received, stored| Snapshot { received, stored, ..Snapshot::default() };
        assert_eq!(books(5, 5).residue(), 0);
        assert_eq!(books(5, 4).residue(), 1);
        assert_eq!(books(4, 5).residue(), -1);
    }
}
