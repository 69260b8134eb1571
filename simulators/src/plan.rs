//! What is sent when: every frame of every meter, and everything that goes wrong on the way.
//!
//! In: the utility. Out: for each day of the story, what meters and networks send, in order.
//! Never here: bytes (see `frames`), sockets.

use crate::{
    chance::Chance,
    utility::{Meter, Utility, Way},
};
use std::ops::Range;

/// Frames of every kind that no key, checksum or registry stands behind.
const FORGERIES: u32 = 3;

/// Messages on the broker that are no event of any platform.
const GARBAGE: u32 = 5;

/// One thing sent once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sending {
    /// Seconds since the story began, by which the day's sendings are ordered.
    pub(crate) at_s: i64,
    pub(crate) what: What,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Frame `frame` of meter `meter`.
    Frame { meter: u32, frame: u32, occasion: Occasion },
    /// A frame of meter `meter` with a wrong checksum, seal or MIC.
    Forged { meter: u32, frame: u32 },
    /// A frame of a meter nobody registered, which copies the way of `meter`.
    Stranger { meter: u32, frame: u32 },
    /// No event at all.
    Garbage { number: u32 },
}

/// Which sending of a frame it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// The first.
    First,
    /// The same bytes under the same message id: the answer was lost.
    SameExchange,
    /// The same frame as a new message: the meter gave up and began again, the platform
    /// published twice.
    NewExchange,
    /// The same frame, heard by another gateway.
    OtherGateway,
}

impl What {
    /// The meter it is of or pretends to be of.
    pub(crate) const fn meter(self) -> Option<u32> {
        match self {
            Self::Frame { meter, .. }
            | Self::Forged { meter, .. }
            | Self::Stranger { meter, .. } => Some(meter),
            Self::Garbage { .. } => None,
        }
    }
}

/// Everything sent, by day of the story; the last day holds what comes after its midnight.
pub(crate) struct Plan {
    days: Vec<Vec<Sending>>,
}

const DAY_S: i64 = 86_400;

impl Plan {
    pub(crate) fn new(utility: &Utility) -> Self {
        let mut sendings = Vec::new();
        for meter in &utility.meters {
            for frame in 0..meter.frames() {
                send_frame(utility, meter, frame, &mut sendings);
            }
        }
        forge(utility, &mut sendings);
        sendings.sort_by_key(|sending| sending.at_s);
        let day_of = |at_s: i64| usize::try_from(at_s / DAY_S).unwrap_or(0);
        let last = usize::try_from(utility.end() / 24).unwrap_or(0);
        let mut days = vec![Vec::new(); last + 1];
        for sending in sendings {
            if let Some(day) = days.get_mut(day_of(sending.at_s).min(last)) {
                day.push(sending);
            }
        }
        Self { days }
    }

    /// How many days there are.
    pub(crate) fn days(&self) -> usize {
        self.days.len()
    }

    /// What is sent on a day, in order.
    pub(crate) fn day(&self, day: usize) -> &[Sending] {
        self.days.get(day).map_or(&[], Vec::as_slice)
    }

    /// What is sent on these days.
    pub(crate) fn on(&self, days: Range<usize>) -> impl Iterator<Item = &Sending> {
        days.flat_map(|day| self.day(day))
    }
}

fn send_frame(utility: &Utility, meter: &Meter, frame: u32, sendings: &mut Vec<Sending>) {
    let mut chance = Chance::of(utility.seed, &[5, u64::from(meter.index), u64::from(frame)]);
    let (_, last) = meter.frame_hours(frame);
    let mut second = |from, to| i64::try_from(chance.between(from, to)).unwrap_or(0);
    let mut at_s = i64::from(last) * 3600 + second(30, 1_500);
    let copy_after_s = second(1, 20);
    let late_s = second(3_600, 60 * 3_600);
    // Neither the first frame nor the last day's come late: the story ends with everything said.
    if last > meter.from && last + 72 < meter.last {
        if chance.one_in(200) {
            at_s += late_s;
        } else if chance.one_in(100) {
            // Behind the next one.
            at_s += i64::from(meter.way.reads_per_frame()) * 3600 + 1_800;
        }
    }
    let mut send = |at_s, occasion| {
        let what = What::Frame { meter: meter.index, frame, occasion };
        sendings.push(Sending { at_s, what });
    };
    send(at_s, Occasion::First);
    match meter.way {
        Way::CoapNative | Way::CoapCjt188 => {
            if chance.one_in(100) {
                send(at_s, Occasion::SameExchange);
            }
            if chance.one_in(100) {
                send(at_s + copy_after_s, Occasion::NewExchange);
            }
        }
        Way::ChirpStackNative => {
            if chance.one_in(50) {
                send(at_s + copy_after_s, Occasion::NewExchange);
            }
        }
        Way::RawNative | Way::RawCjt188 => {
            if chance.one_in(10) {
                send(at_s, Occasion::OtherGateway);
            }
        }
    }
}

/// What should not have been sent at all.
fn forge(utility: &Utility, sendings: &mut Vec<Sending>) {
    let mut chance = Chance::of(utility.seed, &[6]);
    for way in Way::ALL {
        let of_way: Vec<&Meter> = utility
            .meters
            .iter()
            .filter(|meter| meter.way == way && meter.from == 0 && meter.last == utility.end())
            .collect();
        for n in 0..FORGERIES * 2 {
            let choice = chance.below(u64::try_from(of_way.len()).unwrap_or(1));
            let Some(meter) = usize::try_from(choice).ok().and_then(|at| of_way.get(at)) else {
                continue;
            };
            // No frame is taken twice: each would be a copy of the other.
            let stride = chance.below(u64::from(meter.frames() / (FORGERIES * 2) - 2));
            let frame = 2 + n + FORGERIES * 2 * u32::try_from(stride).unwrap_or(0);
            let at_s = i64::from(meter.frame_hours(frame).1) * 3600 + 1_700;
            let meter = meter.index;
            let what = if n < FORGERIES {
                What::Forged { meter, frame }
            } else {
                What::Stranger { meter, frame }
            };
            sendings.push(Sending { at_s, what });
        }
    }
    for number in 0..GARBAGE {
        let at_s = chance.below(u64::from(utility.end()) * 3600);
        let at_s = i64::try_from(at_s).unwrap_or(0);
        sendings.push(Sending { at_s, what: What::Garbage { number } });
    }
}
