//! What stands between the link layer and the records: extended link layer, authentication and
//! fragmentation layer, transport header.
//!
//! In: a frame, where its first CI field stands. Out: each layer's fields and where the data
//! begin. Never here: keys (see `security`), records.

use crate::UplinkError;
use crate::bytes::Reader;

/// What the application data are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Content {
    /// Records (CI 72, 78, 7A).
    Records,
    /// The records' values alone (CI 73, 79, 7B).
    Compact,
    /// The records' heads alone (CI 69, 6A, 6B).
    /// The fixed structure of EN 1434-3 (wired, CI 73): two counters.
    Fixed,
    /// An error report (CI 6E, 6F, 70).
    Error,
}

impl Content {
    /// The name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Compact => "compact",
            Self::Fixed => "fixed",
            Self::Error => "error",
        }
    }
}

/// Which header follows the CI field (EN 13757-7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Header {
    None,
    Short,
    Long,
}

/// Every CI field a meter sends that is read here.
const CONTENTS: &[(u8, Header, Content)] = &[
    (0x6E, Header::Short, Content::Error),
    (0x6F, Header::Long, Content::Error),
    (0x70, Header::None, Content::Error),
    (0x72, Header::Long, Content::Records),
    (0x73, Header::Long, Content::Compact),
    (0x78, Header::None, Content::Records),
    (0x79, Header::None, Content::Compact),
    (0x7A, Header::Short, Content::Records),
    (0x7B, Header::Short, Content::Compact),
];

/// Bytes of the fixed structure behind CI 73.
const FIXED_BYTES: usize = 16;

/// The extended link layer (EN 13757-4, CI 8C to 8F).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extended {
    /// The communication control byte.
    pub(super) control: u8,
    /// The session number, low byte first, where there is one.
    pub(super) session: Option<[u8; 4]>,
    /// Where its checksum stands, from which on it may be encrypted.
    pub(super) checksum_at: usize,
}

/// The authentication and fragmentation layer (EN 13757-7, CI 90).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Authentication {
    /// The message control byte; names the kind of MAC.
    pub(super) message_control: u8,
    /// The message counter, low byte first.
    pub(super) counter: Option<[u8; 4]>,
    /// The message length field, where there is one.
    pub(super) length: Option<[u8; 2]>,
    /// Where the MAC stands and how long it is; 0 where there is none.
    pub(super) mac_at: usize,
    /// Its length.
    pub(super) mac_bytes: usize,
}

/// The transport layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transport {
    /// Where its CI field stands.
    pub(super) at: usize,
    /// Its CI field.
    pub(super) ci: u8,
    /// What follows.
    pub(super) content: Content,
    /// Manufacturer, id, version, type in wire order, where the header is long.
    pub(super) address: Option<[u8; 8]>,
    /// The access number.
    pub(super) access: Option<u8>,
    /// The status byte.
    pub(super) status: Option<u8>,
    /// The configuration field; `None` without a header.
    pub(super) configuration: Option<u16>,
    /// The configuration field extension of security mode 7.
    pub(super) extension: u8,
    /// Where the data begin.
    pub(super) body: usize,
}

impl Transport {
    /// The security mode (bits 12 to 8 of the configuration field).
    pub(super) fn mode(&self) -> u8 {
        self.configuration.map_or(0, |word| word.to_be_bytes()[0] & 0x1F)
    }

    /// How many blocks of 16 bytes are encrypted (bits 7 to 4).
    pub(super) fn encrypted_bytes(&self) -> usize {
        self.configuration.map_or(0, |word| usize::from(word.to_be_bytes()[1] >> 4) * 16)
    }
}

/// The extended link layer at the reader, if there is one; the reader then stands behind its
/// checksum, or behind it all.
pub(super) fn extended(reader: &mut Reader<'_>) -> Result<Option<Extended>, UplinkError> {
    let Some(ci @ 0x8C..=0x8F) = reader.remaining().first().copied() else {
        return Ok(None);
    };
    reader.take(1, "CI field")?;
    let control = reader.u8("communication control")?;
    reader.u8("access number")?;
    if ci >= 0x8E {
        reader.take(8, "destination address")?;
    }
    let has_session = ci == 0x8D || ci == 0x8F;
    let session = has_session.then(|| reader.array("session number")).transpose()?;
    let checksum_at = reader.offset();
    if has_session {
        reader.take(2, "checksum of the extended link layer")?;
    }
    Ok(Some(Extended { control, session, checksum_at }))
}

/// The authentication and fragmentation layer at the reader, if there is one.
pub(super) fn authentication(
    reader: &mut Reader<'_>,
) -> Result<Option<Authentication>, UplinkError> {
    if reader.remaining().first() != Some(&0x90) {
        return Ok(None);
    }
    reader.take(1, "CI field")?;
    let length_at = reader.offset();
    let length = usize::from(reader.u8("length of the authentication layer")?);
    let from = reader.offset();
    let control = u16::from_le_bytes(reader.array("fragmentation control")?);
    let has = |bit: u32| control >> bit & 1 == 1;
    if has(14) || control & 0x00FF > 1 {
        let value = u64::from(control);
        return Err(UplinkError::Unsupported { what: "fragment", value, offset: from });
    }
    let message_control = if has(13) { reader.u8("message control")? } else { 0 };
    if has(9) {
        reader.take(2, "key information")?;
    }
    let counter = has(11).then(|| reader.array("message counter")).transpose()?;
    let mac_at = reader.offset();
    let mac_bytes = match (has(10), message_control & 0x0F) {
        (false, _) => 0,
        (true, 3) => 2,
        (true, 4) => 4,
        (true, 5) => 8,
        (true, 6 | 8) => 12,
        (true, 7) => 16,
        (true, kind) => {
            let (what, value) = ("kind of MAC", u64::from(kind));
            return Err(UplinkError::Unsupported { what, value, offset: mac_at });
        }
    };
    reader.take(mac_bytes, "MAC")?;
    let message_length = has(12).then(|| reader.array("message length")).transpose()?;
    let found = reader.offset().saturating_sub(from);
    if found != length {
        let what = "bytes of the authentication layer";
        return Err(UplinkError::LengthMismatch {
            what,
            offset: length_at,
            announced: length,
            found,
        });
    }
    let length = message_length;
    Ok(Some(Authentication { message_control, counter, length, mac_at, mac_bytes }))
}

/// The transport layer at the reader. `wired` decides what CI 73 means.
pub(super) fn transport(reader: &mut Reader<'_>, wired: bool) -> Result<Transport, UplinkError> {
    let at = reader.offset();
    let ci = reader.u8("CI field")?;
    let row = CONTENTS.iter().find(|(known, ..)| *known == ci);
    let Some((_, header, content)) = row.copied() else {
        let what = if matches!(ci, 0xA0..=0xB7) { "manufacturer CI field" } else { "CI field" };
        return Err(UplinkError::Unsupported { what, value: u64::from(ci), offset: at });
    };
    let mut transport = Transport {
        at,
        ci,
        content,
        address: None,
        access: None,
        status: None,
        configuration: None,
        extension: 0,
        body: reader.offset(),
    };
    if wired && ci == 0x73 && reader.remaining().len() == FIXED_BYTES {
        transport.content = Content::Fixed;
        return Ok(transport);
    }
    if header == Header::Long {
        let [i0, i1, i2, i3] = reader.array("identification number")?;
        let [m0, m1] = reader.array("manufacturer")?;
        let [version, kind] = reader.array("version and device type")?;
        transport.address = Some([m0, m1, i0, i1, i2, i3, version, kind]);
    }
    if header != Header::None {
        transport.access = Some(reader.u8("access number")?);
        transport.status = Some(reader.u8("status")?);
        transport.configuration = Some(u16::from_le_bytes(reader.array("configuration")?));
    }
    if transport.mode() == 7 {
        transport.extension = reader.u8("configuration extension")?;
    }
    transport.body = reader.offset();
    Ok(transport)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maker_s_own_ci_field_is_named_as_such() {
        let error = transport(&mut Reader::new(&[0xA2, 0, 0], 10), false).unwrap_err();
        assert_eq!(error.to_string(), "manufacturer CI field A2 is not supported");
        assert_eq!(error.offset(), Some(10));
    }

    #[test]
    fn an_authentication_layer_must_be_as_long_as_it_says() {
        let bytes = [0x90, 0x08, 0x00, 0x2C, 0x25, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let error = authentication(&mut Reader::new(&bytes, 0)).unwrap_err();
        assert_eq!((error.code(), error.offset()), ("length_mismatch", Some(1)));
        let fragment = [0x90, 0x02, 0x02, 0x40];
        let error = authentication(&mut Reader::new(&fragment, 0)).unwrap_err();
        assert_eq!(error.code(), "unsupported");
    }

    #[test]
    fn the_fixed_structure_is_wired_only() {
        let bytes = [0x73, 1, 2, 3, 4, 5, 0, 0x05, 0x69, 1, 0, 0, 0, 2, 0, 0, 0];
        let content = |wired| transport(&mut Reader::new(&bytes, 0), wired).unwrap().content;
        assert_eq!(content(true), Content::Fixed);
        assert_eq!(content(false), Content::Compact);
    }
}
