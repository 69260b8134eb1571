//! Rows of the tables, exactly as their columns stand. They never leave this crate.
//!
//! In: plain values. Out: rows to insert; and back.
//! Never here: SQL, sockets.

use crate::{
    BoundaryRead, DeadLetter, DeadLetterOnFile, LoadBatch, QueryError, RawUplink, StoredEvent,
    StoredRead,
};
use chrono::{DateTime, Utc};
use clickhouse::Row;
use model::{
    DeviceKey, MeterId, ReadQuality, Register, RegisterRead, RegisterValue, RuleSet, Unit, Verdict,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A `DateTime` column; what lies outside it is cut to its ends.
pub(crate) fn seconds(at: DateTime<Utc>) -> u32 {
    u32::try_from(at.timestamp().max(0)).unwrap_or(u32::MAX)
}

/// A `DateTime64(3)` column.
pub(crate) fn millis(at: DateTime<Utc>) -> i64 {
    at.timestamp_millis()
}

fn from_seconds(seconds: u32) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds.into(), 0).unwrap_or_default()
}

fn from_millis(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

#[derive(Row, Serialize)]
pub(crate) struct ReadRow<'a> {
    meter: u32,
    register: u32,
    measured_at: u32,
    count: i64,
    exponent: i8,
    unit: u8,
    quality: u8,
    verdict: u8,
    rules: u64,
    received_at: u32,
    stored_at: i64,
    codec: &'a str,
    codec_version: u16,
    stream: &'a str,
    epoch: u64,
    sequence: u64,
}

impl<'a> From<&'a StoredRead> for ReadRow<'a> {
    fn from(read: &'a StoredRead) -> Self {
        Self {
            meter: read.meter.number(),
            register: read.register.code(),
            measured_at: seconds(read.measured_at),
            count: read.value.count,
            exponent: read.value.exponent,
            unit: read.value.unit.code(),
            quality: read.quality as u8,
            verdict: read.verdict.code(),
            rules: read.verdict.rules().bits(),
            received_at: seconds(read.received_at),
            stored_at: millis(read.stored_at),
            codec: &read.codec,
            codec_version: read.codec_version,
            stream: &read.stream,
            epoch: read.epoch,
            sequence: read.sequence,
        }
    }
}

/// A whole read, in the order of [`READ_COLUMNS`].
#[derive(Row, Deserialize)]
pub(crate) struct ReadBack {
    meter: u32,
    register: u32,
    measured_at: u32,
    count: i64,
    exponent: i8,
    unit: u8,
    quality: u8,
    verdict: u8,
    rules: u64,
    received_at: u32,
    stored_at: i64,
    codec: String,
    codec_version: u16,
    stream: String,
    epoch: u64,
    sequence: u64,
}

pub(crate) const READ_COLUMNS: &str = "meter, register, measured_at, count, exponent, unit, \
     quality, verdict, rules, received_at, stored_at, codec, codec_version, stream, epoch, sequence";

impl ReadBack {
    pub(crate) fn into_read(self, query: &'static str) -> Result<StoredRead, QueryError> {
        let rules = RuleSet::from_bits(self.rules);
        Ok(StoredRead {
            meter: MeterId::new(self.meter),
            register: register(query, self.register)?,
            measured_at: from_seconds(self.measured_at),
            value: RegisterValue::new(self.count, self.exponent, unit(query, self.unit)?),
            quality: quality(query, self.quality)?,
            verdict: Verdict::from_code(self.verdict, rules)
                .ok_or_else(|| unknown(query, "verdict", self.verdict))?,
            received_at: from_seconds(self.received_at),
            stored_at: from_millis(self.stored_at),
            codec: self.codec.into(),
            codec_version: self.codec_version,
            stream: self.stream.into(),
            epoch: self.epoch,
            sequence: self.sequence,
        })
    }
}

#[derive(Row, Deserialize)]
pub(crate) struct BoundaryBack {
    meter: u32,
    register: u32,
    measured_at: u32,
    count: i64,
    exponent: i8,
    unit: u8,
    quality: u8,
    stored_at: i64,
}

impl BoundaryBack {
    pub(crate) fn into_read(self, query: &'static str) -> Result<BoundaryRead, QueryError> {
        Ok(BoundaryRead {
            meter: MeterId::new(self.meter),
            read: RegisterRead {
                register: register(query, self.register)?,
                value: RegisterValue::new(self.count, self.exponent, unit(query, self.unit)?),
                measured_at: from_seconds(self.measured_at),
                quality: quality(query, self.quality)?,
            },
            stored_at: from_millis(self.stored_at),
        })
    }
}

#[derive(Row, Serialize)]
pub(crate) struct EventRow<'a> {
    meter: u32,
    kind: u8,
    at: u32,
    detail: u64,
    received_at: u32,
    stored_at: i64,
    stream: &'a str,
    epoch: u64,
    sequence: u64,
}

impl<'a> From<&'a StoredEvent> for EventRow<'a> {
    fn from(event: &'a StoredEvent) -> Self {
        Self {
            meter: event.meter.number(),
            kind: event.event.kind as u8,
            at: seconds(event.event.at),
            detail: event.event.detail,
            received_at: seconds(event.received_at),
            stored_at: millis(event.stored_at),
            stream: &event.stream,
            epoch: event.epoch,
            sequence: event.sequence,
        }
    }
}

#[derive(Row, Serialize)]
pub(crate) struct RawRow<'a> {
    meter: u32,
    stream: &'a str,
    epoch: u64,
    sequence: u64,
    device: String,
    network: &'a str,
    #[serde(with = "serde_bytes")]
    envelope: &'a [u8],
    received_at: i64,
    gateway: Option<u64>,
    rssi_dbm: Option<i16>,
    snr_tenths: Option<i16>,
    stored_at: i64,
}

impl<'a> From<&'a RawUplink> for RawRow<'a> {
    fn from(raw: &'a RawUplink) -> Self {
        Self {
            meter: raw.meter.map_or(0, MeterId::number),
            stream: &raw.stream,
            epoch: raw.epoch,
            sequence: raw.sequence,
            device: device_text(raw.device),
            network: &raw.network,
            envelope: &raw.envelope,
            received_at: millis(raw.received_at),
            gateway: raw.gateway,
            rssi_dbm: raw.rssi_dbm,
            snr_tenths: raw.snr_tenths,
            stored_at: millis(raw.stored_at),
        }
    }
}

#[derive(Row, Deserialize)]
pub(crate) struct RawBack {
    meter: u32,
    stream: String,
    epoch: u64,
    sequence: u64,
    device: String,
    network: String,
    #[serde(with = "serde_bytes")]
    envelope: Vec<u8>,
    received_at: i64,
    gateway: Option<u64>,
    rssi_dbm: Option<i16>,
    snr_tenths: Option<i16>,
    stored_at: i64,
}

pub(crate) const RAW_COLUMNS: &str = "meter, stream, epoch, sequence, device, network, envelope, \
     received_at, gateway, rssi_dbm, snr_tenths, stored_at";

impl RawBack {
    pub(crate) fn into_raw(self, query: &'static str) -> Result<RawUplink, QueryError> {
        Ok(RawUplink {
            meter: (self.meter != 0).then(|| MeterId::new(self.meter)),
            device: device(query, &self.device)?,
            network: self.network.into(),
            envelope: self.envelope,
            received_at: from_millis(self.received_at),
            gateway: self.gateway,
            rssi_dbm: self.rssi_dbm,
            snr_tenths: self.snr_tenths,
            stream: self.stream.into(),
            epoch: self.epoch,
            sequence: self.sequence,
            stored_at: from_millis(self.stored_at),
        })
    }
}

#[derive(Row, Serialize)]
pub(crate) struct DeadLetterRow<'a> {
    stream: &'a str,
    epoch: u64,
    sequence: u64,
    reason: &'a str,
    message: &'a str,
    frame_offset: Option<u32>,
    #[serde(with = "serde_bytes")]
    raw: &'a [u8],
    source: &'a str,
    device: String,
    codec: &'a str,
    codec_version: u16,
    received_at: i64,
    stored_at: i64,
}

impl<'a> From<&'a DeadLetter> for DeadLetterRow<'a> {
    fn from(letter: &'a DeadLetter) -> Self {
        Self {
            stream: &letter.stream,
            epoch: letter.epoch,
            sequence: letter.sequence,
            reason: &letter.reason,
            message: &letter.message,
            frame_offset: letter.offset,
            raw: &letter.raw,
            source: &letter.source,
            device: device_text(letter.device),
            codec: &letter.codec,
            codec_version: letter.codec_version,
            received_at: millis(letter.received_at),
            stored_at: millis(letter.stored_at),
        }
    }
}

#[derive(Row, Deserialize)]
pub(crate) struct DeadLetterBack {
    stream: String,
    epoch: u64,
    sequence: u64,
    reason: String,
    message: String,
    frame_offset: Option<u32>,
    #[serde(with = "serde_bytes")]
    raw: Vec<u8>,
    source: String,
    device: String,
    codec: String,
    codec_version: u16,
    received_at: i64,
    stored_at: i64,
    /// 0 where it was never replayed.
    replayed_at: i64,
}

impl DeadLetterBack {
    pub(crate) fn into_letter(self, query: &'static str) -> Result<DeadLetterOnFile, QueryError> {
        Ok(DeadLetterOnFile {
            letter: DeadLetter {
                reason: self.reason.into(),
                message: self.message,
                offset: self.frame_offset,
                raw: self.raw,
                source: self.source,
                device: device(query, &self.device)?,
                codec: self.codec.into(),
                codec_version: self.codec_version,
                received_at: from_millis(self.received_at),
                stored_at: from_millis(self.stored_at),
                stream: self.stream.into(),
                epoch: self.epoch,
                sequence: self.sequence,
            },
            replayed_at: (self.replayed_at > 0).then(|| from_millis(self.replayed_at)),
        })
    }
}

#[derive(Row, Serialize)]
pub(crate) struct ReplayRow<'a> {
    pub(crate) stream: &'a str,
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) reason: &'a str,
    pub(crate) replayed_at: i64,
}

#[derive(Row, Serialize)]
pub(crate) struct LedgerRow<'a> {
    stream: &'a str,
    epoch: u64,
    first_sequence: u64,
    next_sequence: u64,
    received: u64,
    stored: u64,
    duplicate: u64,
    rejected: u64,
    stored_at: i64,
}

impl<'a> From<&'a LoadBatch> for LedgerRow<'a> {
    fn from(batch: &'a LoadBatch) -> Self {
        Self {
            stream: &batch.stream,
            epoch: batch.epoch,
            first_sequence: batch.first_sequence,
            next_sequence: batch.next_sequence,
            received: batch.counts.received,
            stored: batch.counts.stored,
            duplicate: batch.counts.duplicate,
            rejected: batch.counts.rejected,
            stored_at: millis(batch.stored_at),
        }
    }
}

fn device_text(device: Option<DeviceKey>) -> String {
    device.map(|device| device.to_string()).unwrap_or_default()
}

fn device(query: &'static str, text: &str) -> Result<Option<DeviceKey>, QueryError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| unknown(query, "device", text))
}

fn register(query: &'static str, code: u32) -> Result<Register, QueryError> {
    Register::from_code(code).ok_or_else(|| unknown(query, "register", code))
}

fn unit(query: &'static str, code: u8) -> Result<Unit, QueryError> {
    Unit::from_code(code).ok_or_else(|| unknown(query, "unit", code))
}

fn quality(query: &'static str, code: u8) -> Result<ReadQuality, QueryError> {
    ReadQuality::from_code(code).ok_or_else(|| unknown(query, "quality", code))
}

fn unknown(query: &'static str, column: &'static str, value: impl ToString) -> QueryError {
    QueryError::Unknown { query, column, value: value.to_string() }
}

/// The stream's name as callers hold it.
pub(crate) fn shared(text: String) -> Arc<str> {
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_outside_the_column_is_cut_to_its_ends() {
        assert_eq!(seconds(DateTime::<Utc>::MIN_UTC), 0);
        assert_eq!(seconds(DateTime::<Utc>::MAX_UTC), u32::MAX);
        assert_eq!(from_seconds(u32::MAX).to_rfc3339(), "2106-02-07T06:28:15+00:00");
    }
}
