//! One gateway's stream: every record once, in order, whatever the broker does (go-back-N).
//!
//! In: runs of records with their sequence numbers, in any order, repeated, with gaps; the oldest
//! one the gateway still has. Out: each record exactly once, in order, how far the stream is stored,
//! and how many records nobody has any more.
//! Never here: sockets, what a record says, the store.

use bytes::Bytes;
use std::collections::VecDeque;

/// What became of a run of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// This many were new and wait to be stored; the others had come before.
    Taken {
        /// How many were new.
        records: usize,
    },
    /// All had come before.
    Repeated,
    /// Records between are missing: nothing was taken, the gateway has to go back.
    Gap {
        /// The record that was expected.
        expected: u64,
    },
}

/// The records of one gateway and epoch that wait to be stored.
#[derive(Debug)]
pub struct Stream {
    stored: u64,
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
}

impl Stream {
    /// A stream of which everything below `next_sequence` is stored.
    #[must_use]
    pub fn resume(next_sequence: u64) -> Self {
        Self { stored: next_sequence, waiting: VecDeque::new(), waiting_bytes: 0 }
    }

    /// Everything below this is stored.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// The record that is expected next.
    #[must_use]
    pub fn expected(&self) -> u64 {
        let waiting = u64::try_from(self.waiting.len()).unwrap_or(u64::MAX);
        self.stored.saturating_add(waiting)
    }

    /// How many records wait, and how many bytes they have.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (self.waiting.len(), self.waiting_bytes)
    }

    /// Goes on at `oldest_kept` when the gateway has nothing before it any more; returns how many
    /// records are missing for ever. Records that wait are stored first.
    pub fn skip_to(&mut self, oldest_kept: u64) -> u64 {
        let missing = oldest_kept.saturating_sub(self.stored);
        if !self.waiting.is_empty() {
            return 0;
        }
        self.stored = self.stored.max(oldest_kept);
        missing
    }

    /// Takes what is new of a run of records that begins with `first_sequence`.
    pub fn offer(
        &mut self,
        first_sequence: u64,
        records: impl ExactSizeIterator<Item = Bytes>,
    ) -> Offered {
        let expected = self.expected();
        let Some(known) = expected.checked_sub(first_sequence) else {
            return Offered::Gap { expected };
        };
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        if known >= records.len() {
            return Offered::Repeated;
        }
        let before = self.waiting.len();
        for record in records.skip(known) {
            self.waiting_bytes = self.waiting_bytes.saturating_add(record.len());
            self.waiting.push_back(record);
        }
        Offered::Taken { records: self.waiting.len().saturating_sub(before) }
    }

    /// The records to store next: at most `records_max` of them, and no more than `bytes_max`
    /// bytes unless the first alone has more. They count as waiting until [`Stream::confirm`].
    #[must_use]
    pub fn next_run(&self, records_max: usize, bytes_max: usize) -> (u64, Vec<Bytes>) {
        let mut bytes = 0_usize;
        let run = self.waiting.iter().take(records_max).enumerate().take_while(|(n, record)| {
            bytes = bytes.saturating_add(record.len());
            *n == 0 || bytes <= bytes_max
        });
        (self.stored, run.map(|(_, record)| record.clone()).collect())
    }

    /// The next `records` are stored.
    pub fn confirm(&mut self, records: usize) {
        for record in self.waiting.drain(..records.min(self.waiting.len())) {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(record.len());
            self.stored = self.stored.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_gap_is_refused_and_a_repetition_ignored() {
        let mut stream = Stream::resume(10);
        let mut offer = |first: u64, records: &[&'static [u8]]| {
            stream.offer(first, records.iter().copied().map(Bytes::from_static))
        };
        assert_eq!(offer(11, &[b"b"]), Offered::Gap { expected: 10 });
        assert_eq!(offer(8, &[b"x", b"y"]), Offered::Repeated);
        assert_eq!(offer(9, &[b"z", b"a", b"bb"]), Offered::Taken { records: 2 });
        assert_eq!(offer(10, &[b"a", b"bb"]), Offered::Repeated);
        assert_eq!(offer(10, &[]), Offered::Repeated);
        assert_eq!(stream.waiting(), (2, 3));
        assert_eq!(stream.next_run(9, 1).1, vec![b"a".as_slice()]);
        assert_eq!(stream.next_run(9, 3).1, vec![b"a".as_slice(), b"bb"]);
        stream.confirm(1);
        assert_eq!((stream.stored(), stream.expected(), stream.waiting()), (11, 12, (1, 2)));
    }

    #[test]
    fn a_stream_goes_on_where_its_gateway_still_has_records() {
        let mut stream = Stream::resume(10);
        assert_eq!(stream.skip_to(4), 0);
        assert_eq!(stream.skip_to(10), 0);
        assert_eq!(stream.offer(10, [Bytes::from("a")].into_iter()), Offered::Taken { records: 1 });
        // not before what waits is stored
        assert_eq!((stream.skip_to(15), stream.expected()), (0, 11));
        stream.confirm(1);
        assert_eq!((stream.skip_to(15), stream.expected()), (4, 15));
        assert_eq!(stream.offer(17, [Bytes::from("c")].into_iter()), Offered::Gap { expected: 15 });
        assert_eq!(stream.skip_to(15), 0);
        assert_eq!(
            stream.offer(15, ["a", "b"].map(Bytes::from).into_iter()),
            Offered::Taken { records: 2 }
        );
        assert_eq!(stream.next_run(9, 99).1, vec![b"a".as_slice(), b"b"]);
    }

    proptest! {
        #[test]
        fn every_record_comes_out_once_and_in_order(
            offers in proptest::collection::vec((0u8..100, 0u8..20), 0..200),
            take in 1usize..9,
        ) {
            let record = |n: u64| Bytes::copy_from_slice(&n.to_be_bytes());
            let mut stream = Stream::resume(0);
            let mut seen = vec![];
            for (first, count) in offers {
                let first = u64::from(first);
                let run: Vec<_> = (first..first + u64::from(count)).map(record).collect();
                stream.offer(first, run.into_iter());
                let (from, out) = stream.next_run(take, usize::MAX);
                prop_assert_eq!(from, u64::try_from(seen.len()).unwrap());
                stream.confirm(out.len());
                seen.extend(out);
            }
            let want: Vec<_> = (0..).map(record).take(seen.len()).collect();
            prop_assert_eq!(seen, want);
        }
    }
}
