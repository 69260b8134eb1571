//! What the store takes and gives: plain values, no rows of tables.
//!
//! In: model nouns with their place in a stream. Out: the same.
//! Never here: SQL, column types, serialisation.

use chrono::{DateTime, Utc};
use model::{
    DeviceKey, MeterEvent, MeterId, ReadQuality, Register, RegisterRead, RegisterValue, Verdict,
};
use std::{ops::AddAssign, sync::Arc};

/// What makes a read unique.
pub type ReadKey = (MeterId, Register, DateTime<Utc>);

/// A judged read with its provenance, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRead {
    /// The meter.
    pub meter: MeterId,
    /// Its register.
    pub register: Register,
    /// When the register showed the value; whole seconds from 1970-01-01 to 2106-02-07, see
    /// [`StoredRead::is_storable_at`].
    pub measured_at: DateTime<Utc>,
    /// What it showed.
    pub value: RegisterValue,
    /// How the value came to be.
    pub quality: ReadQuality,
    /// What validation said.
    pub verdict: Verdict,
    /// When the uplink reached us; kept to the second.
    pub received_at: DateTime<Utc>,
    /// When it was given to the store; kept to the millisecond.
    pub stored_at: DateTime<Utc>,
    /// Profile that decoded it.
    pub codec: Arc<str>,
    /// Version of that profile's decoder.
    pub codec_version: u16,
    /// Gateway stream it came in.
    pub stream: Arc<str>,
    /// Epoch of the stream's spool.
    pub epoch: u64,
    /// Sequence number of the uplink in the epoch.
    pub sequence: u64,
}

impl StoredRead {
    /// What makes it unique.
    #[must_use]
    pub const fn key(&self) -> ReadKey {
        (self.meter, self.register, self.measured_at)
    }

    /// Whether a read measured at `at` can be stored: 1970-01-01 to 2106-02-07. Anything else is
    /// an absurd time and belongs into a dead letter.
    #[must_use]
    pub fn is_storable_at(at: DateTime<Utc>) -> bool {
        u32::try_from(at.timestamp()).is_ok()
    }
}

/// An uplink as it was delivered, kept for a while so that it can be decoded again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawUplink {
    /// The meter, where it could be identified.
    pub meter: Option<MeterId>,
    /// How the device names itself, where the transport says so.
    pub device: Option<DeviceKey>,
    /// Network it came over, as in `nb_iot`.
    pub network: Arc<str>,
    /// The encoded envelope; opaque here.
    pub envelope: Vec<u8>,
    /// When it reached us; kept to the millisecond.
    pub received_at: DateTime<Utc>,
    /// LoRaWAN gateway that heard it best.
    pub gateway: Option<u64>,
    /// Signal strength in dBm.
    pub rssi_dbm: Option<i16>,
    /// Signal to noise in tenths of a dB.
    pub snr_tenths: Option<i16>,
    /// Gateway stream it came in.
    pub stream: Arc<str>,
    /// Epoch of the stream's spool.
    pub epoch: u64,
    /// Sequence number of the uplink in the epoch.
    pub sequence: u64,
    /// When it was given to the store; retention counts from here.
    pub stored_at: DateTime<Utc>,
}

/// A meter event with its provenance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// The meter.
    pub meter: MeterId,
    /// What happened and when.
    pub event: MeterEvent,
    /// When the uplink reached us; kept to the second.
    pub received_at: DateTime<Utc>,
    /// When it was given to the store.
    pub stored_at: DateTime<Utc>,
    /// Gateway stream it came in.
    pub stream: Arc<str>,
    /// Epoch of the stream's spool.
    pub epoch: u64,
    /// Sequence number of the uplink in the epoch.
    pub sequence: u64,
}

/// Something that could not be turned into reads, with all that is needed to try again.
/// Unique by stream, epoch, sequence and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Stable code: `unknown_device`, `mic_mismatch`, `conflict`, …
    pub reason: Arc<str>,
    /// What was wrong, for a person.
    pub message: String,
    /// Byte of the frame it was noticed at.
    pub offset: Option<u32>,
    /// The bytes as they came: the encoded envelope, or the body of a foreign message.
    pub raw: Vec<u8>,
    /// Where they came from: topic or transport.
    pub source: String,
    /// How the device names itself, where the transport says so.
    pub device: Option<DeviceKey>,
    /// Profile that tried to decode it; empty when it did not come that far.
    pub codec: Arc<str>,
    /// Version of that profile's decoder.
    pub codec_version: u16,
    /// When it reached us; kept to the millisecond.
    pub received_at: DateTime<Utc>,
    /// When it was given to the store.
    pub stored_at: DateTime<Utc>,
    /// Gateway stream it came in.
    pub stream: Arc<str>,
    /// Epoch of the stream's spool.
    pub epoch: u64,
    /// Sequence number of the uplink in the epoch.
    pub sequence: u64,
}

/// What makes a dead letter unique.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeadLetterKey {
    /// Gateway stream.
    pub stream: Arc<str>,
    /// Epoch of the stream's spool.
    pub epoch: u64,
    /// Sequence number of the uplink in the epoch.
    pub sequence: u64,
    /// Stable reason code.
    pub reason: Arc<str>,
}

impl DeadLetter {
    /// What makes it unique.
    #[must_use]
    pub fn key(&self) -> DeadLetterKey {
        DeadLetterKey {
            stream: Arc::clone(&self.stream),
            epoch: self.epoch,
            sequence: self.sequence,
            reason: Arc::clone(&self.reason),
        }
    }
}

/// A dead letter and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterOnFile {
    /// The letter.
    pub letter: DeadLetter,
    /// When it was last replayed; `None` while it is open.
    pub replayed_at: Option<DateTime<Utc>>,
}

/// How many uplinks ended in which way. Every uplink ends in exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Uplinks taken in.
    pub received: u64,
    /// Of these, gave something new to keep.
    pub stored: u64,
    /// Of these, only repeated what is stored.
    pub duplicate: u64,
    /// Of these, ended as a dead letter.
    pub rejected: u64,
}

impl Counts {
    /// Whether received = stored + duplicate + rejected.
    #[must_use]
    pub fn balance(&self) -> bool {
        self.residue() == 0
    }

    /// received − stored − duplicate − rejected; anything but 0 is an alarm.
    #[must_use]
    pub fn residue(&self) -> i128 {
        i128::from(self.received)
            - i128::from(self.stored)
            - i128::from(self.duplicate)
            - i128::from(self.rejected)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.received = self.received.saturating_add(more.received);
        self.stored = self.stored.saturating_add(more.stored);
        self.duplicate = self.duplicate.saturating_add(more.duplicate);
        self.rejected = self.rejected.saturating_add(more.rejected);
    }
}

/// A place in a gateway's stream: everything before it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Epoch of the stream's spool.
    pub epoch: u64,
    /// First sequence number that is not stored yet.
    pub next_sequence: u64,
}

/// A run of consecutive uplinks of one stream, ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadBatch {
    /// Gateway stream.
    pub stream: Arc<str>,
    /// Epoch of the stream's spool.
    pub epoch: u64,
    /// Sequence number of the first uplink.
    pub first_sequence: u64,
    /// Sequence number after the last uplink.
    pub next_sequence: u64,
    /// Reads to keep, of whatever verdict.
    pub reads: Vec<StoredRead>,
    /// Uplinks as they came.
    pub raw: Vec<RawUplink>,
    /// Events to keep.
    pub events: Vec<StoredEvent>,
    /// What could not be decoded or was refused.
    pub dead_letters: Vec<DeadLetter>,
    /// How many of the uplinks ended in which way.
    pub counts: Counts,
    /// When the batch was put together.
    pub stored_at: DateTime<Utc>,
}

/// The last accepted read of a register up to some instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundaryRead {
    /// The meter.
    pub meter: MeterId,
    /// Register, value, instant of measurement and quality.
    pub read: RegisterRead,
    /// When it was stored, to the millisecond.
    pub stored_at: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_balance_when_every_uplink_ended_once() {
        let mut counts = Counts { received: 6, stored: 3, duplicate: 2, rejected: 1 };
        assert!(counts.balance());
        counts += Counts { received: 1, ..Counts::default() };
        assert!(!counts.balance());
        assert!(!Counts { stored: u64::MAX, duplicate: 1, ..Counts::default() }.balance());
    }
}
