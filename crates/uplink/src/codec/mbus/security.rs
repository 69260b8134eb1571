//! Opening what is encrypted, checking what is signed (EN 13757-4 and -7, OMS volume 2).
//!
//! In: a frame, its layers, the meter's key. Out: the same frame in clear.
//! Never here: which key belongs to which meter, whether a replay is harmless.

use super::layers::{Authentication, Extended, Transport};
use super::link::crc;
use crate::UplinkError;
use aes::Aes128;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, StreamCipher};
use cmac::{Cmac, KeyInit, Mac};

type Key = [u8; 16];

/// What the plaintext of modes 5 and 7 begins with.
pub(super) const CLEAR: [u8; 2] = [0x2F, 0x2F];

/// How a telegram was protected, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protection {
    /// It was not.
    None,
    /// Its header says encrypted, and it came in clear: somebody opened it before.
    OpenedBefore,
    /// It was opened here, with the key.
    Opened,
    /// It was opened here, and its MAC fits.
    Authenticated,
}

impl Protection {
    /// Whether the meter's key opened it.
    #[must_use]
    pub const fn by_key(self) -> bool {
        matches!(self, Self::Opened | Self::Authenticated)
    }

    /// The name in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::OpenedBefore => "opened_before",
            Self::Opened => "opened",
            Self::Authenticated => "authenticated",
        }
    }
}

/// The initialisation vector of mode 5: address in wire order, then the access number eight times.
fn mode_5_iv(address: [u8; 8], access: u8) -> Key {
    let mut iv = [access; 16];
    for (to, from) in iv.iter_mut().zip(address) {
        *to = from;
    }
    iv
}

/// AES-128-CBC over whole blocks, in place. What is shorter than a block stays as it is.
fn cbc_decrypt(key: &Key, iv: &Key, bytes: &mut [u8]) {
    let mut cipher = cbc::Decryptor::<Aes128>::new(key.into(), iv.into());
    for block in bytes.as_chunks_mut::<16>().0 {
        cipher.decrypt_block(block.into());
    }
}

fn cbc_encrypt(key: &Key, iv: &Key, bytes: &mut [u8]) {
    let mut cipher = cbc::Encryptor::<Aes128>::new(key.into(), iv.into());
    for block in bytes.as_chunks_mut::<16>().0 {
        cipher.encrypt_block(block.into());
    }
}

/// AES-CMAC over the parts, one after the other.
fn cmac(key: &Key, parts: &[&[u8]]) -> Key {
    let mut mac = Cmac::<Aes128>::new(key.into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// A key of mode 7 for one message: 0 encrypts, 1 signs what a meter sends (OMS volume 2, 9.5).
fn derive(key: &Key, purpose: u8, counter: [u8; 4], address: [u8; 8]) -> Key {
    let [_, _, i0, i1, i2, i3, _, _] = address;
    cmac(key, &[&[purpose], &counter, &[i0, i1, i2, i3], &[7; 7]])
}

/// The AES-CTR stream of an extended link layer: the hop and repeat bits of CC count as 0.
fn extended_stream(
    key: &Key,
    address: [u8; 8],
    control: u8,
    session: [u8; 4],
) -> ctr::Ctr128BE<Aes128> {
    let [m0, m1, a0, a1, a2, a3, a4, a5] = address;
    let [s0, s1, s2, s3] = session;
    let iv = [m0, m1, a0, a1, a2, a3, a4, a5, control & 0xED, s0, s1, s2, s3, 0, 0, 0];
    ctr::Ctr128BE::new(key.into(), (&iv).into())
}

/// Opens what follows an extended link layer, in place; its own checksum tells a wrong key.
pub(super) fn open_extended(
    frame: &mut [u8],
    end: usize,
    layer: &Extended,
    address: [u8; 8],
    key: Option<&Key>,
) -> Result<Protection, UplinkError> {
    let Some(session) = layer.session else {
        return Ok(Protection::None);
    };
    let offset = layer.checksum_at;
    let Some(part) = frame.get_mut(offset..end) else {
        return Err(UplinkError::Truncated { what: "encrypted data", offset, need: 1 });
    };
    let [.., top] = session;
    let (encryption, fits) = (top >> 5, checksum_fits(part));
    match (encryption, fits, key) {
        (0, None, _) => Ok(Protection::None),
        (0, Some((found, computed)), _) => {
            Err(UplinkError::ChecksumMismatch { offset, found, computed })
        }
        (1, None, _) => Ok(Protection::OpenedBefore),
        (1, Some(_), None) => Err(UplinkError::Encrypted { mode: 1, offset }),
        (1, Some(_), Some(key)) => {
            extended_stream(key, address, layer.control, session).apply_keystream(part);
            match checksum_fits(part) {
                None => Ok(Protection::Opened),
                Some(_) => Err(UplinkError::KeyMismatch { offset }),
            }
        }
        (other, ..) => {
            let (what, value) = ("encryption of the extended link layer", u64::from(other));
            Err(UplinkError::Unsupported { what, value, offset: offset.saturating_sub(1) })
        }
    }
}

/// `None` when the two bytes at the front are the CRC of the rest, low byte first; else both.
fn checksum_fits(part: &[u8]) -> Option<(u32, u32)> {
    let (found, rest) = part.split_first_chunk::<2>().unwrap_or((&[0; 2], &[]));
    let (found, computed) = (u16::from_le_bytes(*found), crc(rest));
    (found != computed).then_some((u32::from(found), u32::from(computed)))
}

/// Opens the transport layer's data, in place.
///
/// `address` is the meter's: of the transport header where that is long, else of the link layer.
pub(super) fn open_transport(
    frame: &mut [u8],
    end: usize,
    layer: &Transport,
    authentication: Option<&Authentication>,
    address: [u8; 8],
    key: Option<&Key>,
) -> Result<Protection, UplinkError> {
    let (mode, length) = (layer.mode(), layer.encrypted_bytes());
    let at = layer.body;
    if mode != 7 && authentication.is_some_and(|layer| layer.mac_bytes > 0) {
        // Taking the mode away must not take the MAC's check away.
        let (what, value) = ("MAC over security mode", u64::from(mode));
        return Err(UplinkError::Unsupported { what, value, offset: layer.at });
    }
    if mode == 0 || length == 0 && mode == 5 {
        return Ok(Protection::None);
    }
    if mode != 5 && mode != 7 {
        return Ok(Protection::OpenedBefore);
    }
    let in_clear = frame.get(at..at + CLEAR.len()).is_some_and(|begin| begin == CLEAR);
    match (in_clear, key) {
        (true, None) => return Ok(Protection::OpenedBefore),
        (false, None) => return Err(UplinkError::Encrypted { mode, offset: at }),
        (true, Some(_)) if mode == 5 => return Ok(Protection::OpenedBefore),
        (_, Some(_)) => {}
    }
    let Some(key) = key else {
        return Err(UplinkError::Encrypted { mode, offset: at });
    };
    let found = end.saturating_sub(at);
    if length > found {
        let (what, offset) = ("encrypted bytes", at);
        return Err(UplinkError::LengthMismatch { what, offset, announced: length, found });
    }
    let protection = if mode == 5 {
        let iv = mode_5_iv(address, layer.access.unwrap_or_default());
        if let Some(part) = frame.get_mut(at..at + length) {
            cbc_decrypt(key, &iv, part);
        }
        Protection::Opened
    } else {
        open_mode_7(frame, end, layer, authentication, address, key, in_clear)?
    };
    let opened = frame.get(at..at + CLEAR.len()).is_some_and(|begin| begin == CLEAR);
    if opened { Ok(protection) } else { Err(UplinkError::KeyMismatch { offset: at }) }
}

/// Mode 7: keys for this message by its counter, the MAC over what was sent. A telegram somebody
/// opened before is sealed again for the MAC: with the key at hand nobody can make one up.
fn open_mode_7(
    frame: &mut [u8],
    end: usize,
    layer: &Transport,
    authentication: Option<&Authentication>,
    address: [u8; 8],
    key: &Key,
    in_clear: bool,
) -> Result<Protection, UplinkError> {
    let (at, length) = (layer.body, layer.encrypted_bytes());
    let Some((authentication, counter)) = authentication.and_then(|a| Some((a, a.counter?))) else {
        let need = 4;
        return Err(UplinkError::Truncated { what: "message counter", offset: layer.at, need });
    };
    // Bits 5 and 4 of the extension: 0 the key itself, 1 keys derived from it.
    let (encrypts, signs) = match layer.extension >> 4 & 0x03 {
        0 => (*key, *key),
        1 => (derive(key, 0, counter, address), derive(key, 1, counter, address)),
        other => {
            let (what, value) = ("key derivation", u64::from(other));
            return Err(UplinkError::Unsupported { what, value, offset: at.saturating_sub(1) });
        }
    };
    if in_clear && let Some(part) = frame.get_mut(at..at + length) {
        cbc_encrypt(&encrypts, &[0; 16], part);
    }
    let mac_end = authentication.mac_at + authentication.mac_bytes;
    let mac = frame.get(authentication.mac_at..mac_end).unwrap_or_default();
    let signed = frame.get(layer.at..end).unwrap_or_default();
    let length_field = authentication.length.unwrap_or_default();
    let length_field = if authentication.length.is_some() { &length_field[..] } else { &[] };
    let computed =
        cmac(&signs, &[&[authentication.message_control], &counter, length_field, signed]);
    let fits = !mac.is_empty() && computed.starts_with(mac);
    if !fits {
        return Err(UplinkError::KeyMismatch { offset: authentication.mac_at });
    }
    if let Some(part) = frame.get_mut(at..at + length) {
        cbc_decrypt(&encrypts, &[0; 16], part);
    }
    Ok(Protection::Authenticated)
}

/// Seals data of whole blocks in mode 5, in place, for simulators.
pub(super) fn seal_mode_5(key: &Key, address: [u8; 8], access: u8, blocks: &mut [u8]) {
    cbc_encrypt(key, &mode_5_iv(address, access), blocks);
}

/// Seals data of whole blocks in mode 7, in place, for simulators.
pub(super) fn seal_mode_7(key: &Key, address: [u8; 8], counter: [u8; 4], blocks: &mut [u8]) {
    cbc_encrypt(&derive(key, 0, counter, address), &[0; 16], blocks);
}

/// The 8-byte MAC of a mode 7 message, for simulators.
pub(super) fn mac_mode_7(
    key: &Key,
    address: [u8; 8],
    counter: [u8; 4],
    message_control: u8,
    signed: &[u8],
) -> [u8; 8] {
    let mac = cmac(&derive(key, 1, counter, address), &[&[message_control], &counter, signed]);
    let [a, b, c, d, e, f, g, h, ..] = mac;
    [a, b, c, d, e, f, g, h]
}

/// Seals what follows the session number, CRC first, in place, for simulators.
pub(super) fn seal_extended(
    key: &Key,
    address: [u8; 8],
    control: u8,
    session: [u8; 4],
    part: &mut [u8],
) {
    extended_stream(key, address, control, session).apply_keystream(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4493, test vectors 1 and 2.
    #[test]
    fn the_mac_is_the_one_of_rfc_4493() {
        let key = 0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c_u128.to_be_bytes();
        let message = 0x6bc1_bee2_2e40_9f96_e93d_7e11_7393_172a_u128.to_be_bytes();
        assert_eq!(u128::from_be_bytes(cmac(&key, &[])), 0xbb1d_6929_e959_3728_7fa3_7d12_9b75_6746);
        let mac = cmac(&key, &[&message[..5], &message[5..]]);
        assert_eq!(u128::from_be_bytes(mac), 0x070a_16b4_6b4d_4144_f79b_dd9d_d04a_287c);
    }
}
