//! The seal of a native frame: AES-128-CCM with an 8-byte tag (RFC 3610), one key per meter.
//!
//! In: a frame and a key. Out: the same frame open, or closed.
//! Never here: whether a counter was used before.
//!
//! Nonce, 13 bytes: serial number `u64` little-endian, frame counter `u32` little-endian, `01`.
//! Additional data: the clear header as sent. The meter never uses a counter twice under one key.

use super::decode::{header, trailer_bytes};
use super::{Header, TAG_BYTES};
use crate::UplinkError;
use aes::Aes128Enc;
use ccm::aead::inout::InOutBuf;
use ccm::consts::{U8, U13};
use ccm::{AeadInOut, Ccm, KeyInit, Nonce, Tag};

/// CCM only ever encrypts blocks, so the decryption half of the key schedule is left out.
type Seal = Ccm<Aes128Enc, U8, U13>;

/// Uplinks have direction 1; 2 is kept for what we might send to the meter.
const DIRECTION_UP: u8 = 0x01;

fn nonce(header: &Header) -> Nonce<U13> {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = header.serial.to_le_bytes();
    let [c0, c1, c2, c3] = header.counter.to_le_bytes();
    Nonce::from([s0, s1, s2, s3, s4, s5, s6, s7, c0, c1, c2, c3, DIRECTION_UP])
}

/// Opens a sealed frame: clear header and clear body, the tag checked and gone.
///
/// # Errors
/// When the frame is no sealed native frame, too short, or its tag does not fit the key.
pub fn unseal(frame: &[u8], key: &[u8; 16]) -> Result<Vec<u8>, UplinkError> {
    let (named, start) = header(frame)?;
    if !named.sealed {
        return Err(UplinkError::SealMissing { serial: named.serial, counter: named.counter });
    }
    let mismatch = UplinkError::SealMismatch { serial: named.serial, counter: named.counter };
    let (head, closed) = frame.split_at_checked(start).ok_or(UplinkError::NotRecognised)?;
    let Some((body, tag)) = closed.split_last_chunk::<TAG_BYTES>() else {
        let need = trailer_bytes(true).saturating_sub(closed.len());
        return Err(UplinkError::Truncated { what: "seal", offset: frame.len(), need });
    };
    let mut open = Vec::with_capacity(head.len() + body.len());
    open.extend_from_slice(head);
    open.extend_from_slice(body);
    let (head, body) = open.split_at_mut_checked(start).ok_or(UplinkError::NotRecognised)?;
    Seal::new(key.into())
        .decrypt_inout_detached(&nonce(&named), head, InOutBuf::from(body), &Tag::from(*tag))
        .map_err(|_| mismatch)?;
    Ok(open)
}

/// Closes a frame in place: `frame` is clear header and clear body, the body from `start` on.
pub(super) fn close(frame: &mut Vec<u8>, start: usize, named: &Header, key: &[u8; 16]) {
    let Some((head, body)) = frame.split_at_mut_checked(start) else {
        return;
    };
    let sealed =
        Seal::new(key.into()).encrypt_inout_detached(&nonce(named), head, InOutBuf::from(body));
    // CCM with a two-byte length refuses only bodies beyond 65,535 bytes; ours stay below 1,024.
    if let Ok(tag) = sealed {
        frame.extend_from_slice(&tag);
    }
}
