//! A bounded memory of uplinks seen lately, to recognise copies early.
//!
//! In: what makes two uplinks copies of each other (the platform's own id, or device, counter and
//! bytes), with sequence and time of reception. Out: whether it is a copy.
//! Never here: whether a read is stored (only the store knows); this only spares it the question.
//!
//! What it says depends on the stream alone, not on restarts: an uplink is a copy when one like it
//! lies at most so many uplinks and so many seconds back *in the same stream*, and after a restart
//! the memory is filled again from the records kept below the position (see `run`).

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};
use uplink::{Envelope, Network};

/// What two copies of an uplink have in common, as a 128-bit digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Likeness(u64, u64);

impl Likeness {
    /// The likeness of an uplink; `None` where nothing but the bytes would tell two of them apart
    /// (two reads of an idle meter without counter and clock look alike and are not copies).
    #[must_use]
    pub fn of(envelope: &Envelope) -> Option<Self> {
        let counted = match envelope.network {
            // the counter stands in the frame itself, which is still closed
            Network::LorawanRaw => true,
            Network::NbIot | Network::LorawanServer | Network::Platform => {
                envelope.counter.is_some()
            }
        };
        if envelope.dedup.is_none() && !counted {
            return None;
        }
        let digest = |salt: u64| {
            let mut hasher = DefaultHasher::new();
            salt.hash(&mut hasher);
            envelope.dedup.hash(&mut hasher);
            envelope.network.hash(&mut hasher);
            envelope.device.hash(&mut hasher);
            envelope.counter.hash(&mut hasher);
            envelope.f_port.hash(&mut hasher);
            envelope.payload.hash(&mut hasher);
            hasher.finish()
        };
        Some(Self(digest(0), digest(1)))
    }
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    sequence: u64,
    received_at_ms: i64,
}

/// The uplinks of one stream seen lately.
#[derive(Debug, Default)]
pub struct Window {
    latest: HashMap<Likeness, Seen>,
    order: VecDeque<(u64, Likeness)>,
}

/// How far back a copy is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// In uplinks of the stream.
    pub uplinks: u32,
    /// In seconds between the two receptions.
    pub seconds: u32,
}

impl Window {
    /// Whether the uplink at `sequence` is a copy of an earlier one; remembers it.
    /// Sequences must not fall.
    pub fn is_copy(
        &mut self,
        likeness: Likeness,
        sequence: u64,
        received_at_ms: i64,
        reach: Reach,
    ) -> bool {
        let floor = sequence.saturating_sub(u64::from(reach.uplinks));
        while let Some((oldest, likeness)) = self.order.front().copied()
            && oldest < floor
        {
            self.order.pop_front();
            if self.latest.get(&likeness).is_some_and(|seen| seen.sequence == oldest) {
                self.latest.remove(&likeness);
            }
        }
        let within = i64::from(reach.seconds).saturating_mul(1000);
        let near = |seen: Seen| {
            let apart = received_at_ms.saturating_sub(seen.received_at_ms).saturating_abs();
            seen.sequence < sequence && apart <= within
        };
        // A copy is remembered too: the answer then rests on the last uplinks alone.
        self.order.push_back((sequence, likeness));
        self.latest.insert(likeness, Seen { sequence, received_at_ms }).is_some_and(near)
    }

    /// How many uplinks it remembers; never more than the reach.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether it remembers none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::DeviceKey;
    use proptest::prelude::*;
    use uplink::Radio;

    const REACH: Reach = Reach { uplinks: 10, seconds: 60 };

    fn envelope(counter: Option<u32>, dedup: Option<[u8; 16]>, payload: &[u8]) -> Envelope {
        Envelope {
            device: Some(DeviceKey::DevEui(7)),
            network: Network::LorawanServer,
            payload: payload.to_vec(),
            f_port: Some(1),
            counter,
            received_at_ms: 0,
            network_time_ms: None,
            dedup,
            radio: Radio::default(),
            source: "test".to_owned(),
        }
    }

    #[test]
    fn copies_are_alike_and_others_are_not() {
        let of = |counter, dedup, payload: &[u8]| Likeness::of(&envelope(counter, dedup, payload));
        assert_eq!(of(None, None, b"x"), None);
        assert_eq!(of(Some(1), None, b"x"), of(Some(1), None, b"x"));
        assert_ne!(of(Some(1), None, b"x"), of(Some(2), None, b"x"));
        assert_ne!(of(Some(1), None, b"x"), of(Some(1), None, b"y"));
        assert_ne!(of(None, Some([1; 16]), b"x"), of(None, Some([2; 16]), b"x"));
        let heard = Envelope { received_at_ms: 5, ..envelope(Some(1), None, b"x") };
        assert_eq!(Likeness::of(&heard), of(Some(1), None, b"x"));
    }

    #[test]
    fn a_copy_is_recognised_within_reach_only() {
        let likeness = Likeness(1, 2);
        for (sequence, at_ms, copy) in
            [(100, 0, false), (101, 60_000, true), (110, 60_000, true), (110, 60_001, false)]
        {
            let mut window = Window::default();
            assert!(!window.is_copy(likeness, 100, 0, REACH));
            assert_eq!(window.is_copy(likeness, sequence, at_ms, REACH), copy, "{sequence}");
        }
        let mut window = Window::default();
        assert!(!window.is_copy(likeness, 100, 0, REACH));
        assert!(!window.is_copy(likeness, 111, 0, REACH));
        assert!(window.is_copy(likeness, 112, 0, REACH));
    }

    proptest! {
        #[test]
        fn a_restart_that_reads_back_as_far_as_the_reach_changes_no_answer(
            kinds in proptest::collection::vec((0u64..6, 0i64..40_000), 1..120), cut in 0usize..120,
        ) {
            let run = |from: usize| {
                let mut window = Window::default();
                let mut at = 0;
                let mut answers = vec![];
                for (n, (kind, step)) in kinds.iter().enumerate() {
                    at += step;
                    if n >= from {
                        let sequence = u64::try_from(n).unwrap();
                        answers.push(window.is_copy(Likeness(*kind, 0), sequence, at, REACH));
                    }
                }
                assert!(window.len() <= 11);
                answers
            };
            let cut = cut.min(kinds.len());
            let back = cut.saturating_sub(10);
            prop_assert_eq!(&run(0)[cut..], &run(back)[cut - back..]);
        }
    }
}
