//! The pipeline, to be read aloud.
//!
//! ```text
//! receive ▸ identify ▸ open ▸ decode ▸ judge ▸ store ▸ ack and watermark
//! ```
//!
//! *receive* is `mqtt` and `stream`; *identify, open, decode* are `open`; *judge* and the ending of
//! each uplink are `settle`; *store, ack, watermark* are `run`. This module joins the steps that
//! only think.
//!
//! In: a lot of consecutive records, the registry snapshot, what the store answers. Out: one
//! [`LoadBatch`] in which every uplink ended exactly once.
//! Never here: I/O, the wall clock. The same lot gives the same batch, whatever was restarted in
//! between, as long as the store answers the same.

use crate::{
    open::{Finding, Memory, Opened, open_record},
    record::Record,
    registers::Registers,
    settle::{Provenance, Settled, settle},
    window::Reach,
};
use chrono::{DateTime, Utc};
use model::{MeterId, RegistrySnapshot};
use std::{collections::HashSet, sync::Arc};
use store_clickhouse::{LoadBatch, ReadKey, StoredRead};
use vee::Rules;

/// A run of consecutive records of one stream.
#[derive(Debug, Clone)]
pub struct Lot {
    /// The sequence number of the first record.
    pub first_sequence: u64,
    /// The records.
    pub records: Vec<Record>,
}

/// identify ▸ open ▸ decode, for every record of the lot.
pub fn open<'s>(
    lot: Lot,
    snapshot: &'s RegistrySnapshot,
    memory: &mut Memory,
    reach: Reach,
    now: DateTime<Utc>,
) -> Vec<Opened<'s>> {
    (lot.first_sequence..)
        .zip(lot.records)
        .map(|(sequence, record)| open_record(sequence, record, snapshot, memory, reach, now))
        .collect()
}

/// The meters whose latest reads must be asked for before their reads are judged.
#[must_use]
pub fn unknown_meters(opened: &[Opened<'_>], registers: &Registers) -> Vec<MeterId> {
    let meters: HashSet<MeterId> = readable(opened)
        .filter(|readable| !readable.reads.is_empty() && !registers.knows(readable.entry.meter))
        .map(|readable| readable.entry.meter)
        .collect();
    let mut meters: Vec<MeterId> = meters.into_iter().collect();
    meters.sort_unstable();
    meters
}

/// The keys that may be stored already and must be asked for: those of reads that are not later
/// than the latest one known; with `all`, every key of the lot.
#[must_use]
pub fn questionable_keys(opened: &[Opened<'_>], registers: &Registers, all: bool) -> Vec<ReadKey> {
    let mut keys: Vec<ReadKey> = readable(opened)
        .flat_map(|readable| {
            let meter = readable.entry.meter;
            readable.reads.iter().map(move |(read, _)| (meter, read.register, read.measured_at))
        })
        .filter(|(_, _, at)| StoredRead::is_storable_at(*at))
        .filter(|(meter, register, at)| all || registers.may_be_stored(*meter, *register, *at))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// judge: ends every uplink of a lot, as one batch to load.
#[must_use]
pub fn judge(
    opened: Vec<Opened<'_>>,
    first_sequence: u64,
    place: Provenance<'_>,
    registers: &mut Registers,
    existing: &[StoredRead],
    rules: &Rules,
) -> LoadBatch {
    let uplinks = u64::try_from(opened.len()).unwrap_or(u64::MAX);
    let settled = settle(opened, place, registers, existing, rules);
    batch_of(settled, place, first_sequence, first_sequence.saturating_add(uplinks))
}

/// The batch of what was settled.
#[must_use]
pub fn batch_of(
    settled: Settled,
    place: Provenance<'_>,
    first_sequence: u64,
    next_sequence: u64,
) -> LoadBatch {
    LoadBatch {
        stream: Arc::clone(place.stream),
        epoch: place.epoch,
        first_sequence,
        next_sequence,
        reads: settled.reads,
        raw: settled.raw,
        events: settled.events,
        dead_letters: settled.dead_letters,
        counts: settled.counts,
        stored_at: place.stored_at,
    }
}

fn readable<'a, 's>(
    opened: &'a [Opened<'s>],
) -> impl Iterator<Item = &'a crate::open::Readable<'s>> {
    opened.iter().filter_map(|uplink| match &uplink.finding {
        Finding::Readable(readable) => Some(&**readable),
        Finding::Copy | Finding::Unreadable(_) => None,
    })
}
