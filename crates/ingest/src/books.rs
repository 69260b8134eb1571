//! The conservation of uplinks, counted as they pass: received = stored + duplicate + rejected +
//! in flight, at every moment.
//!
//! In: uplinks taken in, batches stored. Out: one consistent picture, and gauges of it.
//! Never here: totals over restarts (the store's ledger has those).

use metrics::gauge;
use std::sync::{Arc, Mutex, PoisonError};
use store_clickhouse::Counts;

/// What one worker has taken in and what became of it, since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Picture {
    /// Uplinks taken in: accepted into a stream, or read back from our own spool.
    pub received: u64,
    /// Of these, gave something new to keep.
    pub stored: u64,
    /// Of these, only repeated what is stored.
    pub duplicate: u64,
    /// Of these, ended as a dead letter.
    pub rejected: u64,
    /// Of these, on their way.
    pub in_flight: u64,
}

impl Picture {
    /// Received less everything accounted for; anything but 0 is a defect.
    #[must_use]
    pub fn residue(&self) -> i128 {
        i128::from(self.received)
            - i128::from(self.stored)
            - i128::from(self.duplicate)
            - i128::from(self.rejected)
            - i128::from(self.in_flight)
    }
}

/// The books of one worker; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Books(Arc<Mutex<Picture>>);

impl Books {
    /// Uplinks came in.
    pub fn receive(&self, uplinks: usize) {
        let uplinks = u64::try_from(uplinks).unwrap_or(u64::MAX);
        self.change(|picture| {
            picture.received = picture.received.saturating_add(uplinks);
            picture.in_flight = picture.in_flight.saturating_add(uplinks);
        });
    }

    /// A batch is stored.
    pub fn settle(&self, counts: &Counts) {
        self.change(|picture| {
            picture.stored = picture.stored.saturating_add(counts.stored);
            picture.duplicate = picture.duplicate.saturating_add(counts.duplicate);
            picture.rejected = picture.rejected.saturating_add(counts.rejected);
            picture.in_flight = picture.in_flight.saturating_sub(counts.received);
        });
    }

    /// The picture at this moment.
    #[must_use]
    pub fn picture(&self) -> Picture {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the gauges from one picture. Whoever answers a scrape calls this first, so that the
    /// scrape balances.
    pub fn publish(&self) {
        let picture = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        publish(&picture);
    }

    fn change(&self, with: impl FnOnce(&mut Picture)) {
        let mut picture = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        with(&mut picture);
        publish(&picture);
    }
}

/// Under the lock: two pictures never mix.
fn publish(picture: &Picture) {
    for (ending, uplinks) in [
        ("received", picture.received),
        ("stored", picture.stored),
        ("duplicate", picture.duplicate),
        ("rejected", picture.rejected),
        ("in_flight", picture.in_flight),
    ] {
        gauge!("tidemark_ingest_uplinks", "ending" => ending).set(exact(i128::from(uplinks)));
    }
    gauge!("tidemark_ingest_residue").set(exact(picture.residue()));
}

/// The metrics crate counts in floats, exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "a gauge for people; the books are integers")]
fn exact(number: i128) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_residue_is_nothing_at_every_moment(
            steps in proptest::collection::vec((0u64..99, 0u64..99, 0u64..99), 0..50),
        ) {
            let books = Books::default();
            for (stored, duplicate, rejected) in steps {
                let received = stored + duplicate + rejected;
                books.receive(usize::try_from(received).unwrap());
                prop_assert_eq!(books.picture().residue(), 0);
                books.settle(&Counts { received, stored, duplicate, rejected });
                prop_assert_eq!(books.picture().residue(), 0);
            }
            prop_assert_eq!(books.picture().in_flight, 0);
        }
    }
}
