//! Join frames: a device asks for a session, the network grants it (LoRaWAN 1.0.4 §6.2).
//!
//! In: the bytes and the device's root key. Out: their fields and whether the MIC fits.
//! Never here: keeping nonces, making sessions.

use super::{MIC_BYTES, MessageType, message_type, short};
use crate::UplinkError;
use crate::bytes::Reader;
use lorawan::default_crypto::DefaultFactory;
use lorawan::keys::{AES128, AppKey, CryptoFactory, Mac};
use lorawan::parser::{AsPhyPayloadBytes, EncryptedJoinAcceptPayload};

/// A device asks for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinRequest<'a> {
    bytes: &'a [u8],
    /// The join server (application) EUI.
    pub join_eui: u64,
    /// The device EUI.
    pub dev_eui: u64,
    /// The nonce of this request.
    pub dev_nonce: u16,
}

/// The network grants a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinAccept {
    /// The nonce of this answer, 24 bits.
    pub join_nonce: u32,
    /// The network, 24 bits.
    pub net_id: u32,
    /// The address of the session.
    pub dev_addr: u32,
    /// The downlink settings byte.
    pub dl_settings: u8,
    /// The delay before the first receive window, in seconds (0 means 1).
    pub rx_delay_s: u8,
    /// The list of channels, empty or 16 bytes.
    pub channels: Vec<u8>,
    /// Whether the MIC fits the key it was opened with.
    pub mic_valid: bool,
}

/// The join request in `bytes`.
///
/// # Errors
/// When the bytes are another kind of frame or not 23.
pub fn join_request(bytes: &[u8]) -> Result<JoinRequest<'_>, UplinkError> {
    expect(bytes, MessageType::JoinRequest, &[23])?;
    let mut reader = Reader::new(bytes, 0);
    reader.u8("MHDR")?;
    Ok(JoinRequest {
        bytes,
        join_eui: u64::from_le_bytes(reader.array("JoinEUI")?),
        dev_eui: u64::from_le_bytes(reader.array("DevEUI")?),
        dev_nonce: u16::from_le_bytes(reader.array("DevNonce")?),
    })
}

impl JoinRequest<'_> {
    /// Whether the MIC fits the device's root key.
    #[must_use]
    pub fn mic_fits(&self, app_key: &[u8; 16]) -> bool {
        mic_fits(self.bytes, app_key)
    }
}

/// The join accept in `bytes`, opened with the device's root key.
///
/// # Errors
/// When the bytes are another kind of frame or neither 17 nor 33.
pub fn join_accept(bytes: &[u8], app_key: &[u8; 16]) -> Result<JoinAccept, UplinkError> {
    expect(bytes, MessageType::JoinAccept, &[17, 33])?;
    let closed = EncryptedJoinAcceptPayload::new_with_factory(bytes.to_vec(), DefaultFactory)
        .map_err(|_| UplinkError::NotRecognised)?;
    let open = closed.decrypt(&AppKey::from(*app_key));
    let clear = open.as_bytes();
    let mut reader = Reader::new(clear, 0);
    reader.u8("MHDR")?;
    let join_nonce = u24(reader.array("JoinNonce")?);
    let net_id = u24(reader.array("NetID")?);
    let dev_addr = u32::from_le_bytes(reader.array("DevAddr")?);
    let dl_settings = reader.u8("DLSettings")?;
    let rx_delay_s = reader.u8("RxDelay")? & 0x0F;
    let channels = reader.take(bytes.len().saturating_sub(17), "CFList")?.to_vec();
    let mic_valid = mic_fits(clear, app_key);
    Ok(JoinAccept { join_nonce, net_id, dev_addr, dl_settings, rx_delay_s, channels, mic_valid })
}

const fn u24([low, middle, high]: [u8; 3]) -> u32 {
    u32::from_le_bytes([low, middle, high, 0])
}

fn expect(bytes: &[u8], kind: MessageType, lengths: &[usize]) -> Result<(), UplinkError> {
    if message_type(bytes)? != kind {
        let value = u64::from(bytes.first().copied().unwrap_or_default());
        return Err(UplinkError::Unsupported { what: "message type of MHDR", value, offset: 0 });
    }
    let announced = lengths.iter().copied().find(|length| *length >= bytes.len());
    let announced = announced.or(lengths.last().copied()).unwrap_or_default();
    if announced != bytes.len() {
        let found = bytes.len();
        return Err(UplinkError::LengthMismatch {
            what: "join frame",
            offset: 0,
            announced,
            found,
        });
    }
    Ok(())
}

fn mic_fits(bytes: &[u8], key: &[u8; 16]) -> bool {
    let Some((message, mic)) = bytes.split_last_chunk::<MIC_BYTES>() else {
        return false;
    };
    join_mic(message, key) == *mic
}

/// The MIC of a join frame: over the frame without its MIC, under the root key.
pub(super) fn join_mic(message: &[u8], key: &[u8; 16]) -> [u8; MIC_BYTES] {
    let mut cmac = DefaultFactory.new_mac(&AES128(*key));
    cmac.input(message);
    short(cmac).0
}

#[cfg(test)]
mod tests {
    use super::super::encode_join_request;
    use super::*;
    use crate::bytes::from_hex;

    #[test]
    fn a_join_request_reads_back() {
        let bytes = encode_join_request(1, 2, 3, &[4; 16]);
        let request = join_request(&bytes).unwrap();
        assert_eq!((request.join_eui, request.dev_eui, request.dev_nonce), (1, 2, 3));
        assert!(request.mic_fits(&[4; 16]));
        assert!(!request.mic_fits(&[5; 16]));
        assert_eq!(join_request(bytes.get(..22).unwrap()).unwrap_err().code(), "length_mismatch");
    }

    #[test]
    fn a_join_accept_opens_with_the_root_key_only() {
        // From the tests of lora-rs (Apache-2.0 OR MIT).
        let bytes = from_hex("20493eeb51fba2116f810edb3742975142").unwrap();
        let key: [u8; 16] =
            from_hex("00112233445566778899aabbccddeeff").unwrap().try_into().unwrap();
        let accept = join_accept(&bytes, &key).unwrap();
        assert!(accept.mic_valid);
        assert_eq!(accept.dev_addr, 0x0203_1980);
        assert_eq!((accept.join_nonce, accept.net_id), (0x0057_0BC7, 0x0022_1101));
        assert!(!join_accept(&bytes, &[0; 16]).unwrap().mic_valid);
    }
}
