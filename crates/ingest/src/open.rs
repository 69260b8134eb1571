//! identify ▸ open ▸ decode: from a record's bytes to what its meter says.
//!
//! In: one record, the registry snapshot. Out: reads and events with their instants, or why there
//! are none. Never here: whether a read is believed or already stored, I/O.

use crate::{
    record::Record,
    window::{Likeness, Reach, Window},
};
use bytes::Bytes;
use chrono::{DateTime, Timelike, Utc};
use model::{DeviceKey, MeterEntry, MeterEvent, MeterId, RegisterRead, RegistrySnapshot};
use std::{collections::HashMap, sync::Arc};
use uplink::{Decoded, DecodedRead, Envelope, Profile, UplinkError};
use vee::DatedBy;

/// The network's time is believed when it is at most this far ahead of ours.
const NETWORK_AHEAD_MS_MAX: i64 = 300_000;

/// The code of bytes that are no envelope.
pub(crate) const BAD_ENVELOPE: &str = "bad_envelope";

/// One record after the steps that look at it alone.
#[derive(Debug)]
pub struct Opened<'s> {
    /// Its place in the stream.
    pub sequence: u64,
    /// When it reached us.
    pub received_at: DateTime<Utc>,
    /// What it is.
    pub finding: Finding<'s>,
}

/// What a record turned out to be.
#[derive(Debug)]
pub enum Finding<'s> {
    /// A copy of an uplink a little way back in the stream.
    Copy,
    /// Nothing that could be read.
    Unreadable(Box<Refusal>),
    /// What a meter says.
    Readable(Box<Readable<'s>>),
}

/// What a meter says, dated.
#[derive(Debug)]
pub struct Readable<'s> {
    /// The meter.
    pub entry: &'s MeterEntry,
    /// Its reads, in the order of the payload.
    pub reads: Vec<(RegisterRead, DatedBy)>,
    /// Its events, in the order of the payload.
    pub events: Vec<MeterEvent>,
    /// The profile that read it.
    pub codec: &'static str,
    /// The version of its codec.
    pub codec_version: u16,
    /// The uplink.
    pub envelope: Envelope,
    /// Its bytes.
    pub raw: Bytes,
}

/// Why there are no reads, with all that is needed to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The stable code.
    pub reason: Arc<str>,
    /// What is wrong, for a person.
    pub message: String,
    /// The byte it was noticed at.
    pub offset: Option<u32>,
    /// The bytes as they came: an encoded envelope, or a foreign message's body.
    pub raw: Vec<u8>,
    /// Where they came from.
    pub source: String,
    /// The device, where the transport names it.
    pub device: Option<DeviceKey>,
    /// The profile that tried to read it; empty when it did not come that far.
    pub codec: &'static str,
    /// The version of its codec.
    pub codec_version: u16,
}

/// What the opening steps remember of a stream: its latest uplinks, to recognise copies, and how far
/// its meters have counted, to refuse old frames whose reads carry no date of their own.
#[derive(Debug, Default)]
pub struct Memory {
    pub(crate) window: Window,
    pub(crate) counters: HashMap<MeterId, u32>,
}

impl Memory {
    /// Remembers a record that was settled before a restart: what copies of it look like, and how
    /// far its meter has counted.
    pub fn recall(
        &mut self,
        sequence: u64,
        record: Record,
        snapshot: &RegistrySnapshot,
        reach: Reach,
    ) {
        if let Record::Uplink(bytes) = record
            && let Ok(envelope) = Envelope::decode(&bytes)
        {
            if let Some(likeness) = Likeness::of(&envelope) {
                let at_ms = envelope.received_at_ms;
                let _known = self.window.is_copy(likeness, sequence, at_ms, reach);
            }
            if let Ok(entry) = uplink::identify(&envelope, snapshot)
                && let Ok(opened) = uplink::open(&envelope, entry, None)
                && let Some(counter) = opened.counter
            {
                self.count(entry.meter, counter);
            }
        }
    }

    fn count(&mut self, meter: MeterId, counter: u32) {
        let highest = self.counters.entry(meter).or_insert(counter);
        *highest = counter.max(*highest);
    }
}

/// Opens one record. `now` dates only what does not say itself when it was received.
pub(crate) fn open_record<'s>(
    sequence: u64,
    record: Record,
    snapshot: &'s RegistrySnapshot,
    memory: &mut Memory,
    reach: Reach,
    now: DateTime<Utc>,
) -> Opened<'s> {
    let bytes = match record {
        Record::Uplink(bytes) => bytes,
        Record::Foreign(message) => {
            return Opened {
                sequence,
                received_at: instant(message.received_at_ms),
                finding: Finding::Unreadable(Box::new(Refusal {
                    reason: Arc::from(message.code),
                    message: message.message,
                    offset: None,
                    raw: message.body,
                    source: message.topic,
                    device: None,
                    codec: "",
                    codec_version: 0,
                })),
            };
        }
    };
    let envelope = match Envelope::decode(&bytes) {
        Ok(envelope) => envelope,
        Err(error) => {
            return Opened {
                sequence,
                received_at: now,
                finding: Finding::Unreadable(Box::new(Refusal {
                    reason: Arc::from(BAD_ENVELOPE),
                    message: sentence(&error),
                    offset: None,
                    raw: bytes.into(),
                    source: String::new(),
                    device: None,
                    codec: "",
                    codec_version: 0,
                })),
            };
        }
    };
    let received_at = instant(envelope.received_at_ms);
    let is_copy = Likeness::of(&envelope).is_some_and(|likeness| {
        memory.window.is_copy(likeness, sequence, envelope.received_at_ms, reach)
    });
    let finding =
        if is_copy { Finding::Copy } else { open_envelope(envelope, bytes, snapshot, memory) };
    Opened { sequence, received_at, finding }
}

fn open_envelope<'s>(
    envelope: Envelope,
    raw: Bytes,
    snapshot: &'s RegistrySnapshot,
    memory: &mut Memory,
) -> Finding<'s> {
    let refused =
        |error: &UplinkError, codec: &'static str, version, envelope: Envelope, raw: Bytes| {
            Finding::Unreadable(Box::new(Refusal {
                reason: Arc::from(error.code()),
                message: sentence(error),
                offset: error.offset().and_then(|offset| u32::try_from(offset).ok()),
                raw: raw.into(),
                source: envelope.source,
                device: envelope.device,
                codec,
                codec_version: version,
            }))
        };
    let entry = match uplink::identify(&envelope, snapshot) {
        Ok(entry) => entry,
        Err(error) => return refused(&error, "", 0, envelope, raw),
    };
    let Some(profile) = uplink::profile::by_name(&entry.profile) else {
        let error = UplinkError::UnknownProfile { name: entry.profile.clone() };
        return refused(&error, "", 0, envelope, raw);
    };
    let hint = memory.counters.get(&entry.meter).copied();
    let heard_at = heard_at(&envelope);
    let (counter, decoded) = match read_payload(&envelope, entry, profile, hint, heard_at) {
        Ok(read) => read,
        Err(error) => return refused(&error, profile.name, profile.codec_version, envelope, raw),
    };
    if let Some(counter) = counter {
        memory.count(entry.meter, counter);
    }
    let reads = decoded.reads.iter().map(|read| dated(read, heard_at)).collect();
    let events = decoded.events.iter().map(|event| MeterEvent {
        kind: event.kind,
        at: whole_second(event.at.unwrap_or(heard_at)),
        detail: event.detail,
    });
    Finding::Readable(Box::new(Readable {
        entry,
        reads,
        events: events.collect(),
        codec: decoded.profile,
        codec_version: decoded.codec_version,
        envelope,
        raw,
    }))
}

/// open ▸ decode. A counter far behind the last one is no objection to reads the meter dates
/// itself: they are what they are whenever they come, and a copy of one is found by its key. So
/// what is remembered of counters decides about undated reads only.
fn read_payload(
    envelope: &Envelope,
    entry: &MeterEntry,
    profile: &'static Profile,
    hint: Option<u32>,
    heard_at: DateTime<Utc>,
) -> Result<(Option<u32>, Decoded), UplinkError> {
    match uplink::open(envelope, entry, hint) {
        Ok(opened) => {
            uplink::decode(&opened, profile, heard_at).map(|decoded| (opened.counter, decoded))
        }
        Err(replayed @ UplinkError::Replayed { .. }) => {
            let opened = uplink::open(envelope, entry, None)?;
            let decoded = uplink::decode(&opened, profile, heard_at)?;
            let all_dated = decoded.reads.iter().all(|read| read.measured_at.is_some());
            if all_dated { Ok((opened.counter, decoded)) } else { Err(replayed) }
        }
        Err(error) => Err(error),
    }
}

/// A decoded read with its instant: the meter's where it has a clock, the network's otherwise.
fn dated(read: &DecodedRead, heard_at: DateTime<Utc>) -> (RegisterRead, DatedBy) {
    let (at, by) = match read.measured_at {
        Some(at) => (at, DatedBy::Meter),
        None => (heard_at, DatedBy::Reception),
    };
    let read = RegisterRead {
        register: read.register,
        value: read.value,
        measured_at: whole_second(at),
        quality: read.quality,
    };
    (read, by)
}

/// When the network heard the uplink; our own time of reception where it does not say or is ahead
/// of us.
fn heard_at(envelope: &Envelope) -> DateTime<Utc> {
    let latest = envelope.received_at_ms.saturating_add(NETWORK_AHEAD_MS_MAX);
    let heard_ms = envelope.network_time_ms.filter(|ms| (0..=latest).contains(ms));
    instant(heard_ms.unwrap_or(envelope.received_at_ms))
}

fn instant(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or(DateTime::UNIX_EPOCH)
}

fn whole_second(at: DateTime<Utc>) -> DateTime<Utc> {
    at.with_nanosecond(0).unwrap_or(at)
}

/// An error with its causes, in one line.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
