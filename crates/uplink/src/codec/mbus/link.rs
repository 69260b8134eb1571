//! The link layer: what stands around the first CI field.
//!
//! In: bytes of a wire, a radio or a concentrator. Out: the frame with its checksums checked and
//! taken out, so that every later offset counts in it. Never here: what the CI field means.
//!
//! Wired (EN 13757-2): `68 L L 68 C A CI … CS 16`, `10 C A CS 16`, `E5`. Wireless (EN 13757-4):
//! `L C M M A A A A A A CI …`; format A has a CRC after 10 bytes and then after every 16, and L
//! does not count them; format B has one after at most 126 bytes and one at the end, and L does.

use crate::UplinkError;
use crate::bytes::Reader;

/// How many foreign bytes may stand after a frame.
const TRAILING_BYTES_MAX: usize = 4;

/// Longest frame there is, radio checksums included: 256 bytes in format A.
pub const FRAME_BYTES_MAX: usize = 290;

/// Bytes of the first block of a wireless frame: L, C, M, A.
pub(super) const FIRST_BLOCK: usize = 10;

const BLOCK: usize = 16;
const FORMAT_B_BLOCK: usize = 126;

/// Which link layer a frame came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkFormat {
    /// Wired, long or control frame.
    Wired,
    /// Wired, short frame: no data.
    WiredShort,
    /// Wired, the single character E5: no data.
    WiredAcknowledge,
    /// Wireless, checksums already taken out by the receiver.
    Wireless,
    /// Wireless, format A with checksums.
    WirelessA,
    /// Wireless, format B with checksums.
    WirelessB,
}

impl LinkFormat {
    /// The name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wired => "wired",
            Self::WiredShort => "wired_short",
            Self::WiredAcknowledge => "wired_acknowledge",
            Self::Wireless => "wireless",
            Self::WirelessA => "wireless_a",
            Self::WirelessB => "wireless_b",
        }
    }

    /// Whether it came by wire.
    #[must_use]
    pub const fn is_wired(self) -> bool {
        matches!(self, Self::Wired | Self::WiredShort | Self::WiredAcknowledge)
    }
}

/// A frame whose checksums fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// The frame without wireless checksums; wired frames as sent.
    pub(super) frame: Vec<u8>,
    /// Which link layer it came in.
    pub(super) format: LinkFormat,
    /// C.
    pub(super) control: u8,
    /// Manufacturer, id, version and type as sent; wired frames have none here.
    pub(super) address: Option<[u8; 8]>,
    /// Where the first CI field stands.
    pub(super) start: usize,
    /// Where the data end.
    pub(super) end: usize,
    /// Foreign bytes after the frame.
    pub(super) trailing: usize,
}

/// What each value of the high byte does to the CRC.
const CRC_STEPS: [u16; 256] = {
    let mut steps = [0; 256];
    let mut byte: u16 = 0;
    let mut rest: &mut [u16] = &mut steps;
    while let Some((step, behind)) = rest.split_first_mut() {
        let mut crc = byte << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x3D65 };
            bit += 1;
        }
        *step = crc;
        byte += 1;
        rest = behind;
    }
    steps
};

/// The CRC of EN 13757-4: polynomial 3D65, from 0, complemented, high byte first.
#[must_use]
pub fn crc(bytes: &[u8]) -> u16 {
    let sum = bytes.iter().fold(0_u16, |crc, byte| {
        let [high, low] = crc.to_be_bytes();
        let step = CRC_STEPS.get(usize::from(high ^ byte)).copied().unwrap_or_default();
        u16::from(low) << 8 ^ step
    });
    !sum
}

/// Checks the frame in `bytes` and takes the checksums out.
///
/// # Errors
/// When length, end byte, checksum or CRC do not fit any of the formats.
pub(super) fn unwrap(bytes: &[u8]) -> Result<Link, UplinkError> {
    if bytes.len() > FRAME_BYTES_MAX {
        let got = bytes.len();
        return Err(UplinkError::Oversized { what: "M-Bus frame", got, limit: FRAME_BYTES_MAX });
    }
    match *bytes {
        [0xE5] => Ok(bare(bytes, LinkFormat::WiredAcknowledge, 0)),
        [0x10, control, address, found, 0x16] => {
            check_sum(&[control, address], 3, found)?;
            Ok(bare(bytes, LinkFormat::WiredShort, control))
        }
        [0x68, l1, l2, 0x68, ..] if l1 == l2 => wired(bytes, usize::from(l1)),
        _ => wireless(bytes),
    }
}

fn bare(bytes: &[u8], format: LinkFormat, control: u8) -> Link {
    let frame = bytes.to_vec();
    let end = frame.len();
    Link { frame, format, control, address: None, start: end, end, trailing: 0 }
}

fn check_sum(summed: &[u8], offset: usize, found: u8) -> Result<(), UplinkError> {
    let computed = sum(summed);
    if found == computed {
        return Ok(());
    }
    let (found, computed) = (u32::from(found), u32::from(computed));
    Err(UplinkError::ChecksumMismatch { offset, found, computed })
}

/// The sum of the bytes, modulo 256.
pub(super) fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn wired(bytes: &[u8], length: usize) -> Result<Link, UplinkError> {
    let total = length + 6;
    let mismatch = UplinkError::LengthMismatch {
        what: "bytes of the frame",
        offset: 1,
        announced: total,
        found: bytes.len(),
    };
    let trailing = bytes.len().checked_sub(total).filter(|more| *more <= TRAILING_BYTES_MAX);
    let (Some(trailing), 3..) = (trailing, length) else {
        return Err(mismatch);
    };
    let frame = bytes.get(..total).ok_or(mismatch)?;
    let mut reader = Reader::new(frame, 0);
    reader.take(4, "start bytes")?;
    let summed = reader.take(length, "user data")?;
    let checksum_offset = reader.offset();
    let found = reader.u8("checksum")?;
    let end_offset = reader.offset();
    let end = reader.u8("end byte")?;
    if end != 0x16 {
        let (what, offset) = ("end byte", end_offset);
        return Err(UplinkError::Malformed { what, offset, found: end, expected: "16" });
    }
    check_sum(summed, checksum_offset, found)?;
    Ok(Link {
        frame: frame.to_vec(),
        format: LinkFormat::Wired,
        control: summed.first().copied().unwrap_or_default(),
        address: None,
        start: 6,
        end: checksum_offset,
        trailing,
    })
}

/// The way without checksums is taken when the length says so, unless the bytes prove to be
/// format B. A longer frame has the checksums of format A, or a few foreign bytes behind it.
fn wireless(bytes: &[u8]) -> Result<Link, UplinkError> {
    let announced = usize::from(Reader::new(bytes, 0).u8("L field")?) + 1;
    if announced < FIRST_BLOCK + 1 {
        let expected = "at least 0A";
        let found = bytes.first().copied().unwrap_or_default();
        return Err(UplinkError::Malformed { what: "L field", offset: 0, found, expected });
    }
    let exactly = bytes.get(..announced);
    if let Some(frame) = exactly.and_then(without_crc_b) {
        let trailing = bytes.len().saturating_sub(announced);
        return finish(frame, LinkFormat::WirelessB, trailing);
    }
    // As long as with the checksums of format A, or the first of them fits: then all must fit.
    let blocks = announced.saturating_sub(FIRST_BLOCK).div_ceil(BLOCK) + 1;
    let first = bytes.get(..FIRST_BLOCK).zip(bytes.get(FIRST_BLOCK..FIRST_BLOCK + 2));
    if bytes.len() == announced + 2 * blocks
        || first.is_some_and(|(block, found)| crc(block).to_be_bytes() == found)
    {
        let (frame, used) = without_crc_a(bytes, announced)?;
        return finish(frame, LinkFormat::WirelessA, bytes.len().saturating_sub(used));
    }
    let trailing = bytes.len().checked_sub(announced).filter(|more| *more <= TRAILING_BYTES_MAX);
    match (exactly, trailing) {
        (Some(frame), Some(trailing)) => finish(frame.to_vec(), LinkFormat::Wireless, trailing),
        _ => Err(UplinkError::LengthMismatch {
            what: "bytes of the frame",
            offset: 0,
            announced,
            found: bytes.len(),
        }),
    }
}

fn finish(mut frame: Vec<u8>, format: LinkFormat, trailing: usize) -> Result<Link, UplinkError> {
    if trailing > TRAILING_BYTES_MAX {
        let (announced, found) = (frame.len(), frame.len() + trailing);
        let what = "bytes of the frame";
        return Err(UplinkError::LengthMismatch { what, offset: 0, announced, found });
    }
    let end = frame.len();
    if let Some(length) = frame.first_mut() {
        *length = u8::try_from(end.saturating_sub(1)).unwrap_or(u8::MAX);
    }
    let mut reader = Reader::new(&frame, 0);
    reader.u8("L field")?;
    let control = reader.u8("C field")?;
    let address = Some(reader.array("link address")?);
    Ok(Link { format, control, address, start: FIRST_BLOCK, end, trailing, frame })
}

/// Format B: one CRC over everything, or one over 126 bytes and one over the rest.
fn without_crc_b(bytes: &[u8]) -> Option<Vec<u8>> {
    let (head, tail) = match bytes.split_at_checked(FORMAT_B_BLOCK + 2) {
        Some((head, tail)) if tail.len() > 2 => (head, tail),
        _ => (bytes, &[][..]),
    };
    let mut frame = with_fitting_crc(head)?.to_vec();
    if !tail.is_empty() {
        frame.extend_from_slice(with_fitting_crc(tail)?);
    }
    (frame.len() > FIRST_BLOCK).then_some(frame)
}

fn with_fitting_crc(block: &[u8]) -> Option<&[u8]> {
    let (data, found) = block.split_last_chunk::<2>()?;
    (crc(data).to_be_bytes() == *found).then_some(data)
}

/// Format A: a CRC after 10 bytes, then after every 16. Gives the frame and the bytes used.
fn without_crc_a(bytes: &[u8], length: usize) -> Result<(Vec<u8>, usize), UplinkError> {
    let mut reader = Reader::new(bytes, 0);
    let mut frame = Vec::with_capacity(length);
    while frame.len() < length {
        let block = if frame.is_empty() { FIRST_BLOCK } else { BLOCK };
        let data = reader.take(block.min(length - frame.len()), "radio block")?;
        let offset = reader.offset();
        let found = u16::from_be_bytes(reader.array("CRC of a radio block")?);
        let computed = crc(data);
        if found != computed {
            let (found, computed) = (u32::from(found), u32::from(computed));
            return Err(UplinkError::ChecksumMismatch { offset, found, computed });
        }
        frame.extend_from_slice(data);
    }
    Ok((frame, reader.offset()))
}

/// Puts the checksums of format A into a wireless frame.
#[must_use]
pub fn with_crc_a(frame: &[u8]) -> Vec<u8> {
    let (first, rest) = frame.split_at_checked(FIRST_BLOCK).unwrap_or((frame, &[]));
    let mut bytes = Vec::with_capacity(frame.len() + frame.len() / 8 + 4);
    for block in std::iter::once(first).chain(rest.chunks(BLOCK)) {
        bytes.extend_from_slice(block);
        bytes.extend_from_slice(&crc(block).to_be_bytes());
    }
    bytes
}

/// Puts the checksums of format B into a wireless frame, counting them in L; `None` when it does
/// not fit.
#[must_use]
pub fn with_crc_b(frame: &[u8]) -> Option<Vec<u8>> {
    let (head, tail) = frame.split_at_checked(FORMAT_B_BLOCK).unwrap_or((frame, &[]));
    let checksums = if tail.is_empty() { 2 } else { 4 };
    let mut bytes = head.to_vec();
    *bytes.first_mut()? = u8::try_from(frame.len() + checksums - 1).ok()?;
    bytes.extend_from_slice(&crc(&bytes).to_be_bytes());
    if !tail.is_empty() {
        bytes.extend_from_slice(tail);
        bytes.extend_from_slice(&crc(tail).to_be_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn framed(payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len() + 9).unwrap();
        let mut frame = vec![length, 0x44, 0x24, 0x23, 1, 2, 3, 4, 5, 7];
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn frames_whose_length_contradicts_them_are_refused() {
        let code = |bytes: &[u8]| unwrap(bytes).unwrap_err().code();
        assert_eq!(code(&[0x68, 0, 0, 0x68, 0x08, 0x16]), "length_mismatch");
        assert_eq!(code(&[0x68, 3, 3, 0x68, 8, 1, 0x72, 0x7C, 0x16]), "checksum_mismatch");
        assert_eq!(code(&[0x68, 3, 3, 0x68, 8, 1, 0x72, 0x7B, 0x17]), "malformed");
        assert_eq!(code(&[0x10, 0x5B, 0x01, 0x5D, 0x16]), "checksum_mismatch");
        assert_eq!(code(&[0x05, 0x44]), "malformed");
        assert_eq!(code(&framed(&[0x78; 30])[..35]), "length_mismatch");
        assert_eq!(code(&[0; 300]), "oversized");
        assert_eq!(code(&[]), "truncated");
        assert_eq!(unwrap(&[0xE5]).unwrap().format, LinkFormat::WiredAcknowledge);
        assert_eq!(unwrap(&[0x10, 0x5B, 0x01, 0x5C, 0x16]).unwrap().format, LinkFormat::WiredShort);
    }

    #[test]
    fn the_crc_is_the_one_of_the_catalogue() {
        // CRC-16/EN-13757, the check value over the nine digits.
        assert_eq!(crc(b"123456789"), 0xC2B7);
    }

    proptest! {
        #[test]
        fn checksums_go_in_and_out(payload in vec(any::<u8>(), 1..=240)) {
            let frame = framed(&payload);
            let a = unwrap(&with_crc_a(&frame)).unwrap();
            prop_assert_eq!((&a.frame, a.format), (&frame, LinkFormat::WirelessA));
            let b = unwrap(&with_crc_b(&frame).unwrap()).unwrap();
            prop_assert_eq!((&b.frame, b.format), (&frame, LinkFormat::WirelessB));
        }

        #[test]
        fn a_flipped_bit_of_format_a_is_refused(payload in vec(any::<u8>(), 1..60), at: prop::sample::Index, bit in 0..8_u8) {
            let mut bytes = with_crc_a(&framed(&payload));
            // A damaged L may by chance fit a frame without checksums.
            *at.get_mut(&mut bytes[1..]) ^= 1 << bit;
            prop_assert!(unwrap(&bytes).is_err());
        }

        #[test]
        fn no_bytes_panic_as_a_frame(bytes in vec(any::<u8>(), 0..300)) {
            if let Ok(link) = unwrap(&bytes) {
                prop_assert!(link.start <= link.end && link.end <= link.frame.len());
            }
        }
    }
}
