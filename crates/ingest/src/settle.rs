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
use model::{MeterEntry, RegisterRead, RegisterValue, RuleSet, VeeRule, Verdict};
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

/// A value under a key, and the uplink it came by.
#[derive(Debug, Clone, Copy)]
struct Held {
    value: RegisterValue,
    by: Owner,
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
    /// What is stored, or about to be, under the keys in question.
    held: HashMap<ReadKey, Held>,
    /// Verdicts of reads that this very uplink had stored before a crash.
    verdicts: HashMap<ReadKey, Verdict>,
    codecs: HashMap<&'static str, Arc<str>>,
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
        let held = existing
            .iter()
            .map(|read| (read.key(), Held { value: read.value, by: owner(read) }))
            .collect();
        let verdicts = existing.iter().map(|read| (read.key(), read.verdict)).collect();
        let codecs = HashMap::new();
        Self { place, registers, rules, held, verdicts, codecs, settled: Settled::default() }
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
        let mut stored = uplink.reads.is_empty();
        let mut refused = RuleSet::EMPTY;
        for (read, dated_by) in &uplink.reads {
            match self.take(uplink.entry, read, *dated_by, sequence, received_at) {
                Taken::New(verdict) => {
                    self.keep(&uplink, read, verdict, sequence, received_at);
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
    fn take(
        &mut self,
        entry: &MeterEntry,
        read: &RegisterRead,
        dated_by: DatedBy,
        sequence: u64,
        received_at: DateTime<Utc>,
    ) -> Taken {
        let key = (entry.meter, read.register, read.measured_at);
        if let Some(held) = self.held.get(&key) {
            if !same_value(held.value, read.value) {
                return Taken::Refused(RuleSet::EMPTY.with(VeeRule::Conflict));
            }
            if held.by != Owner::Own(sequence) {
                return Taken::Repeated;
            }
            self.registers.note_stored(entry.meter, read.register, read.measured_at);
            if let Some(Verdict::Accepted { .. }) = self.verdicts.get(&key) {
                self.registers.note_accepted(entry.meter, read);
            }
            return Taken::StoredBefore;
        }
        if !StoredRead::is_storable_at(read.measured_at) {
            return Taken::Refused(RuleSet::EMPTY.with(VeeRule::AbsurdTime));
        }
        let limits = Limits::of(entry);
        let known = self.registers.accepted(entry.meter, read.register);
        let candidate = Candidate {
            read,
            dated_by,
            received_at,
            before: known.filter(|known| known.measured_at < read.measured_at),
            after: known.filter(|known| known.measured_at > read.measured_at),
            limits: &limits,
        };
        match vee::judge(&candidate, self.rules) {
            Verdict::Refused { failed } => Taken::Refused(failed),
            verdict @ (Verdict::Accepted { .. } | Verdict::Held { .. }) => {
                self.held.insert(key, Held { value: read.value, by: Owner::Own(sequence) });
                self.verdicts.insert(key, verdict);
                self.registers.note_stored(entry.meter, read.register, read.measured_at);
                if let Verdict::Accepted { .. } = verdict {
                    self.registers.note_accepted(entry.meter, read);
                }
                Taken::New(verdict)
            }
        }
    }

    fn keep(
        &mut self,
        uplink: &Readable<'_>,
        read: &RegisterRead,
        verdict: Verdict,
        sequence: u64,
        received_at: DateTime<Utc>,
    ) {
        let codec =
            Arc::clone(self.codecs.entry(uplink.codec).or_insert_with(|| Arc::from(uplink.codec)));
        self.settled.reads.push(StoredRead {
            meter: uplink.entry.meter,
            register: read.register,
            measured_at: read.measured_at,
            value: read.value,
            quality: read.quality,
            verdict,
            received_at,
            stored_at: self.place.stored_at,
            codec,
            codec_version: uplink.codec_version,
            stream: Arc::clone(self.place.stream),
            epoch: self.place.epoch,
            sequence,
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
        let network = network_name(uplink.envelope.network);
        let network = Arc::clone(self.codecs.entry(network).or_insert_with(|| Arc::from(network)));
        self.settled.raw.push(RawUplink {
            meter: Some(uplink.entry.meter),
            device: uplink.envelope.device,
            network,
            envelope: uplink.raw.clone(),
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
        self.settled.dead_letters.push(DeadLetter {
            reason: refusal.reason,
            message: refusal.message,
            offset: refusal.offset,
            raw: refusal.raw,
            source: refusal.source,
            device: refusal.device,
            codec: Arc::from(refusal.codec),
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
        raw: uplink.raw,
        source: uplink.envelope.source,
        device: uplink.envelope.device,
        codec: uplink.codec,
        codec_version: uplink.codec_version,
    }
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
