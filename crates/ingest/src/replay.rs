//! Dead letters, tried again: after a meter was registered, a key put right, a decoder mended.
//!
//! In: a filter over the dead letters, the registry as it is now. Out: what became of each.
//! Never here: changing a dead letter (that it was replayed is noted beside it); the ledger's
//! totals, which count each uplink once, as it ended at first.
//!
//! Idempotent: reads go in under the uplink's own stream, epoch and sequence, so a letter replayed
//! twice stores its reads once, and a letter that fails again for the same reason stays open.

use crate::{
    open::{BAD_ENVELOPE, Memory, Opened, open_record, sentence},
    pipeline,
    record::{ForeignMessage, Record},
    registers::Registers,
    settle::{Ending, Provenance, Settled, settle},
    window::Reach,
};
use chrono::{DateTime, Utc};
use model::RegistrySnapshot;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use store_clickhouse::{
    Counts, DeadLetter, DeadLetterFilter, DeadLetterKey, LoadBatch, LoadError, QueryError, Store,
};
use uplink::Envelope;
use vee::Rules;

/// Copies are not sought among dead letters: each is one uplink.
const NO_REACH: Reach = Reach { uplinks: 0, seconds: 0 };

/// What became of the letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Letters tried.
    pub letters: u64,
    /// Of these, gave something new to keep.
    pub stored: u64,
    /// Of these, only repeated what is stored.
    pub duplicate: u64,
    /// Of these, were refused again.
    pub rejected: u64,
}

/// Why letters could not be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The store does not answer.
    #[error("look up dead letters and their reads")]
    Query(#[from] QueryError),
    /// The store does not take the reads.
    #[error("store what dead letters gave")]
    Load(#[from] LoadError),
}

/// Tries the dead letters of `filter` again.
///
/// # Errors
/// When the store cannot answer or take the reads; trying again is harmless.
pub async fn replay_dead_letters(
    store: &Store,
    snapshot: &RegistrySnapshot,
    filter: &DeadLetterFilter,
    rules: &Rules,
    now: DateTime<Utc>,
) -> Result<Replayed, ReplayError> {
    let letters = store.dead_letters(filter).await?;
    let mut replayed = Replayed::default();
    let mut by_stream: BTreeMap<(Arc<str>, u64), Vec<DeadLetter>> = BTreeMap::new();
    for on_file in letters {
        let letter = on_file.letter;
        by_stream.entry((Arc::clone(&letter.stream), letter.epoch)).or_default().push(letter);
    }
    for ((stream, epoch), mut letters) in by_stream {
        letters.sort_by_key(|letter| (letter.sequence, letter.stored_at));
        letters.dedup_by_key(|letter| letter.sequence);
        let place = Provenance { stream: &stream, epoch, stored_at: now };
        let mut memory = Memory::default();
        let opened: Vec<Opened<'_>> = letters
            .iter()
            .flat_map(|letter| open_letter(letter, snapshot, &mut memory, now))
            .collect();
        let mut registers = Registers::default();
        let meters = pipeline::unknown_meters(&opened, &registers);
        let latest = store.latest_reads(&meters).await?;
        registers.learn(&meters, latest.into_iter().map(|read| (read.meter, read.read)));
        let keys = pipeline::questionable_keys(&opened, &registers, true);
        let existing = store.existing_reads(&keys).await?;
        let settled = settle(opened, place, &mut registers, &existing, rules);
        let done = closed(&letters, &settled, &mut replayed);
        store.load(&unledgered(settled, place)).await?;
        store.mark_replayed(&done, now).await?;
    }
    Ok(replayed)
}

/// A letter's bytes as records again: an envelope, or a foreign message read anew.
fn open_letter<'s>(
    letter: &DeadLetter,
    snapshot: &'s RegistrySnapshot,
    memory: &mut Memory,
    now: DateTime<Utc>,
) -> Vec<Opened<'s>> {
    let never_opened = &*letter.reason == BAD_ENVELOPE;
    let records = if never_opened || Envelope::decode(&letter.raw).is_ok() {
        vec![Record::Uplink(letter.raw.clone().into())]
    } else {
        let at = letter.received_at;
        match uplink::transport::open_event(&letter.source, &letter.raw, at) {
            Ok(envelopes) => envelopes.iter().map(|e| Record::Uplink(e.encode().into())).collect(),
            Err(error) => vec![Record::Foreign(ForeignMessage::new(
                &letter.source,
                &letter.raw,
                at.timestamp_millis(),
                error.code(),
                sentence(&error),
            ))],
        }
    };
    let open = |record| open_record(letter.sequence, record, snapshot, memory, NO_REACH, now);
    records.into_iter().map(open).collect()
}

/// Counts how the letters ended; returns those that are done with: no longer refused, or refused
/// for another reason, which is a letter of its own.
fn closed(
    letters: &[DeadLetter],
    settled: &Settled,
    replayed: &mut Replayed,
) -> Vec<DeadLetterKey> {
    let mut endings: HashMap<u64, Ending> = HashMap::new();
    for (sequence, ending) in &settled.endings {
        let worst = endings.entry(*sequence).or_insert(*ending);
        if *ending == Ending::Rejected || *worst == Ending::Duplicate {
            *worst = *ending;
        }
    }
    let mut done = Vec::new();
    for letter in letters {
        let same_again = settled
            .dead_letters
            .iter()
            .any(|again| again.sequence == letter.sequence && again.reason == letter.reason);
        replayed.letters = replayed.letters.saturating_add(1);
        let count = match endings.get(&letter.sequence) {
            Some(Ending::Stored) => &mut replayed.stored,
            // an event that turns out to be no uplink gives nothing, like a repetition
            Some(Ending::Duplicate) | None => &mut replayed.duplicate,
            Some(Ending::Rejected) => &mut replayed.rejected,
        };
        *count = count.saturating_add(1);
        if !same_again {
            done.push(letter.key());
        }
    }
    done
}

/// The rows without counts: the ledger has counted these uplinks already.
fn unledgered(settled: Settled, place: Provenance<'_>) -> LoadBatch {
    let at_ms = u64::try_from(place.stored_at.timestamp_millis()).unwrap_or_default();
    let ledger = Provenance { stream: &Arc::from("replay"), epoch: at_ms, ..place };
    let settled = Settled { counts: Counts::default(), ..settled };
    pipeline::batch_of(settled, ledger, 0, 0)
}
