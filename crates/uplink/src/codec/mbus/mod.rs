//! M-Bus, wireless M-Bus and OMS (EN 13757-2, -3, -4, -7).
//!
//! In: one frame of a wire, a radio or a concentrator, with or without link checksums, and the
//! meter's key where it encrypts. Out: who sent it, its reads and events; the same encoded.
//! Never here: makers' own frames (CI A0 to B7) and drivers, fragments, DES, keys' whereabouts.
//!
//! A frame is opened layer by layer: link ([`link`]), extended link, authentication and transport
//! (`layers`), security (`security`), then records (`record`, `value`, `vif`) become registers by
//! the rules of `map`. Error offsets count in the frame without its link checksums; in a compact
//! frame, in the data put together from it.

mod compact;
mod encode;
mod fixed;
mod layers;
mod link;
mod map;
mod record;
mod security;
mod value;
mod vif;

pub use compact::FormatMemory;
pub use encode::{
    Data, EncodeError, NewRecord, Seal, Telegram, encode_extended, encode_wired, encode_wireless,
    put_clock, put_read, put_record,
};
pub use layers::Content;
pub use link::{FRAME_BYTES_MAX, LinkFormat, crc, with_crc_a, with_crc_b};
pub use record::{Function, RECORDS_MAX, Record, Records};
pub use security::Protection;
pub use value::Value;
pub use vif::{Aspect, Meaning, Table, Vif};

use super::cjt188::to_utc;
use crate::bytes::Reader;
use crate::decoded::{Decoded, DecodedEvent, Details};
use crate::profile::Profile;
use crate::{DecodedRead, UplinkError};
use chrono::NaiveDateTime;
use link::Link;
use map::Mapped;
use model::{DeviceKey, EventKind};

/// Control fields a wireless meter sends with (EN 13757-4 table 5): SND-NR, SND-IR, ACC-NR,
/// ACC-DMD, RSP-UD and its variants.
const METER_CONTROLS: &[u8] = &[0x44, 0x46, 0x47, 0x48, 0x08, 0x18, 0x28, 0x38];

/// What a frame says beside its reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Which link layer it came in.
    pub format: LinkFormat,
    /// C as sent.
    pub control: u8,
    /// Manufacturer, id, version and type of the radio, in wire order; `None` by wire.
    pub link_address: Option<[u8; 8]>,
    /// The same of the meter: of its transport header where that is long.
    pub address: Option<[u8; 8]>,
    /// The CI field of the transport layer.
    pub ci: Option<u8>,
    /// What the data are.
    pub content: Option<Content>,
    /// The security mode its header names.
    pub mode: u8,
    /// How it was protected.
    pub protection: Protection,
    /// The counter of a message whose MAC fits: it rises with every one.
    pub counter: Option<u32>,
    /// The access number of the transport layer.
    pub access: Option<u8>,
    /// The status byte.
    pub status: Option<u8>,
    /// The meter's clock, in the meter's local time.
    pub meter_time: Option<NaiveDateTime>,
    /// How many records it holds, a maker's block counted as one.
    pub records: usize,
    /// Where the records break off; what stands before is good.
    pub damaged_at: Option<usize>,
    /// The code of an error report.
    pub error_report: Option<u8>,
    /// Foreign bytes after the frame.
    pub trailing: usize,
}

impl Facts {
    const fn of(link: &Link) -> Self {
        Self {
            format: link.format,
            control: link.control,
            link_address: link.address,
            address: link.address,
            ci: None,
            content: None,
            mode: 0,
            protection: Protection::None,
            counter: None,
            access: None,
            status: None,
            meter_time: None,
            records: 0,
            damaged_at: None,
            error_report: None,
            trailing: link.trailing,
        }
    }

    /// The meter's name in the registry.
    #[must_use]
    pub fn device(&self) -> Option<DeviceKey> {
        self.address.map(|address| DeviceKey::Mbus(u64::from_be_bytes(address)))
    }

    /// The identification number as printed, where it is digits.
    #[must_use]
    pub fn identification(&self) -> Option<u64> {
        let [_, _, i0, i1, i2, i3, _, _] = self.address?;
        crate::bytes::bcd_le(&[i0, i1, i2, i3]).ok()
    }

    /// The maker's three letters (EN 13757-3 §5.6).
    #[must_use]
    pub fn manufacturer(&self) -> Option<String> {
        let [m0, m1, ..] = self.address?;
        let word = u16::from_le_bytes([m0, m1]);
        let letter = |shift: u16| u8::try_from((word >> shift & 0x1F) + 64).ok().map(char::from);
        [10, 5, 0].into_iter().map(letter).collect()
    }

    /// The device type (EN 13757-3 table 13).
    #[must_use]
    pub fn device_type(&self) -> Option<u8> {
        self.address.map(|[.., kind]| kind)
    }
}

/// A frame in clear, before its data are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    frame: Vec<u8>,
    body: usize,
    end: usize,
    /// What its layers say.
    pub facts: Facts,
}

impl Opened {
    /// The application data, and where they begin in the frame.
    #[must_use]
    pub fn body(&self) -> (&[u8], usize) {
        (self.frame.get(self.body..self.end).unwrap_or_default(), self.body)
    }

    /// The records of a frame that is not compact.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        let (body, base) = self.body();
        Records::new(body, base)
    }

    /// The frame in clear, without radio checksums: [`decode`] reads it without a key.
    #[must_use]
    pub fn into_frame(mut self) -> Vec<u8> {
        if self.facts.format == LinkFormat::Wired {
            let sum = link::sum(self.frame.get(4..self.end).unwrap_or_default());
            if let Some(checksum) = self.frame.get_mut(self.end) {
                *checksum = sum;
            }
        }
        self.frame
    }
}

/// Checks and opens one frame. A frame somebody opened before, whose header still says encrypted,
/// is taken as it is.
///
/// # Errors
/// When a checksum or length does not fit, a layer is not read here, the frame is encrypted and
/// there is no key (`encrypted`), or the key does not fit (`key_mismatch`).
pub fn open(bytes: &[u8], key: Option<&[u8; 16]>) -> Result<Opened, UplinkError> {
    let link = link::unwrap(bytes)?;
    // Some concentrators count L wrong; then the bytes behind it are the telegram's.
    let longer = (link.trailing > 0 && link.format == LinkFormat::Wireless).then(|| Link {
        frame: bytes.to_vec(),
        end: bytes.len(),
        trailing: 0,
        ..link
    });
    match (open_link(link, key), longer) {
        (Err(UplinkError::LengthMismatch { .. }), Some(longer)) => open_link(longer, key),
        (opened, _) => opened,
    }
}

fn open_link(link: Link, key: Option<&[u8; 16]>) -> Result<Opened, UplinkError> {
    let mut facts = Facts::of(&link);
    let Link { mut frame, start, end, .. } = link;
    if matches!(facts.format, LinkFormat::WiredShort | LinkFormat::WiredAcknowledge) {
        return Ok(Opened { frame, body: end, end, facts });
    }
    let address = facts.link_address.unwrap_or_default();
    let mut reader = reader_at(&frame, start, end);
    let extended = layers::extended(&mut reader)?;
    let start = reader.offset();
    if let Some(layer) = &extended {
        facts.protection = security::open_extended(&mut frame, end, layer, address, key)?;
    }
    let mut reader = reader_at(&frame, start, end);
    let authentication = layers::authentication(&mut reader)?;
    let transport = layers::transport(&mut reader, facts.format.is_wired())?;
    facts.address = transport.address.or(facts.link_address);
    facts.ci = Some(transport.ci);
    facts.content = Some(transport.content);
    facts.access = transport.access;
    facts.status = transport.status;
    facts.mode = transport.mode();
    let address = facts.address.unwrap_or_default();
    let authentication = authentication.as_ref();
    let opened =
        security::open_transport(&mut frame, end, &transport, authentication, address, key)?;
    if opened != Protection::None {
        facts.protection = opened;
    }
    if opened == Protection::Authenticated {
        let counter = authentication.and_then(|layer| layer.counter);
        facts.counter = counter.map(u32::from_le_bytes);
    }
    Ok(Opened { frame, body: transport.body, end, facts })
}

fn reader_at(frame: &[u8], start: usize, end: usize) -> Reader<'_> {
    Reader::new(frame.get(start..end).unwrap_or_default(), start)
}

/// The device a frame names, read without a key: for identifying only.
#[must_use]
pub fn names(bytes: &[u8]) -> Option<DeviceKey> {
    let link = link::unwrap(bytes).ok()?;
    let mut reader = reader_at(&link.frame, link.start, link.end);
    let transport = layers::extended(&mut reader)
        .and_then(|_| layers::authentication(&mut reader))
        .and_then(|_| layers::transport(&mut reader, link.format.is_wired()))
        .ok();
    let address = transport.and_then(|transport| transport.address).or(link.address)?;
    Some(DeviceKey::Mbus(u64::from_be_bytes(address)))
}

/// Whether the bytes look like a wired long frame, by their fixed bytes and length.
#[must_use]
pub fn begins_wired(bytes: &[u8]) -> bool {
    matches!(*bytes, [0x68, l1, l2, 0x68, ..] if l1 == l2
        && bytes.len().checked_sub(usize::from(l1) + 6).is_some_and(|more| more < 4))
}

/// Whether the bytes look like a wireless frame of a meter, by their fixed bytes.
#[must_use]
pub fn begins_wireless(bytes: &[u8]) -> bool {
    let [length, control, ..] = *bytes else {
        return false;
    };
    let ci = |at: usize| {
        bytes.get(at).is_some_and(|ci| matches!(ci, 0x6E..=0x7B | 0x8C..=0x90 | 0xA0..=0xB7))
    };
    METER_CONTROLS.contains(&control)
        && (ci(link::FIRST_BLOCK) || ci(link::FIRST_BLOCK + 2))
        && bytes.len() > usize::from(length)
        // 68 and FE begin other wired protocols too.
        && (!matches!(length, 0x68 | 0xFE) || link::unwrap(bytes).is_ok())
}

/// Reads one frame. `memory` learns the formats of full telegrams and gives those of compact ones.
///
/// # Errors
/// As [`open`]; and when the data are no records, when a compact frame's format is not known, or
/// when the security mode is one nobody here opens and the data make no sense in clear.
pub fn decode(
    bytes: &[u8],
    profile: &'static Profile,
    key: Option<&[u8; 16]>,
    memory: &mut FormatMemory,
) -> Result<Decoded, UplinkError> {
    let mut opened = open(bytes, key)?;
    let (reads, events) = read(&mut opened, profile, memory)?;
    Ok(Decoded {
        profile: profile.name,
        codec_version: profile.codec_version,
        device: opened.facts.device(),
        reads,
        events,
        details: Details::Mbus(Box::new(opened.facts)),
    })
}

fn read(
    opened: &mut Opened,
    profile: &Profile,
    memory: &mut FormatMemory,
) -> Result<(Vec<DecodedRead>, Vec<DecodedEvent>), UplinkError> {
    let Opened { frame, body, end, facts } = opened;
    let (body, base) = (frame.get(*body..*end).unwrap_or_default(), *body);
    let mut mapped = Mapped::new();
    match facts.content {
        Some(Content::Records) => {
            walk(body, base, facts, &mut mapped)?;
            if facts.ci == Some(0x78) && !facts.format.is_wired() && facts.damaged_at.is_none() {
                memory.learn(body);
            }
        }
        Some(Content::Compact) => {
            walk(&compact::expand(body, base, memory)?, base, facts, &mut mapped)?;
        }
        Some(Content::Fixed) => {
            let fixed = fixed::read(body, base)?;
            let [i0, i1, i2, i3] = fixed.identification;
            facts.address = Some([0, 0, i0, i1, i2, i3, 0, fixed.device_type]);
            facts.access = Some(fixed.access);
            facts.status = Some(fixed.status & !0x03);
            facts.records = 2;
            mapped.reads = fixed.reads;
        }
        Some(Content::Error) => {
            let code = body.first().copied().unwrap_or_default();
            facts.error_report = Some(code);
            let (kind, detail) = (EventKind::CommandRefused, u64::from(code));
            mapped.events.push(DecodedEvent { kind, at: None, detail });
        }
        None => {}
    }
    check_unknown_mode(facts, &mapped)?;
    facts.meter_time = mapped.meter_time;
    let at = mapped.meter_time.and_then(|local| to_utc(local, profile.utc_offset_minutes));
    mapped.conclude(facts.status.unwrap_or_default(), at);
    Ok((mapped.reads, mapped.events))
}

/// Walks the records. By radio a damaged end costs the records behind it; by wire, where the
/// checksum vouches for every byte, the telegram itself is wrong and is refused.
fn walk(
    body: &[u8],
    base: usize,
    facts: &mut Facts,
    mapped: &mut Mapped,
) -> Result<(), UplinkError> {
    let device_type = facts.device_type().unwrap_or_default();
    for record in Records::new(body, base) {
        match record {
            Ok(record) => {
                facts.records += 1;
                mapped.take(&record, device_type);
            }
            Err(error) if facts.records == 0 || facts.format.is_wired() => return Err(error),
            Err(error) => facts.damaged_at = Some(error.offset().unwrap_or(base)),
        }
    }
    Ok(())
}

/// A security mode nobody here opens may still stand over data in clear; they must then make
/// sense to the last byte. By wire the field is an old signature, not a mode.
fn check_unknown_mode(facts: &Facts, mapped: &Mapped) -> Result<(), UplinkError> {
    let known = matches!(facts.mode, 0 | 5 | 7) || facts.format.is_wired();
    let sense = mapped.all_known && facts.damaged_at.is_none() && !mapped.reads.is_empty();
    if known || sense {
        return Ok(());
    }
    let value = u64::from(facts.mode);
    Err(UplinkError::Unsupported { what: "security mode", value, offset: link::FIRST_BLOCK })
}

#[cfg(test)]
mod tests;
