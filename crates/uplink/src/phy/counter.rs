//! Frame counters: 32 bits counted by the device, 16 bits on the air.
//!
//! In: the last counter believed and the 16 bits of a frame. Out: the counters the frame may
//! have. Never here: which of them the MIC confirms.

/// How far behind the last counter a frame may be and still count as late rather than as a
/// device that began again: 1,024 frames, six weeks of hourly ones.
pub const LATE_WINDOW: u32 = 1024;

/// How many upper halves are tried for a device never heard before, so that a running device
/// can be taken over without knowing its counter (LoRaWAN 1.0.4 §4.3.1.5 leaves it to the server).
pub const FIRST_CONTACT_UPPER_HALVES: u32 = 256;

/// Where a counter stands against the last one believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CounterOrder {
    /// Above the last one, or the first one ever.
    Next,
    /// The last one again.
    Same,
    /// Below the last one, by at most [`LATE_WINDOW`]: late, or replayed.
    Late,
    /// Further below: the device began again, or somebody replays.
    Old,
}

impl CounterOrder {
    /// Where `counter` stands against `last`.
    #[must_use]
    pub const fn of(counter: u32, last: Option<u32>) -> Self {
        match last {
            None => Self::Next,
            Some(last) if counter > last => Self::Next,
            Some(last) if counter == last => Self::Same,
            Some(last) if last - counter <= LATE_WINDOW => Self::Late,
            Some(_) => Self::Old,
        }
    }
}

/// The lowest counter above `last` whose low half is `wire`: the only one a device that loses no
/// more than 65,535 frames in a row can mean. `None` when the 32 bits are used up.
#[must_use]
pub const fn next_counter(last: u32, wire: u16) -> Option<u32> {
    match last.checked_add(1) {
        None => None,
        Some(expected) => {
            let [low, high, ..] = expected.to_le_bytes();
            let gap = wire.wrapping_sub(u16::from_le_bytes([low, high]));
            expected.checked_add(gap as u32)
        }
    }
}

/// The highest counter up to `last` whose low half is `wire`: what a late or replayed frame can
/// mean. `None` when the device cannot have sent one yet.
#[must_use]
pub const fn past_counter(last: u32, wire: u16) -> Option<u32> {
    let [low, high, ..] = last.to_le_bytes();
    let back = u16::from_le_bytes([low, high]).wrapping_sub(wire);
    last.checked_sub(back as u32)
}

/// The counters a frame may have, the likeliest first.
pub(super) fn candidates(last: Option<u32>, wire: u16) -> impl Iterator<Item = u32> {
    let known = last.into_iter().flat_map(move |last| {
        [next_counter(last, wire), past_counter(last, wire)].into_iter().flatten()
    });
    let halves = if last.is_none() { FIRST_CONTACT_UPPER_HALVES } else { 0 };
    known.chain((0..halves).map(move |half| half << 16 | u32::from(wire)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_upper_half_survives_its_edge() {
        let cases = [
            (0, 1, Some(1), None),
            (0, 0, Some(65_536), Some(0)),
            (65_535, 0, Some(65_536), Some(0)),
            (65_536, 65_535, Some(131_071), Some(65_535)),
            (76_542, 11_007, Some(76_543), Some(11_007)),
            (u32::MAX, 5, None, Some(0xFFFF_0005)),
            (u32::MAX - 1, u16::MAX, Some(u32::MAX), Some(0xFFFE_FFFF)),
        ];
        for (last, wire, next, past) in cases {
            assert_eq!(next_counter(last, wire), next, "after {last}, {wire} on the air");
            assert_eq!(past_counter(last, wire), past, "up to {last}, {wire} on the air");
        }
    }

    proptest! {
        #[test]
        fn any_gap_below_a_full_half_is_bridged(last: u32, gap in 1_u32..=65_536) {
            if let Some(counter) = last.checked_add(gap) {
                let wire = u16::try_from(counter & 0xFFFF).unwrap();
                prop_assert_eq!(next_counter(last, wire), Some(counter));
                prop_assert_eq!(CounterOrder::of(counter, Some(last)), CounterOrder::Next);
            }
        }

        #[test]
        fn a_late_frame_keeps_its_counter(last: u32, behind in 0_u32..=65_535) {
            if let Some(counter) = last.checked_sub(behind) {
                let wire = u16::try_from(counter & 0xFFFF).unwrap();
                prop_assert_eq!(past_counter(last, wire), Some(counter));
                prop_assert_ne!(CounterOrder::of(counter, Some(last)), CounterOrder::Next);
            }
        }

        #[test]
        fn counters_never_pass_each_other(last: u32, wire: u16) {
            if let Some(next) = next_counter(last, wire) {
                prop_assert!(next > last && next - last <= 65_536);
                prop_assert_eq!(next & 0xFFFF, u32::from(wire));
            }
            if let Some(past) = past_counter(last, wire) {
                prop_assert!(past <= last && last - past <= 65_535);
                prop_assert_eq!(past & 0xFFFF, u32::from(wire));
            }
        }
    }
}
