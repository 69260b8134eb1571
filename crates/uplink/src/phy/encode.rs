//! Building the frames a device sends, for simulators.
//!
//! In: a session, a counter, a payload. Out: the bytes on the air.
//! Never here: downlinks, MAC commands.

use super::join::join_mic;
use super::{MIC_BYTES, PHY_BYTES_MAX, data_frame, data_mic};

/// What a device sends.
#[derive(Debug, Clone, Copy)]
pub struct DataFrame<'a> {
    /// The address of the session.
    pub dev_addr: u32,
    /// The full frame counter.
    pub counter: u32,
    /// The port, 1 to 223 for applications.
    pub f_port: u8,
    /// The payload in clear.
    pub payload: &'a [u8],
    /// Whether the device wants an answer.
    pub confirmed: bool,
}

/// Why no frame could be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The payload does not fit a frame.
    #[error("a payload of {got} bytes does not fit a PHYPayload of {PHY_BYTES_MAX}")]
    PayloadTooLong {
        /// How long it is.
        got: usize,
    },
}

/// The frame on the air: encrypted and with its MIC.
///
/// # Errors
/// When the payload does not fit.
pub fn encode_data(
    frame: &DataFrame<'_>,
    nwk_s_key: &[u8; 16],
    app_s_key: &[u8; 16],
) -> Result<Vec<u8>, EncodeError> {
    let too_long = EncodeError::PayloadTooLong { got: frame.payload.len() };
    let [low, high, ..] = frame.counter.to_le_bytes();
    let mut clear = Vec::with_capacity(13 + frame.payload.len());
    clear.push(if frame.confirmed { 0x80 } else { 0x40 });
    clear.extend_from_slice(&frame.dev_addr.to_le_bytes());
    clear.extend_from_slice(&[0x80, low, high, frame.f_port]);
    clear.extend_from_slice(frame.payload);
    clear.extend_from_slice(&[0; MIC_BYTES]);
    // Encryption is its own inverse: opening the clear frame closes it.
    let cipher = data_frame(&clear).map_err(|_| too_long)?.decrypt(app_s_key, frame.counter);
    let mut bytes = clear;
    bytes.truncate(9);
    bytes.extend_from_slice(&cipher);
    let head = [0x49, 0, 0, 0, 0];
    let mic = data_mic(nwk_s_key, head, frame.dev_addr, frame.counter, &bytes);
    bytes.extend_from_slice(&mic.0);
    Ok(bytes)
}

/// A join request on the air (LoRaWAN 1.0.4 §6.2.3).
#[must_use]
pub fn encode_join_request(
    join_eui: u64,
    dev_eui: u64,
    dev_nonce: u16,
    app_key: &[u8; 16],
) -> Vec<u8> {
    let mut bytes = vec![0x00];
    bytes.extend_from_slice(&join_eui.to_le_bytes());
    bytes.extend_from_slice(&dev_eui.to_le_bytes());
    bytes.extend_from_slice(&dev_nonce.to_le_bytes());
    bytes.extend_from_slice(&join_mic(&bytes, app_key));
    bytes
}
