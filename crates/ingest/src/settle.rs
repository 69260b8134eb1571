//! judge, and how each uplink ends: stored, duplicate or rejected.
//!
//! In: opened uplinks in order, what is known of their registers, what the store has under the
//! keys in question. Out: the rows of a load and the counts that balance.
//! Never here: I/O, opening, the rules themselves (see `vee`).
//!
//! # The endings
//! - *stored*: at least one read is new, or the same uplink had stored it before a crash; or the
//!   uplink carries no reads at all (its events and raw bytes are kept).
//! - *rejected*: no read of it is stored by it, and at least one was refused: impossible in itself,
//!   or another value is stored under its key (conflict).
//! - *duplicate*: every read is stored already, with the same value, by another uplink; or the
//!   uplink is a copy of one a little way back.
//!
//! Refused reads become a dead letter with the raw bytes, also where the uplink's other reads are
//! stored. A stored value is never overwritten.

use crate::{
    open::{Finding, Opened, Readable, Refusal},
    registers::Registers,
};
use chrono::{DateTime, Utc};
use model::{MeterId, RegisterRead, RegisterValue, RuleSet, VeeRule, Verdict};
use std::{collections::HashMap, sync::Arc};
use store_clickhouse::{Counts, DeadLetter, RawUplink, ReadKey, StoredEvent, StoredRead};
use uplink::Network;
use vee::{Candidate, DatedBy, Language, Limits, Rules};

/// How an uplink ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// It gave something new to keep.
    Stored,
    /// It only repeated what is stored.
    Duplicate,
    /// It ended as a dead letter.
    Rejected,
}

/// Where a run of uplinks comes from and when it is settled.
#[derive(Debug, Clone, Copy)]
pub struct Provenance<'a> {
    /// The stream.
    pub stream: &'a Arc<str>,
    /// The epoch of the stream's spool.
    pub epoch: u64,
    /// Now.
    pub stored_at: DateTime<Utc>,
}

/// What becomes of a run of uplinks.
#[derive(Debug, Default)]
pub struct Settled {
    /// Reads to keep.
    pub reads: Vec<StoredRead>,
    /// Raw bytes of what was stored.
    pub raw: Vec<RawUplink>,
    /// Events to keep.
    pub events: Vec<StoredEvent>,
    /// What was refused.
    pub dead_letters: Vec<DeadLetter>,
    /// How many ended in which way.
    pub counts: Counts,
    /// How each uplink ended, in order.
    pub endings: Vec<(u64, Ending)>,
}

/// A value under a key, the uplink it came by, and what validation said of it.
#[derive(Debug, Clone, Copy)]
struct Held {
    value: RegisterValue,
    by: Owner,
    verdict: Verdict,
}

/// What is under a key: in the store, or among the reads settled here.
#[derive(Debug, Default)]
struct Shelf {
    stored: HashMap<ReadKey, Held>,
    /// The first `indexed` of the settled reads. Brought up to date only for a read that is not
    /// later than all others of its register: few are not.
    settled: HashMap<ReadKey, Held>,
    indexed: usize,
}

impl Shelf {
    /// What is in the store under `key`.
    fn stored(&self, key: ReadKey) -> Option<Held> {
        self.stored.get(&key).copied()
    }

    /// What is under `key` among the reads settled here.
    fn settled(&mut self, key: ReadKey, settled: &[StoredRead]) -> Option<Held> {
        for read in settled.iter().skip(self.indexed) {
            let by = Owner::Own(read.sequence);
            self.settled.insert(read.key(), Held { value: read.value, by, verdict: read.verdict });
        }
        self.indexed = settled.len();
        self.settled.get(&key).copied()
    }
}

/// What the reads of one uplink have in common.
struct Common<'u> {
    limits: Limits<'u>,
    meter: MeterId,
    codec: Arc<str>,
    codec_version: u16,
    sequence: u64,
    received_at: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// The uplink of this stream with this sequence.
    Own(u64),
    /// Another stream's.
    Foreign,
}

/// Judges every read and ends every uplink.
pub(crate) fn settle(
    opened: Vec<Opened<'_>>,
    place: Provenance<'_>,
    registers: &mut Registers,
    existing: &[StoredRead],
    rules: &Rules,
) -> Settled {
    let mut desk = Desk::new(place, registers, existing, rules);
    for uplink in opened {
        let (sequence, ending) = (uplink.sequence, desk.end(uplink));
        let count = match ending {
            Ending::Stored => &mut desk.settled.counts.stored,
            Ending::Duplicate => &mut desk.settled.counts.duplicate,
            Ending::Rejected => &mut desk.settled.counts.rejected,
        };
        *count = count.saturating_add(1);
        desk.settled.counts.received = desk.settled.counts.received.saturating_add(1);
        desk.settled.endings.push((sequence, ending));
    }
    desk.settled
}

struct Desk<'a> {
    place: Provenance<'a>,
    registers: &'a mut Registers,
    rules: &'a Rules,
    shelf: Shelf,
    /// Names of codecs and networks, each allocated once.
    names: Vec<Arc<str>>,
    settled: Settled,
}

impl<'a> Desk<'a> {
    fn new(
        place: Provenance<'a>,
        registers: &'a mut Registers,
        existing: &[StoredRead],
        rules: &'a Rules,
    ) -> Self {
        let owner = |read: &StoredRead| {
            if *read.stream == **place.stream && read.epoch == place.epoch {
                Owner::Own(read.sequence)
            } else {
                Owner::Foreign
            }
        };
        let held =
            |read: &StoredRead| Held { value: read.value, by: owner(read), verdict: read.verdict };
        let stored = existing.iter().map(|read| (read.key(), held(read))).collect();
        Self {
            place,
            registers,
            rules,
            shelf: Shelf { stored, ..Shelf::default() },
            names: Vec::new(),
            settled: Settled::default(),
        }
    }

    /// The name, allocated once.
    fn name(&mut self, name: &'static str) -> Arc<str> {
        if let Some(known) = self.names.iter().find(|known| ***known == *name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = Arc::from(name);
        self.names.push(Arc::clone(&name));
        name
    }

    fn end(&mut self, uplink: Opened<'_>) -> Ending {
        match uplink.finding {
            Finding::Copy => Ending::Duplicate,
            Finding::Unreadable(refusal) => {
                self.dead_letter(*refusal, uplink.sequence, uplink.received_at);
                Ending::Rejected
            }
            Finding::Readable(readable) => {
                self.end_readable(*readable, uplink.sequence, uplink.received_at)
            }
        }
    }

    fn end_readable(
        &mut self,
        uplink: Readable<'_>,
        sequence: u64,
        received_at: DateTime<Utc>,
    ) -> Ending {
        let common = Common {
            limits: Limits::of(uplink.entry),
            meter: uplink.entry.meter,
            codec: self.name(uplink.codec),
            codec_version: uplink.codec_version,
            sequence,
            received_at,
        };
        let mut stored = uplink.reads.is_empty();
        let mut refused = RuleSet::EMPTY;
        for (read, dated_by) in &uplink.reads {
            match self.take(&common, read, *dated_by) {
                Taken::New(verdict) => {
                    self.keep(&common, read, verdict);
                    stored = true;
                }
                Taken::StoredBefore => stored = true,
                Taken::Repeated => {}
                Taken::Refused(rules) => refused = refused.union(rules),
            }
        }
        let ending = match (stored, refused.is_empty()) {
            (true, _) => Ending::Stored,
            (false, true) => Ending::Duplicate,
            (false, false) => Ending::Rejected,
        };
        if ending != Ending::Duplicate {
            self.keep_events(&uplink, sequence, received_at);
        }
        if ending == Ending::Stored {
            self.keep_raw(&uplink, sequence, received_at);
        }
        if !refused.is_empty() {
            let letter = refusal(uplink, refused, self.rules);
            self.dead_letter(letter, sequence, received_at);
        }
        ending
    }

    /// Whether the read is new, known, contradicted or impossible.
    fn take(&mut self, common: &Common<'_>, read: &RegisterRead, dated_by: DatedBy) -> Taken {
        let key = (common.meter, read.register, read.measured_at);
        let latest = self.registers.of(common.meter, read.register);
        let held = match self.shelf.stored(key) {
            // Every read settled here is noted as its register's latest, unless a later one is.
            None if latest.may_be_stored(read.measured_at) => {
                self.shelf.settled(key, &self.settled.reads)
            }
            stored => stored,
        };
        if let Some(held) = held {
            if !same_value(held.value, read.value) {
                return Taken::Refused(RuleSet::EMPTY.with(VeeRule::Conflict));
            }
            if held.by != Owner::Own(common.sequence) {
                return Taken::Repeated;
            }
            latest.note(read, is_accepted(held.verdict));
            return Taken::StoredBefore;
        }
        if !StoredRead::is_storable_at(read.measured_at) {
            return Taken::Refused(RuleSet::EMPTY.with(VeeRule::AbsurdTime));
        }
        let known = latest.accepted();
        let candidate = Candidate {
            read,
            dated_by,
            received_at: common.received_at,
            before: known.filter(|known| known.measured_at < read.measured_at),
            after: known.filter(|known| known.measured_at > read.measured_at),
            limits: &common.limits,
        };
        match vee::judge(&candidate, self.rules) {
            Verdict::Refused { failed } => Taken::Refused(failed),
            verdict @ (Verdict::Accepted { .. } | Verdict::Held { .. }) => {
                latest.note(read, is_accepted(verdict));
                Taken::New(verdict)
            }
        }
    }

    fn keep(&mut self, common: &Common<'_>, read: &RegisterRead, verdict: Verdict) {
        self.settled.reads.push(StoredRead {
            meter: common.meter,
            register: read.register,
            measured_at: read.measured_at,
            value: read.value,
            quality: read.quality,
            verdict,
            received_at: common.received_at,
            stored_at: self.place.stored_at,
            codec: Arc::clone(&common.codec),
            codec_version: common.codec_version,
            stream: Arc::clone(self.place.stream),
            epoch: self.place.epoch,
            sequence: common.sequence,
        });
    }

    fn keep_events(&mut self, uplink: &Readable<'_>, sequence: u64, received_at: DateTime<Utc>) {
        let storable = uplink.events.iter().filter(|e| StoredRead::is_storable_at(e.at));
        let rows = storable.map(|event| StoredEvent {
            meter: uplink.entry.meter,
            event: *event,
            received_at,
            stored_at: self.place.stored_at,
            stream: Arc::clone(self.place.stream),
            epoch: self.place.epoch,
            sequence,
        });
        self.settled.events.extend(rows);
    }

    fn keep_raw(&mut self, uplink: &Readable<'_>, sequence: u64, received_at: DateTime<Utc>) {
        let network = self.name(network_name(uplink.envelope.network));
        self.settled.raw.push(RawUplink {
            meter: Some(uplink.entry.meter),
            device: uplink.envelope.device,
            network,
            envelope: uplink.raw.to_vec(),
            received_at,
            gateway: uplink.envelope.radio.gateway,
            rssi_dbm: uplink.envelope.radio.rssi_dbm,
            snr_tenths: uplink.envelope.radio.snr_tenths,
            stream: Arc::clone(self.place.stream),
            epoch: self.place.epoch,
            sequence,
            stored_at: self.place.stored_at,
        });
    }

    fn dead_letter(&mut self, refusal: Refusal, sequence: u64, received_at: DateTime<Utc>) {
        let codec = self.name(refusal.codec);
        self.settled.dead_letters.push(DeadLetter {
            reason: refusal.reason,
            message: refusal.message,
            offset: refusal.offset,
            raw: refusal.raw,
            source: refusal.source,
            device: refusal.device,
            codec,
            codec_version: refusal.codec_version,
            received_at,
            stored_at: self.place.stored_at,
            stream: Arc::clone(self.place.stream),
            epoch: self.place.epoch,
            sequence,
        });
    }
}

/// What became of one read.
enum Taken {
    New(Verdict),
    StoredBefore,
    Repeated,
    Refused(RuleSet),
}

/// The dead letter of an uplink some of whose reads were refused: named by the first rule.
fn refusal(uplink: Readable<'_>, refused: RuleSet, rules: &Rules) -> Refusal {
    let sentences: Vec<String> =
        refused.iter().map(|rule| vee::explain(rule, rules, Language::En)).collect();
    let first = refused
        .iter()
        .find(|rule| rules.severity(*rule) == vee::Severity::Refuse)
        .or_else(|| refused.iter().next());
    Refusal {
        reason: Arc::from(first.map_or("refused", VeeRule::name)),
        message: format!("meter {}: {}", uplink.entry.meter, sentences.join("; ")),
        offset: None,
        raw: uplink.raw.into(),
        source: uplink.envelope.source,
        device: uplink.envelope.device,
        codec: uplink.codec,
        codec_version: uplink.codec_version,
    }
}

fn is_accepted(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Accepted { .. })
}

/// Whether two values of one register are the same amount of the same unit.
fn same_value(a: RegisterValue, b: RegisterValue) -> bool {
    if a == b {
        return true;
    }
    let finest = a.exponent.min(b.exponent);
    a.unit == b.unit
        && a.with_exponent(finest).is_ok_and(|a| b.with_exponent(finest).is_ok_and(|b| a == b))
}

const fn network_name(network: Network) -> &'static str {
    match network {
        Network::NbIot => "nb_iot",
        Network::LorawanServer => "lorawan_server",
        Network::LorawanRaw => "lorawan_raw",
        Network::Platform => "platform",
    }
}
