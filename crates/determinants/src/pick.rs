//! Which read stands for a boundary.
//!
//! In: an installed meter, its reads, an instant. Out: one read, or why none.
//! Never here: arithmetic on the values.
//!
//! The rule, in this order: the read the previous bill ended with (start only); the last read at or
//! before the instant, the fitter's count at installation or removal among them; the first read
//! after it. Only reads taken while the meter hung at this service point count.

use crate::{MeterSegment, NotDeterminable, UsageQuestion};
use chrono::{DateTime, TimeDelta, Utc};
use model::{EvidenceRead, ReadQuality};

/// Which side of the period the instant bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// The period begins here.
    Start,
    /// The period ends here.
    End,
}

/// The read that stands for a boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picked {
    /// The read.
    pub read: EvidenceRead,
    /// Whether it is the read the previous bill ended with.
    pub already_billed: bool,
}

/// The read of `segment` that stands for `at`.
///
/// # Errors
/// When no read may stand for the instant: none at all, none near enough, only held ones.
pub fn pick(
    question: &UsageQuestion,
    segment: &MeterSegment,
    at: DateTime<Utc>,
    boundary: Boundary,
) -> Result<Picked, NotDeterminable> {
    if let (Boundary::Start, Some(read)) = (boundary, billed_until(question, segment, at)) {
        return Ok(Picked { read, already_billed: true });
    }
    let mut best: Option<EvidenceRead> = None;
    let mut held: Option<DateTime<Utc>> = None;
    let near = |measured_at| distance(measured_at, at) <= question.tolerance;
    let mut nearest: Option<DateTime<Utc>> = None;
    let mut offer = |read: EvidenceRead| {
        if near(read.measured_at) {
            better(&mut best, read, at);
        } else if nearest.is_none_or(|other| distance(read.measured_at, at) < distance(other, at)) {
            nearest = Some(read.measured_at);
        }
    };
    fitter_reads(segment).for_each(&mut offer);
    let own = question.reads.iter().filter(|read| {
        read.meter == segment.meter
            && read.register == segment.register
            && taken_here(segment, read.measured_at)
    });
    for read in own {
        if read.held {
            let first = held.is_none_or(|other| order(read.measured_at, at) < order(other, at));
            if near(read.measured_at) && first {
                held = Some(read.measured_at);
            }
            continue;
        }
        offer(EvidenceRead {
            meter: read.meter,
            register: read.register,
            measured_at: read.measured_at,
            count: read.value.count,
            exponent: read.value.exponent,
            unit: read.value.unit,
            quality: read.quality,
        });
    }
    let (meter, register) = (segment.meter, segment.register);
    match (best, held, nearest) {
        (Some(read), _, _) => Ok(Picked { read, already_billed: false }),
        (None, Some(nearest), _) => Err(NotDeterminable::HeldReads { meter, at, nearest }),
        (None, None, Some(nearest)) => Err(NotDeterminable::OutsideTolerance {
            meter,
            at,
            nearest,
            tolerance_s: question.tolerance.num_seconds(),
        }),
        (None, None, None) => Err(match boundary {
            Boundary::Start => NotDeterminable::MissingStart { meter, register, at },
            Boundary::End => NotDeterminable::MissingEnd { meter, register, at },
        }),
    }
}

/// The read the previous bill ended with, where this period really continues it: taken on this
/// installation and not beyond tolerance of the start. An older one belongs to an earlier gap.
fn billed_until(
    question: &UsageQuestion,
    segment: &MeterSegment,
    at: DateTime<Utc>,
) -> Option<EvidenceRead> {
    question
        .billed_until
        .iter()
        .filter(|read| {
            read.meter == segment.meter
                && read.register == segment.register
                && taken_here(segment, read.measured_at)
                && distance(read.measured_at, at) <= question.tolerance
        })
        .max_by_key(|read| read.measured_at)
        .copied()
}

/// What the fitter read at installation and removal, as reads.
fn fitter_reads(segment: &MeterSegment) -> impl Iterator<Item = EvidenceRead> {
    let read = |count: i64, measured_at| EvidenceRead {
        meter: segment.meter,
        register: segment.register,
        measured_at,
        count,
        exponent: segment.exponent,
        unit: segment.unit,
        quality: ReadQuality::Manual,
    };
    let opening = segment.opening.map(|count| read(count, segment.during.from()));
    let closing = segment.closing.zip(segment.during.until()).map(|(count, at)| read(count, at));
    opening.into_iter().chain(closing)
}

/// Whether an instant lies in the installation, the instant of removal included: the last read of
/// a meter is its own.
fn taken_here(segment: &MeterSegment, at: DateTime<Utc>) -> bool {
    segment.during.contains(at) || segment.during.until() == Some(at)
}

fn distance(a: DateTime<Utc>, b: DateTime<Utc>) -> TimeDelta {
    (a - b).abs()
}

/// The last at or before the instant first, then the first after it.
fn order(measured_at: DateTime<Utc>, at: DateTime<Utc>) -> (bool, TimeDelta) {
    (measured_at > at, distance(measured_at, at))
}

/// Keeps the better of two reads; the one that is there already wins a tie.
fn better(best: &mut Option<EvidenceRead>, read: EvidenceRead, at: DateTime<Utc>) {
    let wins = best
        .as_ref()
        .is_none_or(|other| order(read.measured_at, at) < order(other.measured_at, at));
    if wins {
        *best = Some(read);
    }
}
