//! Reads at the bounds of service periods, fetched for many accounts at once.
//!
//! In: instants with the meters that need a read there. Out: candidate reads per meter, none
//! stored after the cutoff.
//! Never here: which read stands for a boundary (`determinants`).

use chrono::{DateTime, TimeDelta, Utc};
use determinants::CandidateRead;
use model::{MeterId, Register, Verdict};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use store_clickhouse::{BoundaryRead, QueryError, Store, StoredRead};

/// The most reads a second look at one meter fetches per boundary.
const SECOND_LOOK_READS_MAX: u32 = 5_000;

/// What is wanted: at which instant which meters and registers.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    by_instant: BTreeMap<DateTime<Utc>, BTreeSet<MeterId>>,
    registers: BTreeSet<Register>,
}

impl Wanted {
    /// Asks for the reads of one question.
    pub(crate) fn add(&mut self, register: Register, boundaries: &[(MeterId, DateTime<Utc>)]) {
        self.registers.insert(register);
        for (meter, at) in boundaries {
            self.by_instant.entry(*at).or_default().insert(*meter);
        }
    }
}

/// Candidate reads by meter.
pub(crate) type Reads = HashMap<MeterId, Vec<CandidateRead>>;

/// The last accepted read at or before every wanted instant: one query per instant, so two for a
/// book whose accounts all begin and end with the cycle.
pub(crate) async fn read_bounds(
    store: &Store,
    wanted: &Wanted,
    tolerance: TimeDelta,
    cutoff: DateTime<Utc>,
) -> Result<Reads, QueryError> {
    let registers: Vec<Register> = wanted.registers.iter().copied().collect();
    // The store's window is open at its far end, the tolerance is not.
    let reach = tolerance.checked_add(&TimeDelta::seconds(1)).unwrap_or(tolerance);
    let mut reads = Reads::new();
    for (at, meters) in &wanted.by_instant {
        let meters: Vec<MeterId> = meters.iter().copied().collect();
        for found in store.boundary_reads(&meters, &registers, *at, reach, cutoff).await? {
            let BoundaryRead { meter, read, stored_at: _ } = found;
            reads.entry(meter).or_default().push(CandidateRead {
                meter,
                register: read.register,
                measured_at: read.measured_at,
                value: read.value,
                quality: read.quality,
                held: false,
            });
        }
    }
    Ok(reads)
}

/// Every read around the boundaries of one question, held ones and later ones too: they may stand
/// in for a missing read, or explain why it is missing.
pub(crate) async fn second_look(
    store: &Store,
    register: Register,
    boundaries: &[(MeterId, DateTime<Utc>)],
    tolerance: TimeDelta,
    cutoff: DateTime<Utc>,
) -> Result<Vec<CandidateRead>, QueryError> {
    let mut candidates = Vec::new();
    for (meter, at) in boundaries {
        let from = at.checked_sub_signed(tolerance).unwrap_or(DateTime::<Utc>::MIN_UTC);
        let until = at
            .checked_add_signed(tolerance)
            .and_then(|until| until.checked_add_signed(TimeDelta::seconds(1)))
            .unwrap_or(DateTime::<Utc>::MAX_UTC);
        let around = store.reads_between(*meter, from, until, SECOND_LOOK_READS_MAX).await?;
        candidates.extend(
            around
                .into_iter()
                .filter(|read| read.register == register && read.stored_at <= cutoff)
                .filter_map(candidate),
        );
    }
    Ok(candidates)
}

fn candidate(read: StoredRead) -> Option<CandidateRead> {
    let held = match read.verdict {
        Verdict::Accepted { .. } => false,
        Verdict::Held { .. } => true,
        Verdict::Refused { .. } => return None,
    };
    Some(CandidateRead {
        meter: read.meter,
        register: read.register,
        measured_at: read.measured_at,
        value: read.value,
        quality: read.quality,
        held,
    })
}
